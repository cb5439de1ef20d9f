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
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout bounds Config.Ready, below the patience of usual probes.
const readyTimeout = 2 * time.Second

func handler(config Config, log *slog.Logger) http.Handler {
	auth := authorizer(config.Token)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthz)
	mux.Handle("GET /readyz", readyz(config.Ready, config.Notes, auth, log))
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

// healthz says that the process serves. It asks nothing of anyone: a database
// that is away is no reason to kill the daemon that waits for it.
func healthz(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprintln(w, "ok")
}

// readyz says whether the daemon can do its work. The reason is for those who
// hold the token; a probe needs the status only. The log is told of changes, not
// of every probe.
func readyz(ready func(context.Context) error, notes func() []string, auth authorizer, log *slog.Logger) http.HandlerFunc {
	var unready atomic.Bool // the last answer
	return func(w http.ResponseWriter, r *http.Request) {
		if ready == nil {
			healthz(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		err := ready(ctx)
		if err == nil {
			if unready.Swap(false) {
				log.InfoContext(ctx, "ready again")
			}
			healthz(w, r)
			if notes != nil && auth.allows(r) {
				for _, line := range notes() {
					_, _ = fmt.Fprintln(w, line)
				}
			}
			return
		}
		if !unready.Swap(true) {
			log.WarnContext(ctx, "not ready", "error", err)
		}
		text := "not ready"
		if auth.allows(r) {
			text += ": " + err.Error()
		}
		http.Error(w, text, http.StatusServiceUnavailable)
	}
}

// An authorizer is the token that requests must carry; the empty one lets
// everyone in.
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

// allows compares digests, so that the time it takes tells nothing of the
// token, not even its length.
func (a authorizer) allows(r *http.Request) bool {
	if a == "" {
		return true
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	want, got := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(given))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}
