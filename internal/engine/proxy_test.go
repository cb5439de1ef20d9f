package engine_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A proxy stands between an engine and its database and breaks the way between
// them as a test says.
type proxy struct {
	network, address string // of the database
	listen           string

	mu       sync.Mutex
	listener net.Listener
	swallow  bool
	crowded  bool
	conns    map[net.Conn]bool // true: what comes is swallowed, for good
	wg       sync.WaitGroup
}

// newProxy starts a proxy and returns the URL that leads through it.
func newProxy(t *testing.T, database string) (p *proxy, through string) {
	t.Helper()
	c, err := pgconn.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	p = &proxy{listen: "127.0.0.1:0", conns: make(map[net.Conn]bool)}
	p.network, p.address = pgconn.NetworkAddress(c.Host, c.Port)
	p.accept(t)
	t.Cleanup(func() {
		p.refuse()
		p.wg.Wait()
	})
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(c.User, c.Password), Host: p.listen, Path: "/" + c.Database,
		RawQuery: "sslmode=disable",
	}
	return p, u.String()
}

// accept lets new connections through, and ends a black hole for them; those
// that were in it stay dead.
func (p *proxy) accept(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow, p.crowded = false, false
	if p.listener != nil {
		return
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", p.listen)
	if err != nil {
		t.Fatal(err)
	}
	p.listener, p.listen = l, l.Addr().String()
	p.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(client) })
		}
	})
}

// cut closes every connection; new ones may come.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// refuse cuts, and refuses new connections.
func (p *proxy) refuse() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.mu.Unlock()
	p.cut()
}

// hole swallows whatever comes from either side: connections are accepted and
// nothing is ever answered.
func (p *proxy) hole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow = true
	for c := range p.conns {
		p.conns[c] = true
	}
}

// crowd cuts, and answers new connections as a server that has no room.
func (p *proxy) crowd() {
	p.mu.Lock()
	p.crowded = true
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.crowded
}

// noRoom is what a server says that has no room, once it was asked.
func noRoom(client net.Conn) {
	buf := make([]byte, 1024)
	if _, err := client.Read(buf); err != nil {
		return
	}
	refusal := pgproto3.ErrorResponse{Severity: "FATAL", Code: "53300", Message: "sorry, too many clients already"}
	if text, err := refusal.Encode(nil); err == nil {
		_, _ = client.Write(text)
	}
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	if p.full() {
		noRoom(client)
		return
	}
	server, err := net.Dial(p.network, p.address) //nolint:noctx // a test's own database
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns[client], p.conns[server] = p.swallow, p.swallow
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, client)
		delete(p.conns, server)
	}()
	var both sync.WaitGroup
	both.Go(func() { p.copy(client, server) })
	p.copy(server, client)
	both.Wait()
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		swallow := p.conns[from]
		p.mu.Unlock()
		if !swallow && n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			if swallow && err == io.EOF { //nolint:errorlint // Read returns it bare
				continue
			}
			return
		}
	}
}
