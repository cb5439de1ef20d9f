package app

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
	"github.com/campaign-scheduler/scheduler/store"
)

// A postgres is the embedded PostgreSQL, started again in its place when it
// ends by itself: killed for its memory, say. To the daemon that is an outage
// like any other.
type postgres struct {
	config embedpg.Config
	log    *slog.Logger
	done   chan struct{} // closed when nothing watches the server any more
	stop   context.CancelFunc

	mu     sync.Mutex
	server *embedpg.Server
}

// startPostgres starts the embedded PostgreSQL, migrates it, and returns the
// way to it, which stays the same when it is started again.
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

// current is the server that runs, or ran last.
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

// restart tries until the server runs; false: ctx has ended before.
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
