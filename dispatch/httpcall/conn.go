package httpcall

import (
	"bufio"
	"context"
	"math"
	"net"
	"net/http"
	"syscall"
	"time"
)

// A conn is a connection that makes one call at a time.
type conn struct {
	net.Conn // wire, or TLS over it
	wire     *wire
	raw      syscall.RawConn // of the connection below; nil: there is none
	r        *bufio.Reader
	out      []byte    // the request, kept for its room
	idle     time.Time // since when it carries no call
}

// maxRoom bounds what an idle connection keeps for its next request, in bytes.
const maxRoom = 64 << 10

// call makes a call and says whether the connection can make another.
func (c *conn) call(ctx context.Context, r *Request) (a *Answer, f *Failure, again bool) {
	undisturbed := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	a, f, again = c.exchange(ctx, r)
	return a, f, undisturbed() && again
}

func (c *conn) exchange(ctx context.Context, r *Request) (a *Answer, f *Failure, again bool) {
	c.out = appendRequest(c.out[:0], r)
	c.wire.wrote = 0
	// One write is one packet, where it fits.
	if _, err := c.Write(c.out); err != nil {
		if c.wire.wrote == 0 {
			return nil, notSent(because(ctx, err)), false
		}
		return nil, unknown(because(ctx, err)), false
	}
	if cap(c.out) > maxRoom {
		c.out = nil
	}
	res, err := c.answer() //nolint:bodyclose // the connection is closed, or the body read to its end
	if err != nil {
		return nil, unreadable(because(ctx, err)), false
	}
	a, err = readAnswer(res)
	if err != nil {
		return nil, cutShort(because(ctx, err), res), false
	}
	// What comes unasked for would be taken for the next call's answer.
	return a, nil, a.Status >= 200 && !res.Close && !a.TooLong && c.r.Buffered() == 0
}

// because prefers the context's end to what came of it.
func because(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	return err
}

// maxInformational is how many answers may come before the final one.
const maxInformational = 5

// post tells net/http how to read an answer.
var post = &http.Request{Method: http.MethodPost}

// answer reads the final answer's header.
func (c *conn) answer() (res *http.Response, err error) {
	for range maxInformational + 1 {
		c.wire.budget = maxHead
		res, err = http.ReadResponse(c.r, post)
		if err != nil || res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	c.wire.budget = math.MaxInt // readBody has a bound of its own
	return res, err
}
