// Package httpcall is the HTTP machinery that every adapter shares: one POST,
// never followed, never repeated, its answer bounded, and a failure classed by
// what is certain about it.
//
// The one question that matters after a failed call is whether the request may
// have left. The package answers it from net/http's own trace: while nothing of
// the request has been written to a connection, it was certainly not sent; from
// then on, everything but a whole answer leaves the outcome unknown.
//
// net/http may send a request a second time by itself, on a fresh connection,
// when it takes a request for repeatable (an Idempotency-Key header is enough)
// and can rewind the body. Calls made here carry a body that cannot be rewound,
// so that every Post is at most one request on the wire.
package httpcall

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
)

// MaxAnswer is how much of an answer's body is read, in bytes.
const MaxAnswer = 1 << 20

// A Client makes calls. It is safe for concurrent use.
type Client struct {
	transport http.RoundTripper
	// traces says that transport is net/http's own, whose trace can be relied on
	// even when it reports nothing at all.
	traces bool
}

// NewClient returns a Client on transport, or on the one that all share when it
// is nil: apps of one provider call the same host, and a burst of one finds the
// connections that another has opened.
// A transport that does not report to httptrace is allowed: its failures are
// then never taken for "not sent".
func NewClient(transport http.RoundTripper) *Client {
	if transport == nil {
		transport = shared()
	}
	_, traces := transport.(*http.Transport)
	return &Client{transport: transport, traces: traces}
}

// CloseIdleConnections closes the connections that carry no call.
func (c *Client) CloseIdleConnections() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// A Request is one POST.
type Request struct {
	URL *url.URL
	// Header is owned by the call from here on. Keys are in canonical form.
	Header http.Header
	// Body may be read even after Post has returned, since an answer can overtake
	// the request: it is not to be changed or used again.
	Body []byte
}

// An Answer is what a provider answered, whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	// TooLong says that the body was longer than MaxAnswer; Body is its beginning.
	TooLong bool
}

// Post makes one call and blocks until it was answered or ctx ended. Exactly one
// of the results is nil. A failure after the answer's first line leaves the
// status in Failure.Status.
func (c *Client) Post(ctx context.Context, r *Request) (*Answer, *Failure) {
	if err := ctx.Err(); err != nil {
		return nil, notSent(err)
	}
	trace := &trace{}
	res, err := c.transport.RoundTrip(newRequest(trace.attach(ctx), r)) //nolint:bodyclose // readAnswer closes it
	if err != nil {
		return nil, c.classify(trace, err)
	}
	return readAnswer(res)
}

// newRequest leaves GetBody nil, which is what keeps net/http from repeating it.
// The body is of a kind that net/http knows to be in memory: for any other it
// would write the header to the connection first, in a packet of its own.
func newRequest(ctx context.Context, r *Request) *http.Request {
	req := &http.Request{
		Method:        http.MethodPost,
		URL:           r.URL,
		Host:          r.URL.Host,
		Header:        r.Header,
		Body:          io.NopCloser(bytes.NewReader(r.Body)),
		ContentLength: int64(len(r.Body)),
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
	}
	return req.WithContext(ctx)
}

func readAnswer(res *http.Response) (*Answer, *Failure) {
	defer func() { _ = res.Body.Close() }()
	a := &Answer{Status: res.StatusCode, Header: res.Header}
	if res.StatusCode < 200 {
		// After "101 Switching Protocols" the body is the bare connection, and
		// reading it would outlast ctx.
		return a, nil
	}
	b, err := readBody(res)
	if err != nil {
		return nil, cutAnswer(err, res.StatusCode)
	}
	if len(b) > MaxAnswer {
		b, a.TooLong = b[:MaxAnswer], true
	}
	a.Body = b
	return a, nil
}

// readBody reads one byte more than MaxAnswer, so that the caller can tell a
// body of just that length from a longer one.
func readBody(res *http.Response) ([]byte, error) {
	limited := io.LimitReader(res.Body, MaxAnswer+1)
	if n := res.ContentLength; n >= 0 && n <= 64<<10 {
		b := make([]byte, n)
		_, err := io.ReadFull(limited, b)
		return b, err
	}
	return io.ReadAll(limited)
}
