package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/embedpg"
	"github.com/campaign-scheduler/scheduler/store"
)

// databaseName is the embedded server's database.
const databaseName = "scheduler"

// openDatabase opens the configured database, or starts the embedded one and
// migrates it.
func (a *App) openDatabase(ctx context.Context) error {
	url := a.Config.Database.URL.Reveal()
	if url == "" {
		var err error
		if url, err = a.startPostgres(ctx); err != nil {
			return err
		}
	}
	a.databaseURL = url
	c := a.Config.Database
	s, err := store.Open(ctx, store.Config{
		URL: url, MaxConns: c.MaxConnections, ConnectTimeout: c.ConnectTimeout, StatementTimeout: c.StatementTimeout,
	})
	if err != nil {
		return err
	}
	a.store = s
	a.closers = append(a.closers, closer{"database pool", func(context.Context) error { s.Close(); return nil }})
	return a.waitForSchema(ctx)
}

// waitForSchema waits for a database that does not answer yet. It returns an error
// when the database has a schema that this program cannot use.
func (a *App) waitForSchema(ctx context.Context) error {
	if err := a.waitFor(ctx, a.store.CheckSessions); err != nil {
		return err
	}
	err := a.waitFor(ctx, a.store.CheckSchema)
	switch {
	case errors.Is(err, store.ErrSchemaMissing), errors.Is(err, store.ErrSchemaTooOld):
		return fmt.Errorf("%w; run: scheduler migrate up", err)
	case errors.Is(err, store.ErrSchemaTooNew):
		return fmt.Errorf("%w; install the version that migrated it, or run: scheduler migrate goto with that version", err)
	}
	if err != nil {
		return err
	}
	if err := a.waitFor(ctx, a.store.CheckShape); err != nil {
		return fmt.Errorf("%w; another build migrated it: back it up, then scheduler migrate goto %d and up again, with the programs that fit", err, store.NewestSchema()-1)
	}
	return a.waitFor(ctx, a.warnOfSetup)
}

// warnOfSetup logs settings of the server that an operator should change.
func (a *App) warnOfSetup(ctx context.Context) error {
	u, err := a.store.Setup(ctx)
	if err != nil {
		return err
	}
	for _, w := range u.Warnings() {
		a.Log.WarnContext(ctx, "PostgreSQL is not run as it should be", "found", w.Found, "do", w.ToDo)
	}
	return nil
}

// waitFor calls do until it succeeds, as long as its error says that the database
// cannot be used now.
func (a *App) waitFor(ctx context.Context, do func(context.Context) error) error {
	said := false
	for {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := do(attempt)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case store.IsRefused(err), !store.IsOutage(err) && !store.IsBlocked(err):
			return err
		}
		if !said {
			said = true
			a.Log.WarnContext(ctx, "database does not answer, waiting for it", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// A postgres is the embedded PostgreSQL. It is started again on the same data when it
// ends by itself, for example when the system kills it for its memory. The daemon
// treats this as any other outage of the database.
type postgres struct {
	config embedpg.Config
	log    *slog.Logger
	done   chan struct{} // closed when nothing watches the server any more
	stop   context.CancelFunc

	mu     sync.Mutex
	server *embedpg.Server
}

// startPostgres starts the embedded PostgreSQL, migrates it, and returns its URL. The
// URL stays the same when PostgreSQL is started again.
func (a *App) startPostgres(ctx context.Context) (url string, err error) {
	config := embedpg.Config{
		Dir: filepath.Join(a.Config.DataDir, "postgres"), BinDir: a.Config.Embedded.BinDir, Port: a.Config.Embedded.Port, Database: databaseName,
	}
	server, err := embedpg.Start(ctx, config)
	if err != nil {
		return "", err
	}
	config.Port = server.Port()
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &postgres{config: config, log: a.Log, server: server, stop: stop, done: make(chan struct{})}
	go p.watch(watching)
	a.postgres = p
	a.closers = append(a.closers, closer{"embedded PostgreSQL", p.close})
	url = server.URL(databaseName)
	m, err := store.NewMigrator(url, a.Log)
	if err != nil {
		return "", err
	}
	return url, m.Up(ctx)
}

// current returns the server that runs, or the one that ran last.
func (p *postgres) current() *embedpg.Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

// watch starts the server again whenever it has ended, until ctx ends.
func (p *postgres) watch(ctx context.Context) {
	defer close(p.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.current().Done():
		}
		p.log.WarnContext(ctx, "the embedded PostgreSQL ended by itself, starting it again", "log", p.current().LogFile())
		if !p.restart(ctx) {
			return
		}
		p.log.InfoContext(ctx, "the embedded PostgreSQL runs again")
	}
}

// restart tries to start the server until it runs. It reports false when ctx has
// ended before.
func (p *postgres) restart(ctx context.Context) bool {
	said := false
	for ctx.Err() == nil {
		_ = p.current().Stop() // it has ended; this gives its directory free
		server, err := embedpg.Start(ctx, p.config)
		if err == nil {
			p.mu.Lock()
			p.server = server
			p.mu.Unlock()
			return true
		}
		if !said && ctx.Err() == nil {
			said = true
			p.log.ErrorContext(ctx, "the embedded PostgreSQL does not start, will keep trying", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return false
}

// close stops watching, then the server.
func (p *postgres) close(context.Context) error {
	p.stop()
	<-p.done
	return p.current().Stop()
}

// ErrNoDatabase says that no database is configured and no embedded one runs.
var ErrNoDatabase = errors.New("no database is named, and no daemon runs one in data_dir")

// DatabaseURL returns the URL of the database for the commands other than serve: the
// configured database, or else the embedded one of a daemon that runs on the same
// data_dir now. The URL may hold a password. The error is ErrNoDatabase when there is
// neither.
func DatabaseURL(c *config.Config) (string, error) {
	if url := c.Database.URL.Reveal(); url != "" {
		return url, nil
	}
	if url, ok := embedpg.Running(filepath.Join(c.DataDir, "postgres"), databaseName); ok {
		return url, nil
	}
	return "", ErrNoDatabase
}
