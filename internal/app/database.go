package app

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// waitForSchema waits for a database that does not answer yet, and ends with an
// error when it answers with a schema this program cannot work on.
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

// warnOfSetup logs what about the server an operator should know.
func (a *App) warnOfSetup(ctx context.Context) error {
	u, err := a.store.Setup(ctx)
	if err != nil {
		return err
	}
	for _, w := range u.Warnings() {
		a.Log.WarnContext(ctx, "PostgreSQL: "+w.Found, "do", w.ToDo)
	}
	return nil
}

// waitFor does what needs the database, again and again while the database
// cannot be worked with.
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
