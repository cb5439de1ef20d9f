//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// rawRows is the ceiling of one PostgreSQL for tasks that are rows: claim with
// a lease, then finish, in batches, by connections that do nothing else.
type rawRows struct{ db *database }

const (
	rawBatch       = 1000
	rawConnections = 4
)

func newRawRows(ctx context.Context, b *bench) (*rawRows, error) {
	db, err := b.pg.create(ctx, "bench_raw")
	if err != nil {
		return nil, err
	}
	_, err = db.Exec(ctx, `
		CREATE TABLE task (id bigint PRIMARY KEY, due_at timestamptz NOT NULL, state smallint NOT NULL, owner int, leased_until timestamptz, finished_at timestamptz)
		  WITH (fillfactor = 50);
		CREATE INDEX task_ready ON task (due_at, id) WHERE state = 0`)
	return &rawRows{db}, err
}

func (r *rawRows) run(ctx context.Context, n int) (time.Duration, error) {
	_, err := r.db.Exec(ctx, `TRUNCATE task`)
	if err == nil {
		_, err = r.db.Exec(ctx, `INSERT INTO task SELECT i, now() - interval '10 seconds' + i * interval '1 microsecond', 0 FROM generate_series(1, $1::bigint) AS i`, n)
	}
	if err == nil {
		err = r.db.settle(ctx)
	}
	if err != nil {
		return 0, err
	}
	began := time.Now()
	var wg sync.WaitGroup
	errs := make([]error, rawConnections)
	for i := range rawConnections {
		wg.Go(func() { errs[i] = r.work(ctx, i) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func (r *rawRows) work(ctx context.Context, owner int) error {
	conn, err := pgx.Connect(ctx, r.db.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for {
		rows, _ := conn.Query(ctx, `
			WITH mine AS MATERIALIZED (
				SELECT id FROM task WHERE state = 0 AND due_at <= now() ORDER BY due_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
			)
			UPDATE task SET state = 1, owner = $2, leased_until = now() + interval '5 seconds' FROM mine WHERE task.id = mine.id RETURNING task.id`, rawBatch, owner)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil || len(ids) == 0 {
			return err
		}
		if _, err := conn.Exec(ctx, `UPDATE task SET state = 2, finished_at = now() WHERE id = ANY($1) AND owner = $2`, ids, owner); err != nil {
			return err
		}
	}
}

// A caller makes one signed call to the sandbox. It is safe for concurrent use.
type caller interface {
	// push makes the n-th call, of a push that was due at the given time.
	push(ctx context.Context, n int64, due time.Time) error
	// rest closes what it keeps open.
	rest()
}

// ownCaller is the scheduler's own adapter on its own connections.
type ownCaller struct {
	message *dispatch.Message
	pusher  dispatch.Pusher
}

func (b *bench) ownCaller() (*ownCaller, error) {
	m, problems := mpaas.Adapter{}.Compile(dispatch.Request{Channel: "mpaas.push_multiple", TaskName: "bench", Body: json.RawMessage(request)})
	if len(problems) > 0 {
		return nil, fmt.Errorf("compile: %v", problems)
	}
	p, err := mpaas.Adapter{}.New(b.box.settings(appID(1)))
	return &ownCaller{m, p}, err
}

func (c *ownCaller) push(ctx context.Context, n int64, due time.Time) error {
	t := c.message.Inline[0]
	t.MsgKey = engine.Keys{}.Message(n, due, t.Target, "")
	o := c.pusher.Push(ctx, &dispatch.Push{Message: c.message, DeliveryID: fmt.Sprintf("t%d", n), MsgKey: engine.Keys{}.Message(n, due, "", ""), Targets: []dispatch.Target{t}})
	if o.Class != dispatch.Accepted {
		return fmt.Errorf("push: %v %s", o.Class, o.Message)
	}
	return nil
}

func (c *ownCaller) rest() { c.pusher.(interface{ CloseIdleConnections() }).CloseIdleConnections() }

// loop makes n calls from as many goroutines as told and does nothing else.
// Every call is due when the loop begins.
func loop(ctx context.Context, c caller, n, goroutines int) (time.Duration, error) {
	defer c.rest()
	var next atomic.Int64
	errs := make([]error, goroutines)
	began := time.Now()
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n) && errs[g] == nil; i = next.Add(1) {
				errs[g] = c.push(ctx, i, began)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return 0, fmt.Errorf("bare loop: %w", err)
	}
	return took, nil
}

// bestConcurrency finds out with how many goroutines the bare loop is fastest
// here.
func (b *bench) bestConcurrency(ctx context.Context, c caller) (int, error) {
	best, shortest := 0, time.Hour
	for _, goroutines := range []int{4, 16, 64, 256} {
		took, err := loop(ctx, c, min(b.calls, 10_000), goroutines)
		if err != nil {
			return 0, err
		}
		if took < shortest {
			best, shortest = goroutines, took
		}
	}
	b.say("the bare loop is fastest with %d goroutines", best)
	return best, nil
}
