package dispatchtest

import (
	"bufio"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/certtest"
)

// A forward is a proxy between a pusher and its provider. It tunnels, and closes
// both connections after a number of bytes in one direction.
type forward struct {
	t       *testing.T
	address string
	// refuse, when set, is the answer that is written instead of making a tunnel.
	refuse string
	// up and down are the numbers of bytes from and to the client after which
	// the tunnel is cut. The bytes that make the tunnel count too. Negative:
	// never.
	up, down atomic.Int64
	tunnels  atomic.Int32
	users    sync.Map // values of Proxy-Authorization

	served, closed atomic.Int32 // connections to the proxy, and to the provider, that have ended
}

// settle waits until the proxy has served that many connections and the provider
// has finished each that came through. Nothing arrives afterwards.
func (f *forward) settle(connections int32) {
	f.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); f.served.Load() < connections || f.closed.Load() < f.tunnels.Load(); {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited in vain for %d connections to end", connections)
		}
		<-time.After(100 * time.Microsecond)
	}
}

// proxied starts a provider with TLS and a proxy before it, and makes the pusher
// and message.
func (s Subject) proxied(t *testing.T, answer func(Call) Answer) (*rig, *forward) {
	t.Helper()
	r := &rig{t: t, subject: s}
	server := httptest.NewUnstartedServer(r.handler(func(w http.ResponseWriter, c Call) { answer(c).write(w) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	f := newForward(t)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			f.closed.Add(1)
		}
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certtest.SelfSigned(t, "127.0.0.1")}}
	server.StartTLS()
	t.Cleanup(server.Close)
	settings := s.Settings
	r.subject.Settings = func(endpoint string) dispatch.Settings {
		set := settings(endpoint)
		set.Authorities = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
		set.Proxy = func(*url.URL) (*url.URL, error) {
			return &url.URL{Scheme: "http", Host: f.address, User: url.UserPassword("proxy-user", "pr0xy-pass")}, nil
		}
		return set
	}
	r.subject.Secrets = append([]string{"pr0xy-pass"}, s.Secrets...)
	r.connect(server.URL)
	return r, f
}

func newForward(t *testing.T) *forward {
	t.Helper()
	f := &forward{t: t}
	f.up.Store(-1)
	f.down.Store(-1)
	f.address = accept(t, func(conn net.Conn) {
		defer f.served.Add(1)
		f.serve(conn)
	})
	return f
}

// serve makes one tunnel and runs it to its end.
func (f *forward) serve(bare net.Conn) {
	client := &counted{Conn: bare, read: f.up.Load(), write: f.down.Load()}
	defer func() { _ = client.Close() }()
	r := bufio.NewReader(client)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	f.users.Store(req.Header.Get("Proxy-Authorization"), true)
	if req.Method != http.MethodConnect || req.Host != req.RequestURI {
		f.t.Errorf("the proxy was asked for %s %s of %s", req.Method, req.RequestURI, req.Host)
		return
	}
	if f.refuse != "" {
		_, _ = io.WriteString(client, f.refuse)
		return
	}
	server, err := net.Dial("tcp", req.Host) //nolint:noctx // it ends with the client's connection
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	f.tunnels.Add(1)
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(server, r); _ = server.Close(); _ = client.Close() })
	_, _ = io.Copy(client, server)
	_ = client.Close()
	_ = server.Close()
	both.Wait()
}

// A counted connection is cut after a number of bytes in either direction.
type counted struct {
	net.Conn
	read, write int64 // left; negative: any number
}

func (c *counted) Read(b []byte) (int, error) {
	if c.read == 0 {
		_ = c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	if c.read > 0 && int64(len(b)) > c.read {
		b = b[:c.read]
	}
	n, err := c.Conn.Read(b)
	if c.read > 0 {
		c.read -= int64(n)
	}
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	if c.write >= 0 && int64(len(b)) > c.write {
		n, _ := c.Conn.Write(b[:c.write])
		c.write = 0
		_ = c.Close()
		return n, io.ErrShortWrite
	}
	n, err := c.Conn.Write(b)
	if c.write >= 0 {
		c.write -= int64(n)
	}
	return n, err
}

// testProxy makes calls through a proxy, and through proxies that make no tunnel.
func (s Subject) testProxy(t *testing.T) {
	t.Parallel()
	t.Run("accepted", func(t *testing.T) {
		t.Parallel()
		r, f := s.proxied(t, s.Accepted)
		for range 3 {
			want(t, r.push(t.Context()), dispatch.Accepted)
		}
		if n := f.tunnels.Load(); n != 1 || r.received.Load() != 3 {
			t.Errorf("%d tunnels, %d calls, want 1 and 3", n, r.received.Load())
		}
		if _, ok := f.users.Load("Basic cHJveHktdXNlcjpwcjB4eS1wYXNz"); !ok {
			t.Error("the proxy was not told the user and password")
		}
	})
	for name, answer := range map[string]string{
		"wants a password": "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
		"forbids":          "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno.",
		"cannot":           "HTTP/1.1 502 Bad Gateway\r\n\r\n",
		"answers itself":   "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"redirects":        "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.invalid\r\n\r\n",
		"is none":          "SSH-2.0-OpenSSH_9.6\r\n",
		"pours":            "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, f := s.proxied(t, s.Accepted)
			f.refuse = answer
			want(t, r.push(t.Context()), dispatch.NotSent, dispatch.ReasonConnect)
			if n := r.received.Load(); n != 0 {
				t.Errorf("%d calls arrived", n)
			}
		})
	}
	t.Run("an endpoint in the clear", func(t *testing.T) {
		t.Parallel()
		set := s.Settings("http://push.example")
		set.Proxy = func(*url.URL) (*url.URL, error) { return &url.URL{Scheme: "http", Host: "proxy.example:3128"}, nil }
		if _, err := s.Adapter.New(set); err == nil || !strings.Contains(err.Error(), "https://") {
			t.Errorf("an endpoint in the clear behind a proxy: %v", err)
		}
	})
}

// testProxyCuts cuts the connection at every byte that makes the tunnel, and at
// many or all bytes after that, in both directions. A push that is classed as not
// sent has not arrived, an accepted one has arrived once, and no cut is taken for
// a refusal. Until the tunnel stands, nothing can have been sent.
func (s Subject) testProxyCuts(t *testing.T) {
	t.Parallel()
	const making = len("HTTP/1.1 200 Connection established\r\n\r\n")
	for _, up := range []bool{true, false} {
		name := "to the client"
		if up {
			name = "from the client"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, f := s.proxied(t, s.Accepted)
			idle := r.pusher.(interface{ CloseIdleConnections() })
			accepted, connections := false, int32(0)
			for n := 0; n < 1<<14 && !accepted; n += s.step(n) {
				bound := &f.down
				if up {
					bound = &f.up
				}
				bound.Store(int64(n))
				before := r.received.Load()
				o := r.push(t.Context())
				idle.CloseIdleConnections()
				connections++
				f.settle(connections)
				arrived := r.received.Load() - before
				switch {
				case o.Class == dispatch.Permanent, o.Class == dispatch.NotSent && arrived != 0, o.Class == dispatch.Accepted && arrived != 1, arrived > 1:
					t.Errorf("cut after %d bytes: arrived %d times, outcome %v %+v", n, arrived, o.Class, o)
				case !up && n < making && o.Class != dispatch.NotSent:
					t.Errorf("cut after %d bytes, before the tunnel stood: %v %+v", n, o.Class, o)
				}
				accepted = o.Class == dispatch.Accepted
			}
			if !accepted {
				t.Error("no call came through")
			}
		})
	}
}

// step returns one while the tunnel is made. Afterwards, where not every byte
// is tried, it returns a number by which all places in a TLS record are met in
// time.
func (s Subject) step(n int) int {
	if n < 200 || s.EveryByte {
		return 1
	}
	return 61
}
