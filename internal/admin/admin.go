// Package admin serves what operators and their machines ask of a running
// daemon: is it alive, is it ready, what are its figures, where is its time
// spent. It changes nothing.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config configures a Server.
type Config struct {
	// Listen is host:port; port 0 takes a free one. Required.
	Listen string
	// Token, when not empty, must come as "Authorization: Bearer TOKEN" for
	// everything but /healthz and /readyz, which probes ask without one.
	Token string
	// CertFile and KeyFile, PEM, make the server speak TLS. They are read at
	// every handshake, so that renewing a certificate takes no restart.
	CertFile, KeyFile string
	// ClientCAFile, PEM: the server then takes only clients with a certificate
	// of one of these authorities.
	ClientCAFile string
	// Pprof serves /debug/pprof/ too.
	Pprof bool
	// Metrics is what /metrics shows. Required.
	Metrics prometheus.Gatherer
	// Ready reports why the daemon cannot do its work now, or nil. It is given
	// two seconds. Nil: always ready.
	Ready func(context.Context) error
	// Notes are lines that /readyz shows beside ok, to those who may see more than
	// that: what works, and yet wants somebody. Nil: none.
	Notes func() []string
	// Log hears of what goes wrong in serving. Nil: silence.
	Log *slog.Logger
}

// A Server is the admin listener. New binds it, Start serves, Stop ends it.
type Server struct {
	listener net.Listener
	server   *http.Server
	log      *slog.Logger
	done     chan struct{}
	started  bool
}

// New binds the listener, so that a port that is taken is an error at start and
// not a line in the log. It refuses an address that other machines can reach
// unless a token or client certificates are asked for.
func New(ctx context.Context, config Config) (*Server, error) {
	log := config.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	secure, err := config.tls()
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", config.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	if config.open() && !isLoopback(listener.Addr()) {
		_ = listener.Close()
		return nil, fmt.Errorf("admin listener: %s can be reached from other machines and asks for neither token nor client certificate", listener.Addr())
	}
	server := &http.Server{
		Handler: handler(config, log), TLSConfig: secure, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		// Nothing here takes a body or long, but for a profile, which sets its
		// own deadline; a client that dawdles is cut off.
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return &Server{listener: listener, server: server, log: log, done: make(chan struct{})}, nil
}

// open reports whether anyone who reaches the listener is served.
func (c Config) open() bool { return c.Token == "" && c.ClientCAFile == "" }

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Start begins to serve in the background.
func (s *Server) Start() {
	s.started = true
	go func() {
		defer close(s.done)
		if err := s.serve(); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("admin listener ended", "error", err)
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
		err = errors.Join(fmt.Errorf("stop admin listener: %w", err), s.server.Close())
	}
	<-s.done
	return err
}
