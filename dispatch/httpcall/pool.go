package httpcall

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
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

func hostOf(r *Request) host {
	h := host{name: r.URL.Hostname(), port: r.URL.Port(), tls: r.URL.Scheme == "https"}
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

// open makes a new connection, with TLS where it is asked for.
func (p *pool) open(ctx context.Context, h host) (*conn, error) {
	bare, err := p.dialer.DialContext(ctx, "tcp", net.JoinHostPort(h.name, h.port))
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: bare, budget: maxHandshake}
	c := &conn{Conn: w, wire: w}
	if tcp, ok := bare.(syscall.Conn); ok {
		c.raw, _ = tcp.SyscallConn()
	}
	if h.tls {
		if c.Conn, err = p.handshake(ctx, w, h.name); err != nil {
			_ = bare.Close()
			return nil, err
		}
	}
	c.r = bufio.NewReader(c.Conn)
	return c, nil
}

// maxHandshake bounds what is read of a handshake, in bytes.
const maxHandshake = 1 << 20

func (p *pool) handshake(ctx context.Context, w *wire, name string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	config := p.tls.Clone()
	config.ServerName = name
	secured := tls.Client(w, config)
	return secured, secured.HandshakeContext(ctx)
}
