// Package admin serves what operators and their machines ask of a running
// daemon: is it alive, is it ready, what are its figures, where is its time
// spent. It changes nothing.
package admin

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/campaign-scheduler/scheduler/internal/listen"
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
	// two seconds, and asked once a second at most, however many ask the server.
	// Nil: always ready.
	Ready func(context.Context) error
	// Notes are lines that /readyz shows beside its answer to those who may read
	// /metrics: what somebody should know though the daemon does its work. It has
	// to answer at once. Nil: there are none.
	Notes func() []string
	// Log hears of what goes wrong in serving. Nil: silence.
	Log *slog.Logger
}

// A Server is the admin listener. New binds it, Start serves, Stop ends it.
type Server struct{ *listen.Server }

// New binds the listener, so that a port that is taken is an error at start and
// not a line in the log. It refuses an address that other machines can reach
// unless a token or client certificates are asked for.
func New(ctx context.Context, config Config) (*Server, error) {
	log := config.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	secure, err := listen.TLS(config.CertFile, config.KeyFile, config.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	s, err := listen.New(ctx, listen.Config{
		Listen: config.Listen, TLS: secure, Handler: handler(config, log), Log: log,
		Open: config.Token == "" && config.ClientCAFile == "",
	})
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	return &Server{s}, nil
}

// Stop lets the requests in flight end until ctx does, then cuts them. It may
// be called on a Server that was never started, and once only.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.Server.Stop(ctx); err != nil {
		return fmt.Errorf("stop admin listener: %w", err)
	}
	return nil
}
