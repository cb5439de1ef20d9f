package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/badnet"
	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// behind starts an engine whose way to the database leads through a proxy.
func behind(t *testing.T, r *rig) (*engine.Engine, *badnet.Proxy, *lines) {
	t.Helper()
	p, through := newProxy(t, r.URL)
	s, err := store.Open(t.Context(), store.Config{URL: through, MaxConns: 8, ConnectTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	cfg := r.config(t)
	log := &lines{}
	cfg.Store, cfg.Log = s, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	e := start(t, cfg)
	until(t, "the engine to be ready", func() bool { return ready(t, e) })
	return e, p, log
}

func ready(t testing.TB, e *engine.Engine) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	return e.Ready(ctx) == nil
}

// TestOutages takes the database away in every way there is. The engine says
// that it is not ready, and why in the log, pushes what came meanwhile when the
// database is back, and nothing twice.
func TestOutages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		begin, end func(*testing.T, *rig, *badnet.Proxy)
	}{
		"cut and refused": {
			func(_ *testing.T, _ *rig, p *badnet.Proxy) { p.Refuse() },
			heal,
		},
		"black hole": {
			func(_ *testing.T, _ *rig, p *badnet.Proxy) { p.Swallow() },
			heal,
		},
		"read-only": { // as after a demotion: the pool's connections would stay read-only for ever
			func(t *testing.T, r *rig, p *badnet.Proxy) {
				t.Helper()
				r.run(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`)
				p.Cut()
			},
			func(t *testing.T, r *rig, _ *badnet.Proxy) {
				t.Helper()
				r.run(t, `SET default_transaction_read_only = off`)
				err := pgx.BeginTxFunc(t.Context(), r, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
					_, err := tx.Exec(t.Context(), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET default_transaction_read_only', current_database()); END $$`)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			},
		},
		"too many connections": {
			func(_ *testing.T, _ *rig, p *badnet.Proxy) { p.Answer(noRoom) },
			heal,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "shop", "webhook", nil)
			e, p, log := behind(t, r)
			before := r.insert(t, "shop", "webhook", 0, nil)
			r.decided(t, before, 1)
			c.begin(t, r, p)
			until(t, "the engine to be not ready", func() bool { return !ready(t, e) })
			until(t, "the log to say so", func() bool { return log.count("database in trouble") > 0 })
			var during int64
			if name != "read-only" {
				during = r.insert(t, "shop", "webhook", 0, nil)
			}
			c.end(t, r, p)
			began := time.Now()
			until(t, "the engine to be ready again", func() bool { return ready(t, e) })
			if name == "read-only" {
				during = r.insert(t, "shop", "webhook", 0, nil)
			}
			if got := r.decided(t, during, 1); got[0] != "succeeded" {
				t.Errorf("a campaign of the outage: %s", got)
			}
			t.Logf("recovered in %v", time.Since(began))
			if calls := r.pusher.seen(); len(calls) != 2 {
				t.Errorf("%d calls, want 2", len(calls))
			}
		})
	}
}

// TestOutageIsLoggedOnce holds that an outage fills no log, however many calls of
// the database fail in it, and that the next one is told of again.
func TestOutageIsLoggedOnce(t *testing.T) {
	t.Parallel()
	log := &lines{}
	e := engine.New(engine.Config{Log: slog.New(slog.NewTextHandler(log, nil)), Store: &store.Store{}})
	for outage := range 3 {
		for range 5 {
			e.Trouble(t.Context(), errors.New("refused"))
		}
		if n := log.count("database in trouble"); n != outage+1 {
			t.Errorf("%d lines of %d outages", n, outage+1)
		}
		e.Recovers()
	}
}

// TestStopWhileTheDatabaseHangs holds Stop to an end, though nothing answers.
func TestStopWhileTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "webhook", nil)
	p, through := newProxy(t, r.URL)
	s, err := store.Open(t.Context(), store.Config{URL: through, MaxConns: 8, ConnectTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	cfg := r.config(t)
	cfg.Store, cfg.Grace = s, 2*time.Second
	e := engine.New(cfg)
	e.Start()
	until(t, "the engine to be ready", func() bool { return ready(t, e) })
	r.pusher.answers(func(context.Context, call) dispatch.Outcome {
		p.Swallow() // between the call and its record
		return accepted
	})
	r.insert(t, "shop", "webhook", 0, nil)
	until(t, "the call", func() bool { return r.pusher.count() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stopErr := e.Stop(ctx)
	s.Close()
	if ctx.Err() != nil {
		t.Error("Stop hung")
	}
	if stopErr == nil {
		t.Error("Stop says nothing of an outcome that could not be recorded")
	}
}

// lines is a log that a test reads while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) count(text string) int { return strings.Count(l.String(), text) }
