// Package badnet lets a test break the network between two programs.
package badnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Proxy passes the connections of a daemon on to another program, and can
// behave like a bad network. It is safe for concurrent use.
type Proxy struct {
	upstream func() string
	addr     string
	latency  atomic.Int64 // of each chunk, in nanoseconds

	mu      sync.Mutex
	ln      net.Listener      // nil: connections are refused
	conns   map[net.Conn]bool // true: bytes on it are lost
	losing  bool              // bytes on new connections are lost too
	answer  func(net.Conn)    // instead of the upstream; nil: it answers itself
	open    chan struct{}     // a channel that is closed while bytes may pass
	passing bool
	closed  chan struct{}
	serving sync.WaitGroup
}

// NewProxy listens on a free port of 127.0.0.1 and passes connections on to
// the address that upstream returns at the time: host:port, or the path of a
// Unix socket.
func NewProxy(upstream func() string) (*Proxy, error) {
	p := &Proxy{upstream: upstream, addr: "127.0.0.1:0", conns: make(map[net.Conn]bool), open: make(chan struct{}), closed: make(chan struct{})}
	close(p.open)
	p.passing = true
	return p, p.listen()
}

// Addr returns the address on which the proxy listens.
func (p *Proxy) Addr() string { return p.addr }

func (p *Proxy) listen() error {
	var ln net.Listener
	var err error
	for range 50 { // the port may have gone to an outgoing connection for a moment
		if ln, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", p.addr); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	p.mu.Lock()
	p.ln, p.addr = ln, ln.Addr().String()
	p.mu.Unlock()
	p.serving.Go(func() { p.accept(ln) })
	return nil
}

func (p *Proxy) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		p.serving.Go(func() { p.serve(conn) })
	}
}

// serve joins one client to the upstream. While there is a black hole, a client
// is accepted and gets no answer, as from a host behind a dead link.
func (p *Proxy) serve(client net.Conn) {
	if !p.track(client) {
		return
	}
	defer p.drop(client)
	if !p.pass(client) {
		return
	}
	if answer := p.answering(); answer != nil {
		answer(client)
		return
	}
	server, err := dial(p.upstream())
	if err != nil {
		reset(client)
		return
	}
	if !p.track(server) {
		return
	}
	defer p.drop(server)
	done := make(chan struct{})
	p.serving.Go(func() {
		defer close(done)
		p.copy(server, client)
	})
	p.copy(client, server)
	<-done
}

func dial(address string) (net.Conn, error) {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(context.Background(), network, address)
}

// copy passes bytes from one side to the other. Bytes that a black hole held
// back arrive when it ends, even if their sender has given up. So a statement
// arrives whose client is gone.
func (p *Proxy) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !p.pass(from) {
				return
			}
			if _, werr := to.Write(buf[:n]); werr != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			if p.pass(from) {
				_ = to.(interface{ CloseWrite() error }).CloseWrite() // TCP and Unix connections have it
			}
			return
		}
	}
}

// pass waits for the latency and until bytes from a connection may pass; false:
// the proxy is closed.
func (p *Proxy) pass(from net.Conn) bool {
	if d := time.Duration(p.latency.Load()); d > 0 {
		select {
		case <-time.After(d):
		case <-p.closed:
			return false
		}
	}
	p.mu.Lock()
	open := p.open
	if p.conns[from] {
		open = nil
	}
	p.mu.Unlock()
	select {
	case <-open:
		return true
	case <-p.closed:
		return false
	}
}

func (p *Proxy) track(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		_ = conn.Close()
		return false
	default:
	}
	p.conns[conn] = p.losing
	return true
}

func (p *Proxy) drop(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

// Cut resets every connection; new ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		reset(conn)
	}
}

// Refuse resets every connection and refuses new ones.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	if p.ln != nil {
		_ = p.ln.Close()
		p.ln = nil
	}
	p.mu.Unlock()
	p.Cut()
}

// BlackHole holds every byte back until Heal.
func (p *Proxy) BlackHole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.passing {
		p.passing, p.open = false, make(chan struct{})
	}
}

// Swallow loses every byte. Heal ends it for new connections; connections that
// lost bytes stay dead.
func (p *Proxy) Swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.losing = true
	for conn := range p.conns {
		p.conns[conn] = true
	}
}

// Answer resets every connection and lets f answer new ones instead of the
// upstream.
func (p *Proxy) Answer(f func(net.Conn)) {
	p.mu.Lock()
	p.answer = f
	p.mu.Unlock()
	p.Cut()
}

func (p *Proxy) answering() func(net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answer
}

// Delay holds every chunk back for d.
func (p *Proxy) Delay(d time.Duration) { p.latency.Store(int64(d)) }

// Heal ends every fault.
func (p *Proxy) Heal() error {
	p.latency.Store(0)
	p.mu.Lock()
	p.losing, p.answer = false, nil
	refusing := p.ln == nil
	if !p.passing {
		p.passing = true
		close(p.open)
	}
	p.mu.Unlock()
	if refusing {
		return p.listen()
	}
	return nil
}

// Close ends the proxy and all its connections.
func (p *Proxy) Close() error {
	p.Refuse()
	p.mu.Lock()
	close(p.closed)
	p.mu.Unlock()
	p.Cut()
	p.serving.Wait()
	return nil
}

// reset closes a connection so that its peer reads an error and not an end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return
	}
}
