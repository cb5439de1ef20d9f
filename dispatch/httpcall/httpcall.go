// Package httpcall is the HTTP machinery that every adapter shares: one POST,
// never followed, never repeated, its answer bounded, and a failure classed by
// what is certain about it.
//
// After a failed call one question matters: may the request have left? The package
// counts the bytes that the connection took. When it took none, the request was
// certainly not sent. Otherwise everything but a whole answer leaves the outcome
// unknown.
//
// To count bytes, the package has connections of its own. Those of net/http may
// send a request a second time by themselves, and do not say what was written.
// Each of them also needs two goroutines, and costs more than the rest of a
// call.
//
// Calls speak HTTP/1.1 only, because there a connection carries one request at a
// time. A call uses a proxy only if it is told to, and only as a tunnel to an
// https endpoint: a proxy that can read a call could answer it. A call has no
// other timeout than its context's.
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

// NewClient returns a Client. All Clients share connections: apps of one provider
// call the same host, so that one app can use the connections that another has
// opened. A transport that is not nil makes the calls instead. It does not say
// what it wrote, so a call that fails on it is never classed as "not sent".
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
	Header []Field // all fields except Host, User-Agent, Accept-Encoding and Content-Length, sent in this order
	Body   []byte
}

// A Field is one line of a header. Name is sent as it is written.
type Field struct{ Name, Value string }

// An Answer is a whole answer of a provider.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte // decoded if it came compressed
	// TooLong says that the body was longer than MaxAnswer; Body is its beginning.
	TooLong bool
}

// Post makes one call and blocks until it was answered or ctx ended. Exactly one
// of the results is nil. After a failure that came after the answer's header,
// Failure.Head has the header.
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
