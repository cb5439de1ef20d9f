//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
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

// netHTTP is net/http's transport as it is fastest here: what a program without
// connections of its own would call with.
func netHTTP() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols: protocols, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 10 * time.Second, WriteBufferSize: 32 << 10, DisableCompression: true,
	}
}

// caller makes a message and a Pusher that calls through the transport; nil: the
// scheduler's own connections.
func (b *bench) caller(transport http.RoundTripper) (*dispatch.Message, dispatch.Pusher, error) {
	m, problems := mpaas.Adapter{}.Compile(dispatch.Request{Channel: "mpaas.push_multiple", TaskName: "bench", Body: json.RawMessage(request)})
	if len(problems) > 0 {
		return nil, nil, fmt.Errorf("compile: %v", problems)
	}
	settings := b.box.settings("app-1")
	settings.Transport = transport
	p, err := mpaas.Adapter{}.New(settings)
	return m, p, err
}

// bareLoop makes n signed calls from as many goroutines as told and does
// nothing else. Every call is due when the loop begins.
func (b *bench) bareLoop(ctx context.Context, n, goroutines int) (time.Duration, error) {
	transport := netHTTP()
	defer transport.CloseIdleConnections()
	m, p, err := b.caller(transport)
	if err != nil {
		return 0, err
	}
	var next, failed atomic.Int64
	began := time.Now()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if o := p.Push(ctx, onePush(m, i, began)); o.Class != dispatch.Accepted {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() > 0 {
		return 0, fmt.Errorf("bare loop: %d calls were not accepted", failed.Load())
	}
	return time.Since(began), nil
}

// bestConcurrency finds out with how many goroutines the bare loop is fastest
// here.
func (b *bench) bestConcurrency(ctx context.Context) (int, error) {
	best, shortest := 0, time.Hour
	for _, goroutines := range []int{4, 16, 64, 256} {
		took, err := b.bareLoop(ctx, min(b.calls, 10_000), goroutines)
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
