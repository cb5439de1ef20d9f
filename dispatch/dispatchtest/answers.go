package dispatchtest

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

const html = "<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>"

// statuses are samples of every range, with all statuses that have a special
// meaning for HTTP clients. Those below 200 are sent as raw bytes.
var statuses = []int{
	100, 101, 102, 103, 150, 199,
	200, 201, 202, 203, 204, 205, 206, 207, 226, 299,
	300, 301, 302, 303, 304, 305, 307, 308, 399,
	400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418,
	421, 422, 423, 424, 425, 426, 428, 429, 430, 431, 444, 451, 460, 499,
	500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511, 520, 529, 599,
}

func (s Subject) testClasses(t *testing.T) {
	t.Parallel()
	cases := append([]Case{
		{"accepted", s.Accepted, dispatch.Outcome{Class: dispatch.Accepted}},
	}, s.Cases...)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			r := s.answer(t, c.Answer)
			c.check(t, r.push(t.Context()))
			if n := r.received.Load(); n != 1 {
				t.Errorf("%d calls were made, want 1", n)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		o := s.answer(t, func(c Call) Answer { return s.Refused(c, "no such thing") }).push(t.Context())
		want(t, o, dispatch.Permanent)
		if !strings.Contains(o.Message, "no such thing") {
			t.Errorf("the provider's words are lost: %+v", o)
		}
	})
	t.Run("throttled", func(t *testing.T) {
		t.Parallel()
		o := s.answer(t, func(c Call) Answer { return s.Throttled(c, "slowly") }).push(t.Context())
		want(t, o, dispatch.NotSent, dispatch.ReasonThrottled)
	})
}

func (c Case) check(t *testing.T, got dispatch.Outcome) {
	t.Helper()
	w := c.Want
	if got.Class != w.Class || got.Reason != w.Reason ||
		w.Code != "" && got.Code != w.Code || w.Message != "" && got.Message != w.Message ||
		w.RequestID != "" && got.RequestID != w.RequestID || w.MessageID != "" && got.MessageID != w.MessageID ||
		w.RetryAfter != 0 && got.RetryAfter != w.RetryAfter {
		t.Errorf("got %v %+v, want %v %+v", got.Class, got, w.Class, w)
	}
}

// testStatuses sends each status with bodies that are not the provider's.
func (s Subject) testStatuses(t *testing.T) {
	t.Parallel()
	bodies := map[string]Answer{
		"empty": {},
		"html":  {Header: http.Header{"Content-Type": {"text/html"}}, Body: []byte(html)},
		"json":  {Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"unrelated":[1,null]}`)},
		"array": {Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`[]`)},
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var status atomic.Int32
			r := s.serve(t, func(w http.ResponseWriter, _ Call) {
				a := body
				a.Status = int(status.Load())
				if a.Status < 200 {
					hijack(t, w, fmt.Sprintf("HTTP/1.1 %d Odd\r\n\r\n", a.Status))
					return
				}
				a.write(w)
			})
			for _, code := range statuses {
				status.Store(int32(code)) //nolint:gosec // a status fits
				o := r.push(t.Context())
				if class := s.Bare(code); o.Class != class {
					t.Errorf("%d: got %v %+v, want %v", code, o.Class, o, class)
				}
			}
		})
	}
}

// hijack writes raw bytes as the whole answer and closes the connection.
func hijack(t *testing.T, w http.ResponseWriter, raw string) {
	t.Helper()
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Errorf("hijack: %v", err)
		return
	}
	_, _ = conn.Write([]byte(raw))
	_ = conn.Close()
}

func (s Subject) testRedirects(t *testing.T) {
	t.Parallel()
	var followed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for _, code := range []int{301, 302, 303, 307, 308} {
		r := s.answer(t, func(Call) Answer {
			return Answer{Status: code, Header: http.Header{"Location": {elsewhere.URL}}}
		})
		want(t, r.push(t.Context()), dispatch.Unknown, dispatch.ReasonRedirect)
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// testHugeBody checks that an endless answer is not read to the end.
func (s Subject) testHugeBody(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 400, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			left := make(chan bool, 1)
			r := s.serve(t, func(w http.ResponseWriter, _ Call) {
				w.WriteHeader(status)
				left <- pour(w, 256<<20)
			})
			if o := r.push(t.Context()); o.Class != s.Bare(status) {
				t.Errorf("got %v %+v, want %v", o.Class, o, s.Bare(status))
			}
			if !<-left {
				t.Error("the whole of a huge answer was read")
			}
		})
	}
}

// pour writes size bytes and reports whether the reader closed before the end.
func pour(w http.ResponseWriter, size int) bool {
	chunk := bytes.Repeat([]byte(" "), 64<<10)
	for range size / len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return true
		}
	}
	return false
}

// testTexts has the provider answer with texts that must not reach a log or a database.
func (s Subject) testTexts(t *testing.T) {
	t.Parallel()
	secrets := strings.Join(s.secrets(), " ")
	texts := map[string]string{
		"secret":  "before " + secrets + " after",
		"long":    strings.Repeat("é", 4*dispatch.MaxMessage),
		"control": "a\x00b\nc\rd\x1b[31m\u2028",
		"empty":   "",
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want(t, s.answer(t, func(c Call) Answer { return s.Refused(c, text) }).push(t.Context()), dispatch.Permanent)
			want(t, s.answer(t, func(c Call) Answer { return s.Throttled(c, text) }).push(t.Context()), dispatch.NotSent)
		})
	}
	t.Run("echo", func(t *testing.T) {
		t.Parallel()
		for _, status := range []int{200, 302, 400, 403, 429, 500} {
			s.answer(t, func(c Call) Answer { return echo(c, status, secrets) }).push(t.Context())
		}
		s.serve(t, func(w http.ResponseWriter, _ Call) {
			hijack(t, w, "HTTP/1.1 "+secrets+"\r\n\r\n")
		}).push(t.Context())
	})
}

// echo answers with the call itself and with the secrets, in body and header.
func echo(c Call, status int, secrets string) Answer {
	line := strings.Join(strings.Fields(secrets), " ")
	return Answer{
		Status: status,
		Header: http.Header{
			"Content-Type": {"text/html; " + line}, "Location": {"/" + line}, "X-Acs-Request-Id": {line},
			"X-Request-Id": {line}, "Alipay-Trace-Id": {line},
		},
		Body: fmt.Appendf(nil, "<html>%s %v %s</html>", secrets, c.Header, c.Body),
	}
}

// testEncodings has the provider's good answer come compressed, though no call
// asks for that. A push that was taken is still classed as accepted.
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
