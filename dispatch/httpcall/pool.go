package httpcall

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	connectTimeout = 10 * time.Second
	// idleTimeout is shorter than the 15 s after which the hastiest of the usual
	// load balancers close an idle connection. A connection closed by the other
	// side just as a request is written to it leaves an outcome unknown, and
	// costs an operator far more than a handshake costs us.
	idleTimeout = 10 * time.Second
	// maxIdle is how many idle connections to one host are kept for a burst on
	// the next second.
	maxIdle = 1024
)

// shared is the pool of every Client that has none of its own.
var shared = sync.OnceValue(func() *pool { return newPool(nil) })

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

// A host is where connections lead to.
type host struct {
	name, port string
	tls        bool
}

func newPool(control func(network, address string, c syscall.RawConn) error) *pool {
	return &pool{
		dialer: net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second, Control: control},
		// A burst after an idle time opens many connections to one host: resumed
		// sessions spare both sides most of the handshake.
		tls:  &tls.Config{NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		idle: make(map[host][]*conn),
	}
}

// post makes a call on an idle connection or a new one.
func (p *pool) post(ctx context.Context, r *Request) (*Answer, *Failure) {
	h := hostOf(r)
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

func hostOf(r *Request) host { return hostOfURL(r.URL) }

func hostOfURL(u *url.URL) host {
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

// sweep closes what has been idle for too long, and comes again while anything
// is idle.
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

// open makes a new connection, through the proxy where there is one, and with TLS
// where it is asked for. Whatever it fails with, nothing of a call has left.
func (p *pool) open(ctx context.Context, h host) (*conn, error) {
	to := h
	if p.proxy != nil {
		to = hostOfURL(p.proxy)
	}
	bare, err := p.dialer.DialContext(ctx, "tcp", net.JoinHostPort(to.name, to.port))
	if err != nil {
		return nil, err
	}
	// At the bottom, so that it counts whatever leaves.
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

// secure makes a bare connection one to the host, as it was asked for.
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

// maxHandshake bounds what is read of a handshake, in bytes.
const maxHandshake = 1 << 20

func (p *pool) handshake(ctx context.Context, over net.Conn, name string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	config := p.tls.Clone()
	config.ServerName = name
	secured := tls.Client(over, config)
	return secured, secured.HandshakeContext(ctx)
}
