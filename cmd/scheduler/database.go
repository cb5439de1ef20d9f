package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/app"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/store"
)

const databaseHelp = `The database is that of --database-url, else of the configuration
(database.url, SCHEDULER_DATABASE_URL), else of DATABASE_URL, else the embedded
one of a "scheduler serve" that runs on the same data_dir.`

// A databaseFlag is --database-url.
type databaseFlag struct{ url string }

// addDatabaseFlag gives the command --database-url.
func addDatabaseFlag(c *cobra.Command) *databaseFlag {
	f := &databaseFlag{}
	c.PersistentFlags().StringVar(&f.url, "database-url", "", "PostgreSQL `URL`, instead of the configuration's")
	return f
}

// find returns the URL of the database that the flag, the configuration or a running
// daemon names.
func (f *databaseFlag) find(cfg *config.Config) (string, error) {
	if f.url != "" {
		return f.url, nil
	}
	url, err := app.DatabaseURL(cfg)
	if errors.Is(err, app.ErrNoDatabase) {
		err = fmt.Errorf("%w (%s): give --database-url, set database.url or DATABASE_URL, or run: scheduler serve", err, cfg.DataDir)
	}
	return url, err
}

// openStore connects to the database that find returns. Its schema must be of this
// program's version.
func (p *program) openStore(ctx context.Context, f *databaseFlag) (*store.Store, *config.Config, error) {
	cfg, err := p.loadConfig()
	if err != nil {
		return nil, nil, err
	}
	url, err := f.find(cfg)
	if err != nil {
		return nil, nil, err
	}
	s, err := p.openURL(ctx, cfg, url)
	return s, cfg, err
}

// openURL connects to a database. Its schema must be of this program's version.
func (p *program) openURL(ctx context.Context, cfg *config.Config, url string) (*store.Store, error) {
	s, err := store.Open(ctx, store.Config{
		URL: url, MaxConns: 2, ConnectTimeout: cfg.Database.ConnectTimeout, StatementTimeout: cfg.Database.StatementTimeout,
	})
	if err != nil {
		return nil, err
	}
	if err := p.checkSchema(ctx, s); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// checkSchema says what to do when the schema is not of this program's version.
func (p *program) checkSchema(ctx context.Context, s *store.Store) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := s.CheckSessions(ctx); err != nil {
		return err
	}
	err := s.CheckSchema(ctx)
	switch {
	case errors.Is(err, store.ErrSchemaMissing), errors.Is(err, store.ErrSchemaTooOld):
		return fmt.Errorf("%w; run: scheduler migrate up", err)
	case errors.Is(err, store.ErrMayNotRead):
		return fmt.Errorf("%w; commands are for members of scheduler_admin and scheduler_reader, authors have scheduler.campaigns and scheduler.tasks in SQL", err)
	case errors.Is(err, store.ErrSchemaTooNew):
		return fmt.Errorf("%w; use the version of this program that migrated it", err)
	}
	return err
}

// withStore runs f with the database.
func (p *program) withStore(ctx context.Context, f *databaseFlag, do func(*store.Store, *config.Config) error) error {
	s, cfg, err := p.openStore(ctx, f)
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s, cfg)
}
