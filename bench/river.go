//go:build unix

package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

func riverVersion() string {
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		if m.Path == "github.com/riverqueue/river" {
			return m.Version
		}
	}
	return "unknown"
}

// pushArgs is River's job: one push.
type pushArgs struct {
	N int64 `json:"n"`
}

// Kind names the job.
func (pushArgs) Kind() string { return "push" }

// A rival is River at its fastest settings, with the call of the bare loop.
type rival struct {
	db      *database
	workers int
	caller  caller // nil: no call
}

func newRival(ctx context.Context, b *bench, name string, withCall bool) (*rival, error) {
	db, err := b.pg.create(ctx, name)
	if err != nil {
		return nil, err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(db.Pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	r := &rival{db: db, workers: b.workers}
	if withCall {
		r.caller = b.bareCaller()
	}
	return r, nil
}

// pushWorker makes the call, if there is one to make.
type pushWorker struct {
	river.WorkerDefaults[pushArgs]
	*rival
}

// Work is one job.
func (w *pushWorker) Work(ctx context.Context, job *river.Job[pushArgs]) error {
	if w.caller == nil {
		return nil
	}
	return w.caller.push(ctx, job.Args.N, job.ScheduledAt)
}

// stage fills the queue. Jobs of the future are made available beforehand,
// which spares River the moving of scheduled jobs.
func (r *rival) stage(ctx context.Context, n int, due time.Time, spread time.Duration) error {
	stmts := []struct {
		sql  string
		args []any
	}{
		{`TRUNCATE river_job`, nil},
		{`INSERT INTO river_job (args, kind, max_attempts, state, scheduled_at, created_at, queue, priority)
		  SELECT jsonb_build_object('n', i), 'push', 25, 'available', $2::timestamptz + ($3::bigint * (i - 1) / $1::bigint) * interval '1 microsecond', now(), 'default', 1
		    FROM generate_series(1, $1::bigint) AS i`, []any{n, due, spread.Microseconds()}},
		{`VACUUM ANALYZE river_job`, nil},
		{`CHECKPOINT`, nil},
	}
	for _, s := range stmts {
		if _, err := r.db.Exec(ctx, s.sql, s.args...); err != nil {
			return fmt.Errorf("stage river: %w", err)
		}
	}
	return nil
}

// run works n jobs and returns how long that took from the start of the client,
// or from due on where that is later.
func (r *rival) run(ctx context.Context, n int, due time.Time) (time.Duration, error) {
	cfg, err := pgxpool.ParseConfig(r.db.url)
	if err != nil {
		return 0, err
	}
	cfg.MaxConns = 20 // as ours
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	workers := river.NewWorkers()
	river.AddWorker(workers, &pushWorker{rival: r})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown: time.Millisecond, FetchPollInterval: time.Millisecond, JobTimeout: -1,
		Logger:  slog.New(slog.DiscardHandler),
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: r.workers}},
		Workers: workers,
	})
	if err != nil {
		return 0, err
	}
	// Completions are told once they are durable.
	done, cancel := client.SubscribeConfig(&river.SubscribeConfig{ChanSize: n + 1000, Kinds: []river.EventKind{river.EventKindJobCompleted}})
	defer cancel()
	began := time.Now()
	if err := client.Start(ctx); err != nil {
		return 0, err
	}
	var completed atomic.Int64
	err = awaitEvents(ctx, done, n, &completed)
	if due.After(began) {
		began = due
	}
	took := time.Since(began)
	if serr := client.Stop(context.WithoutCancel(ctx)); err == nil {
		err = serr
	}
	return took, err
}

func awaitEvents(ctx context.Context, done <-chan *river.Event, n int, completed *atomic.Int64) error {
	timeout := time.After(3 * time.Minute)
	for completed.Load() < int64(n) {
		select {
		case <-done:
			completed.Add(1)
		case <-timeout:
			return fmt.Errorf("river completed only %d of %d jobs in three minutes", completed.Load(), n)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
