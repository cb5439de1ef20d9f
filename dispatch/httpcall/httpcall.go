// Package httpcall is the HTTP machinery that every adapter shares: one POST,
// never followed, never repeated, its answer bounded, and a failure classed by
// what is certain about it.
//
// The one question that matters after a failed call is whether the request may
// have left. The package answers it by counting the bytes that the connection
// took: while it has taken none of the request, that was certainly not sent; from
// then on, everything but a whole answer leaves the outcome unknown. That is why
// connections are the package's own: net/http's may send a request a second time
// by itself, and do not say what was written. They also need two goroutines each
// and cost more than the rest of a call together.
//
// Calls speak HTTP/1.1 only, because only there is a request on a connection of
// its own. They go through a proxy only as a tunnel to an https endpoint, and only
// where they are told to: a proxy that sees a call could answer it. A call has no
// timeout but its context's.
package httpcall

import (
	"context"
	"net/http"
	"net/url"
)

// MaxAnswer is how much of an answer's body is read, in bytes.
const MaxAnswer = 1 << 20

// A Client makes calls. It is safe for concurrent use.
type Client struct {
	pool    *pool
	foreign http.RoundTripper // instead of pool
}

// NewClient returns a Client on the connections that all share: apps of one
// provider call the same host, and a burst of one finds the connections that
// another has opened. A transport that is not nil makes the calls instead; what
// it did of a call that failed is not known, so such a call is never taken for
// "not sent".
func NewClient(transport http.RoundTripper) *Client {
	if transport != nil {
		return &Client{foreign: transport}
	}
	return &Client{pool: poolOf(nil, "", nil)}
}

// CloseIdleConnections closes the connections that carry no call.
func (c *Client) CloseIdleConnections() {
	if c.pool != nil {
		c.pool.closeIdle()
	}
}

// A Request is one POST.
type Request struct {
	URL    *url.URL
	Header []Field // all but Host, User-Agent, Accept-Encoding and Content-Length, sent in this order
	Body   []byte
}

// A Field is one line of a header. Name is sent as it is written.
type Field struct{ Name, Value string }

// An Answer is what a provider answered, whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte // decoded where it came compressed
	// TooLong says that the body was longer than MaxAnswer; Body is its beginning.
	TooLong bool
}

// Post makes one call and blocks until it was answered or ctx ended. Exactly one
// of the results is nil. A failure after the answer's header leaves
// that in Failure.Head.
func (c *Client) Post(ctx context.Context, r *Request) (*Answer, *Failure) {
	if err := ctx.Err(); err != nil {
		return nil, notSent(err)
	}
	if c.foreign != nil {
		return roundTrip(ctx, c.foreign, r)
	}
	if err := checkHeader(r.Header); err != nil {
		return nil, invalid(err)
	}
	return c.pool.post(ctx, r)
}
