// Package listen makes HTTP listeners that strangers cannot exhaust. The
// connections, requests and bytes of all clients are bounded, by number and by
// time, whatever is served.
package listen

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// The bounds that zero values of a Config mean.
const (
	defaultMaxConns     = 128
	defaultMaxBody      = 64 << 10
	defaultMaxHeader    = 16 << 10
	defaultReadTimeout  = 10 * time.Second
	defaultWriteTimeout = 30 * time.Second
	defaultIdleTimeout  = 30 * time.Second
	headerTimeout       = 5 * time.Second
)

// A Config says what to serve, where, and within which bounds.
type Config struct {
	// Listen is host:port; port 0 takes a free one. Required.
	Listen string
	// TLS says how the listener speaks TLS; nil: it does not. See function TLS.
	TLS *tls.Config
	// Handler serves the requests. Required.
	Handler http.Handler
	// Open says that clients are served without a credential. Such a listener is
	// bound to loopback only, and takes only requests that name a loopback host.
	// So a page in a browser whose own name was made to lead here can read
	// nothing.
	Open bool
	// Plain says that the listener is for this machine alone, since its traffic is
	// not encrypted. It is bound to loopback only.
	Plain bool
	// MaxConns bounds the connections. When one more comes, the connection is
	// closed that has waited longest: between two requests, for its first
	// request, or for the rest of a body. When all are being served, the new one
	// is closed. HTTP/2 is not spoken, so a connection has one request at a
	// time, and this bounds the requests too. Zero means 128.
	MaxConns int
	// MaxBody bounds a request's body, MaxHeader its header, in bytes. Zero means
	// 64 KiB and 16 KiB.
	MaxBody   int64
	MaxHeader int
	// ReadTimeout bounds the reading of a request, WriteTimeout the serving of
	// it, IdleTimeout the pause before the next. Zero means 10 s, 30 s and 30 s.
	ReadTimeout, WriteTimeout, IdleTimeout time.Duration
	// Log gets the errors of serving. Nil: they are dropped.
	Log *slog.Logger
}

// A Server is one listener. New binds it, Start serves, Stop ends it.
type Server struct {
	listener net.Listener
	server   *http.Server
	log      *slog.Logger
	done     chan struct{}
	started  bool
}

// New binds the listener, so that a port that is taken is an error at start and
// not a line in the log.
func New(ctx context.Context, c Config) (*Server, error) {
	l, err := Bind(ctx, c)
	if err != nil {
		return nil, err
	}
	c = l.Config
	handler := c.Handler
	if c.Open {
		handler = loopbackHosts(handler)
	}
	server := &http.Server{
		Handler: l.conns.serving(handler, c.MaxBody), TLSConfig: c.TLS, ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug), // strangers could fill a log
		ReadHeaderTimeout: min(headerTimeout, c.ReadTimeout), ReadTimeout: c.ReadTimeout, WriteTimeout: c.WriteTimeout, IdleTimeout: c.IdleTimeout,
		MaxHeaderBytes: c.MaxHeader, ConnContext: l.conns.remember, Protocols: new(http.Protocols),
		DisableGeneralOptionsHandler: true, // it would answer before the Host is checked
	}
	server.Protocols.SetHTTP1(true)
	return &Server{listener: l, server: server, log: c.Log, done: make(chan struct{})}, nil
}

// A Listener is bound, and returns connections that are counted. It is for a
// caller that reads HTTP without package net/http. All others use New.
type Listener struct {
	net.Listener
	// Config has the bounds, with defaults instead of zero values. The Listener
	// enforces MaxConns; the caller has to enforce the others.
	Config Config
	conns  *conns
}

// Bind binds a listener by a Config without Handler and TLS. With Open the caller
// has to check the Host: see IsLoopbackHost.
func Bind(ctx context.Context, c Config) (*Listener, error) {
	c.setDefaults()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, err
	}
	if c.Open && !isLoopback(listener.Addr()) {
		_ = listener.Close()
		return nil, fmt.Errorf("%s can be reached from other machines and asks for no credential", listener.Addr())
	}
	if c.Plain && !isLoopback(listener.Addr()) {
		_ = listener.Close()
		return nil, fmt.Errorf("%s can be reached from other machines and speaks no TLS", listener.Addr())
	}
	conns := newConns(c.MaxConns)
	return &Listener{Listener: conns.bound(listener), Config: c, conns: conns}, nil
}

// Serving says whether somebody works on a request of the connection now. A
// connection on which nobody works may be closed to make room.
func (l *Listener) Serving(c net.Conn, now bool) {
	x, ok := c.(*conn)
	if !ok {
		return
	}
	if now {
		l.conns.serve(x, 1)
	} else {
		l.conns.serve(x, -1)
	}
}

func (c *Config) setDefaults() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.MaxConns = cmp.Or(c.MaxConns, defaultMaxConns)
	c.MaxBody = cmp.Or(c.MaxBody, defaultMaxBody)
	c.MaxHeader = cmp.Or(c.MaxHeader, defaultMaxHeader)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, defaultReadTimeout)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, defaultWriteTimeout)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, defaultIdleTimeout)
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// Addr returns the address on which the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Start begins to serve in the background.
func (s *Server) Start() {
	s.started = true
	go func() {
		defer close(s.done)
		if err := s.serve(); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("listener ended", "address", s.listener.Addr().String(), "error", err)
		}
	}()
}

func (s *Server) serve() error {
	if s.server.TLSConfig != nil {
		return s.server.ServeTLS(s.listener, "", "")
	}
	return s.server.Serve(s.listener)
}

// Stop lets the requests in flight end until ctx does, then cuts them. It may
// be called on a Server that was never started, and once only.
func (s *Server) Stop(ctx context.Context) error {
	if !s.started {
		return s.listener.Close()
	}
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	<-s.done
	return err
}

// loopbackHosts serves only requests whose Host names this machine by a loopback
// name or address. In a browser's request, Host is the name of the page's own
// site.
func loopbackHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !IsLoopbackHost(r.Host) {
			http.Error(w, WrongHost, http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// WrongHost is the refusal of a request whose Host is not IsLoopbackHost.
const WrongHost = "the host named is not this machine's loopback; use 127.0.0.1 or localhost"

// IsLoopbackHost says whether a Host, with a port or without, names this machine by
// a loopback name or address.
func IsLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}
