// Package admin is the HTTP listener for operators and their machines. It tells
// whether the daemon is alive and ready, and serves its metrics and profiles. It
// changes nothing.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/campaign-scheduler/scheduler/internal/listen"
	"github.com/campaign-scheduler/scheduler/internal/plain"
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
	// Ready returns why the daemon cannot do its work now, or nil. It has two
	// seconds to answer, and is called at most once a second, however many
	// requests come. Nil: always ready.
	Ready func(context.Context) error
	// Notes returns lines that /readyz adds to its answer, for those who may read
	// /metrics: warnings while the daemon does its work. It must return at once.
	// Nil: no notes.
	Notes func() []string
	// Log gets the errors of serving. Nil: they are dropped.
	Log *slog.Logger
}

// A Server is the admin listener. New binds it, Start serves, Stop ends it.
type Server struct{ *listen.Server }

// New binds the listener, so that a port in use is an error at start and not a line
// in the log. It refuses an address that other machines can reach, unless a token
// or client certificates are required.
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

// readyTimeout bounds Config.Ready, below the patience of usual probes.
const readyTimeout = 2 * time.Second

func handler(config Config, log *slog.Logger) http.Handler {
	auth := authorizer(config.Token)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthz)
	mux.Handle("GET /readyz", readyz(config, auth, log))
	mux.Handle("GET /metrics", auth.guard(promhttp.HandlerFor(config.Metrics, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling: promhttp.ContinueOnError,
	})))
	if config.Pprof {
		mux.Handle("GET /debug/pprof/", auth.guard(http.HandlerFunc(pprof.Index)))
		mux.Handle("GET /debug/pprof/cmdline", auth.guard(http.HandlerFunc(pprof.Cmdline)))
		mux.Handle("GET /debug/pprof/profile", auth.guard(http.HandlerFunc(pprof.Profile)))
		mux.Handle("GET /debug/pprof/symbol", auth.guard(http.HandlerFunc(pprof.Symbol)))
		mux.Handle("GET /debug/pprof/trace", auth.guard(http.HandlerFunc(pprof.Trace)))
	}
	return mux
}

// healthz says that the process serves. It does not look at the database: a
// daemon that waits for its database must not be killed for it.
func healthz(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprintln(w, "ok")
}

// readyz says whether the daemon can do its work. Only those who hold the token see
// the reason and the notes; a probe needs the status only.
func readyz(config Config, auth authorizer, log *slog.Logger) http.HandlerFunc {
	probe := &probe{ready: config.Ready, log: log}
	return func(w http.ResponseWriter, r *http.Request) {
		status, text := http.StatusOK, "ok"
		if err := probe.result(r.Context()); err != nil {
			status, text = http.StatusServiceUnavailable, "not ready"
			if auth.allows(r) {
				text += ": " + plain.Line(err.Error())
			}
		}
		if config.Notes != nil && auth.allows(r) {
			for _, note := range config.Notes() {
				text += "\n" + plain.Line(note)
			}
		}
		http.Error(w, text, status) // which makes it plain text, and no browser's guess
	}
}

// probeAge is how old an answer to /readyz may be.
const probeAge = time.Second

// A probe answers any number of requests with one call of Config.Ready a second.
// It logs each change.
type probe struct {
	ready func(context.Context) error
	log   *slog.Logger

	mu    sync.Mutex
	asked time.Time // the end of the last question; zero: never asked
	err   error
}

// result returns the answer of the last second. Requests that come during a call of
// Config.Ready wait for its answer. The call goes on when the request that
// started it ends.
func (p *probe) result(ctx context.Context) error {
	if p.ready == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked.IsZero() && time.Since(p.asked) < probeAge {
		return p.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancel()
	err := p.ready(ctx)
	switch {
	case err == nil && p.err != nil:
		p.log.InfoContext(ctx, "ready again")
	case err != nil && p.err == nil:
		p.log.WarnContext(ctx, "not ready", "error", err)
	}
	p.asked, p.err = time.Now(), err
	return err
}

// An authorizer is the token that requests must carry. With an empty token every
// request is allowed.
type authorizer string

func (a authorizer) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.allows(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the admin token is missing or wrong", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allows compares digests, so that the time it takes reveals nothing about the
// token, not even its length.
func (a authorizer) allows(r *http.Request) bool {
	if a == "" {
		return true
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	want, got := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(given))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}
