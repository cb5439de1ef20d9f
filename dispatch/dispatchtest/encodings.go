package dispatchtest

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// testEncodings has the provider's good answer come compressed, though no call
// asks for that. What was taken is accepted all the same.
func (s Subject) testEncodings(t *testing.T) {
	t.Parallel()
	encoders := map[string]func(io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"x-gzip":  func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
	}
	for name, encoder := range encoders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := s.answer(t, func(c Call) Answer {
				if got := c.Header.Get("Accept-Encoding"); got != "identity" {
					t.Errorf("the call asks for the encoding %q, want identity", got)
				}
				a := s.Accepted(c)
				if len(a.Body) == 0 {
					return a
				}
				var b bytes.Buffer
				w := encoder(&b)
				_, _ = w.Write(a.Body)
				_ = w.Close()
				if a.Header = a.Header.Clone(); a.Header == nil {
					a.Header = http.Header{}
				}
				a.Header.Set("Content-Encoding", name)
				a.Body = b.Bytes()
				return a
			})
			want(t, r.push(t.Context()), dispatch.Accepted)
		})
	}
	t.Run("what is not gzip", func(t *testing.T) {
		t.Parallel()
		r := s.answer(t, func(Call) Answer {
			return Answer{Status: 400, Header: http.Header{"Content-Encoding": {"gzip"}}, Body: []byte("<html>")}
		})
		want(t, r.push(t.Context()), s.Bare(400))
	})
}
