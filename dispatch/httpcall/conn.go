package httpcall

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A conn is a connection that makes one call at a time.
type conn struct {
	net.Conn // wire, or TLS over it
	wire     *wire
	raw      syscall.RawConn // of the connection below; nil: there is none
	r        *bufio.Reader
	out      []byte    // the buffer of requests, kept for its capacity
	idle     time.Time // since when it carries no call
}

// maxRoom bounds the buffer that an idle connection keeps, in bytes.
const maxRoom = 64 << 10

// call makes a call; again says whether the connection can make another.
func (c *conn) call(ctx context.Context, r *Request) (a *Answer, f *Failure, again bool) {
	undisturbed := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	a, f, again = c.exchange(ctx, r)
	return a, f, undisturbed() && again
}

func (c *conn) exchange(ctx context.Context, r *Request) (a *Answer, f *Failure, again bool) {
	c.out = appendRequest(c.out[:0], r)
	c.wire.wrote = 0
	// One write is one packet, if the request fits into one.
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
	// Bytes that are left would be read as the next call's answer.
	return a, nil, a.Status >= 200 && !res.Close && !a.TooLong && c.r.Buffered() == 0
}

// because returns the context's error where the context has ended, since the other
// error is only its consequence.
func because(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	return err
}

// maxInformational is how many 1xx answers may come before the final one.
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

const (
	connectTimeout = 10 * time.Second
	// idleTimeout is shorter than the 15 s after which the hastiest of the usual
	// load balancers close an idle connection. A connection closed by the other
	// side just as a request is written to it leaves an outcome unknown, and
	// costs an operator far more than a handshake costs us.
	idleTimeout = 10 * time.Second
	// maxIdle is how many idle connections to one host are kept for the burst
	// at the next second.
	maxIdle = 1024
)

// A pool keeps idle connections. It is safe for concurrent use and needs no
// goroutine.
type pool struct {
	dialer net.Dialer
	tls    *tls.Config
	proxy  *url.URL // nil: none

	mu       sync.Mutex
	idle     map[host][]*conn // the longest idle first
	sweeping bool             // sweep is due
}

// A host is the other end of connections.
type host struct {
	name, port string
	tls        bool
}

func newPool(control func(network, address string, c syscall.RawConn) error) *pool {
	return &pool{
		dialer: net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second, Control: control},
		// A burst after an idle time opens many connections to one host. Resumed
		// sessions spare both sides most of the handshake.
		tls:  &tls.Config{NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		idle: make(map[host][]*conn),
	}
}

// post makes a call on an idle connection or a new one.
func (p *pool) post(ctx context.Context, r *Request) (*Answer, *Failure) {
	h := hostOf(r.URL)
	c, err := p.get(ctx, h)
	if err != nil {
		return nil, notSent(because(ctx, err))
	}
	a, f, again := c.call(ctx, r)
	if again {
		p.put(h, c)
	} else {
		_ = c.Close()
	}
	return a, f
}

func hostOf(u *url.URL) host {
	h := host{name: u.Hostname(), port: u.Port(), tls: u.Scheme == "https"}
	switch {
	case h.port != "":
	case h.tls:
		h.port = "443"
	default:
		h.port = "80"
	}
	return h
}

func (p *pool) get(ctx context.Context, h host) (*conn, error) {
	for c := p.take(h); c != nil; c = p.take(h) {
		if time.Since(c.idle) < idleTimeout && c.alive() {
			return c, nil
		}
		_ = c.Close()
	}
	return p.open(ctx, h)
}

// take removes the connection that was used last, or returns nil.
func (p *pool) take(h host) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[h]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	list[len(list)-1] = nil
	p.idle[h] = list[:len(list)-1]
	return c
}

// put keeps a connection for the next call.
func (p *pool) put(h host, c *conn) {
	c.idle = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle[h]) >= maxIdle {
		_ = c.Close()
		return
	}
	p.idle[h] = append(p.idle[h], c)
	if !p.sweeping {
		p.sweeping = true
		time.AfterFunc(idleTimeout, p.sweep)
	}
}

// sweep closes connections that have been idle for too long. It runs again later
// while any connection is idle.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := idleTimeout
	for h, list := range p.idle {
		old := 0
		for old < len(list) && time.Since(list[old].idle) >= idleTimeout {
			_ = list[old].Close()
			old++
		}
		if list = slices.Delete(list, 0, old); len(list) == 0 {
			delete(p.idle, h)
			continue
		}
		p.idle[h] = list
		next = min(next, idleTimeout-time.Since(list[0].idle))
	}
	if p.sweeping = len(p.idle) > 0; p.sweeping {
		time.AfterFunc(next, p.sweep)
	}
}

func (p *pool) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range p.idle {
		for _, c := range list {
			_ = c.Close()
		}
	}
	clear(p.idle)
}

// open makes a new connection: through the proxy where there is one, with TLS
// where the endpoint is https. When it fails, no byte of a call has left.
func (p *pool) open(ctx context.Context, h host) (*conn, error) {
	to := h
	if p.proxy != nil {
		to = hostOf(p.proxy)
	}
	bare, err := p.dialer.DialContext(ctx, "tcp", net.JoinHostPort(to.name, to.port))
	if err != nil {
		return nil, err
	}
	// The counter is below TLS, so that it counts every byte that leaves.
	w := &wire{Conn: bare, budget: maxHandshake}
	c := &conn{Conn: w, wire: w}
	if tcp, ok := bare.(syscall.Conn); ok {
		c.raw, _ = tcp.SyscallConn()
	}
	if err := p.secure(ctx, c, h, to); err != nil {
		_ = bare.Close()
		return nil, err
	}
	c.r = bufio.NewReader(c.Conn)
	return c, nil
}

// secure makes the tunnel if there is a proxy, and does the TLS handshake with the
// host if the endpoint is https.
func (p *pool) secure(ctx context.Context, c *conn, h, to host) (err error) {
	if p.proxy != nil {
		if to.tls {
			if c.Conn, err = p.handshake(ctx, c.Conn, to.name); err != nil {
				return fmt.Errorf("TLS with the proxy: %w", err)
			}
		}
		if err = tunnel(ctx, c.Conn, p.proxy, h); err != nil {
			return err
		}
	}
	if h.tls {
		c.Conn, err = p.handshake(ctx, c.Conn, h.name)
	}
	return err
}

// maxHandshake bounds the bytes that are read during a handshake.
const maxHandshake = 1 << 20

func (p *pool) handshake(ctx context.Context, over net.Conn, name string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	config := p.tls.Clone()
	config.ServerName = name
	secured := tls.Client(over, config)
	return secured, secured.HandshakeContext(ctx)
}

// maxHead bounds an answer's header, in bytes.
const maxHead = 64 << 10

var errHeadTooLong = errors.New("the answer's header is too long")

// A wire is a connection below TLS that counts the bytes it took, and bounds
// the bytes that are read from it.
type wire struct {
	net.Conn
	wrote  int // bytes of the call under way that have left, or may have
	budget int // bytes that may still be read
}

// Write writes and counts.
func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.wrote += n
	return n, err
}

// Read reads within the budget.
func (w *wire) Read(b []byte) (int, error) {
	if w.budget <= 0 {
		return 0, errHeadTooLong
	}
	n, err := w.Conn.Read(b[:min(len(b), w.budget)])
	w.budget -= n
	return n, err
}
