package httpcall

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// readAnswer reads the rest of an answer whose header was read. With an error
// the answer is not whole.
func readAnswer(res *http.Response) (*Answer, error) {
	a := &Answer{Status: res.StatusCode, Header: res.Header}
	if res.StatusCode < 200 {
		// After "101 Switching Protocols" the body is the bare connection, and
		// reading it would not end with the call.
		return a, nil
	}
	b, err := readBody(res)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxAnswer {
		b, a.TooLong = b[:MaxAnswer], true
	}
	a.Body = b
	a.decode()
	return a, nil
}

// readBody reads up to one byte more than MaxAnswer, so that the caller can
// tell a body of exactly MaxAnswer bytes from a longer one.
func readBody(res *http.Response) ([]byte, error) {
	limited := io.LimitReader(res.Body, MaxAnswer+1)
	if n := res.ContentLength; n >= 0 && n <= 64<<10 {
		b := make([]byte, n)
		_, err := io.ReadFull(limited, b)
		return b, err
	}
	return io.ReadAll(limited)
}

// byteOrderMark is U+FEFF in UTF-8. Some programs put it before their JSON.
var byteOrderMark = []byte("\xef\xbb\xbf")

// Text returns the body without a byte order mark and without spaces around it,
// as a JSON reader wants it. Body itself stays as it came, since a signature may
// cover it.
func (a *Answer) Text() []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(a.Body, byteOrderMark))
}

// decode undoes the content encodings that an answer names although the request
// asked for none. A body that cannot be decoded stays as it came. An adapter
// that has to read such a body finds that it cannot.
func (a *Answer) decode() {
	if a.TooLong || len(a.Body) == 0 {
		return
	}
	encodings := strings.Split(strings.Join(a.Header.Values("Content-Encoding"), ","), ",")
	body, tooLong := a.Body, false
	for _, encoding := range slices.Backward(encodings) { // the last one was applied last
		var r io.Reader
		var err error
		switch strings.ToLower(strings.TrimSpace(encoding)) {
		case "", "identity":
			continue
		case "gzip", "x-gzip":
			r, err = gzip.NewReader(bytes.NewReader(body))
		case "deflate":
			r, err = zlib.NewReader(bytes.NewReader(body))
		default:
			return
		}
		if err != nil {
			return
		}
		// The bound is the same as for a plain body: a small compressed body may
		// decode to gigabytes.
		if body, err = io.ReadAll(io.LimitReader(r, MaxAnswer+1)); err != nil {
			return
		}
		if tooLong = len(body) > MaxAnswer; tooLong {
			body = body[:MaxAnswer]
			break
		}
	}
	a.Body, a.TooLong = body, tooLong
}

// A Word is a member of an answer whose type differs between providers. It is
// the text of a string, the literal of a number (digit by digit, also beyond
// 2^53) or boolean, the JSON text of a list or object, and empty for null.
type Word string

// UnmarshalJSON never fails, so that one odd member does not hide the others.
func (w *Word) UnmarshalJSON(b []byte) error {
	var s string
	switch {
	case string(b) == "null":
	case json.Unmarshal(b, &s) != nil:
		s = string(b)
	}
	*w = Word(s)
	return nil
}

// userAgent is the User-Agent of every call.
const userAgent = "campaign-scheduler"

// appendRequest appends the request as it is sent.
func appendRequest(b []byte, r *Request) []byte {
	b = append(append(b, "POST "...), r.URL.RequestURI()...)
	b = appendField(append(b, " HTTP/1.1\r\n"...), "Host", r.URL.Host)
	for _, f := range r.Header {
		b = appendField(b, f.Name, f.Value)
	}
	b = appendField(b, "User-Agent", userAgent)
	b = appendField(b, "Accept-Encoding", "identity")
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.Body)), 10)
	return append(append(b, "\r\n\r\n"...), r.Body...)
}

func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, value...), "\r\n"...)
}

// checkHeader refuses values that cannot be sent as one line: a value with a
// line break would begin another header. It does not check names, since these
// are the adapters' own.
func checkHeader(header []Field) error {
	for _, f := range header {
		for _, c := range []byte{'\n', '\r', 0} {
			if strings.IndexByte(f.Value, c) >= 0 {
				return fmt.Errorf("the header %s holds a line break or a NUL", f.Name)
			}
		}
	}
	return nil
}

// ByStatus classes an answer by its status alone where the status is enough,
// whatever the body says: 429 was not taken; 5xx, 3xx and a status that no
// answer can have are unknown. It reports false for 2xx and every other 4xx,
// which the provider's body decides.
func (a *Answer) ByStatus() (dispatch.Outcome, bool) {
	o := dispatch.Outcome{Code: strconv.Itoa(a.Status), Message: a.Describe()}
	switch {
	case a.Status == http.StatusTooManyRequests:
		o.Class, o.Reason = dispatch.NotSent, dispatch.ReasonThrottled
		o.RetryAfter = a.RetryAfter()
	case a.Status >= 500 && a.Status <= 599:
		o.Class, o.Reason = dispatch.Unknown, dispatch.ReasonServerError
	case a.Status >= 300 && a.Status <= 399:
		o.Class, o.Reason = dispatch.Unknown, dispatch.ReasonRedirect
	case a.Status < 200 || a.Status > 599:
		o.Class, o.Reason = dispatch.Unknown, dispatch.ReasonBadAnswer
	default:
		return dispatch.Outcome{}, false
	}
	return o, true
}

// BadAnswer returns the outcome of an answer that cannot be read.
func (a *Answer) BadAnswer() dispatch.Outcome {
	return dispatch.Outcome{
		Class: dispatch.Unknown, Reason: dispatch.ReasonBadAnswer,
		Code: strconv.Itoa(a.Status), Message: a.Describe(),
	}
}

// Describe describes the answer without quoting it, since a body that is not
// the provider's own may hold anything.
func (a *Answer) Describe() string {
	size := strconv.Itoa(len(a.Body)) + " bytes"
	switch {
	case a.TooLong:
		size = "more than " + size
	case len(a.Body) == 0:
		size = "no body"
	}
	if kind, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";"); kind != "" && len(kind) < 40 {
		size += " of " + kind
	}
	return "HTTP " + strconv.Itoa(a.Status) + ", " + size
}

// RetryAfter returns the Retry-After header in its form with seconds, at most a
// day; zero when there is none. It does not read the form with a date, because
// the clocks may differ.
func (a *Answer) RetryAfter() time.Duration {
	n, err := strconv.Atoi(strings.TrimSpace(a.Header.Get("Retry-After")))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, 86400)) * time.Second
}

// roundTrip makes a call through a transport that the caller gave. GetBody is
// nil, so that net/http's own transport does not repeat the call.
func roundTrip(ctx context.Context, transport http.RoundTripper, r *Request) (*Answer, *Failure) {
	header := make(http.Header, len(r.Header))
	for _, f := range r.Header {
		header.Add(f.Name, f.Value)
	}
	header.Set("Accept-Encoding", "identity")
	req := &http.Request{
		Method:        http.MethodPost,
		URL:           r.URL,
		Host:          r.URL.Host,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(r.Body)),
		ContentLength: int64(len(r.Body)),
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
	}
	res, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, unknown(err)
	}
	defer func() { _ = res.Body.Close() }()
	a, err := readAnswer(res)
	if err != nil {
		return nil, cutShort(err, res)
	}
	return a, nil
}
