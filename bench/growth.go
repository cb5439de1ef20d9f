//go:build unix

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/store"
)

const (
	growthTasks = 10_000
	growthBatch = 256
)

// growth is the cost of claiming and recording one task while much is stored,
// held against the same while little is. It asks the store itself, in batches
// of the engine's size, from one connection at a time.
func growth(ctx context.Context, b *bench) error {
	small, err := b.grown(ctx, "bench_small", 10_000, 10_000)
	if err != nil {
		return err
	}
	defer small.Close()
	pending := b.campaigns
	big, err := b.grown(ctx, "bench_big", b.decided, pending)
	if err != nil {
		return err
	}
	defer big.Close()
	if err := small.settle(ctx); err != nil {
		return err
	}
	what := fmt.Sprintf("claim and record a task, %s decided and %s pending stored", thousands(float64(b.decided)), thousands(float64(pending)))
	if err := b.compareGrowth(ctx, what+", never analysed", 1.2, big, small); err != nil {
		return err
	}
	if err := big.settle(ctx); err != nil {
		return err
	}
	if err := b.compareGrowth(ctx, what, 1.2, big, small); err != nil {
		return err
	}
	release, err := big.holdSnapshot(ctx)
	if err != nil {
		return err
	}
	defer release()
	return b.compareGrowth(ctx, what+", an old snapshot held", 2, big, small)
}

// grown makes a database whose statistics stay as they are until it is told
// otherwise.
func (b *bench) grown(ctx context.Context, name string, decided, pending int) (*database, error) {
	db, err := b.pg.scheduler(ctx, name)
	if err != nil {
		return nil, err
	}
	b.say("filling %s: %d decided, %d pending", name, decided, pending)
	for _, table := range []string{"pending_tasks", "claims", "decided_tasks", "campaigns", "campaign_cursors"} {
		if _, err := db.Exec(ctx, "ALTER TABLE scheduler."+table+" SET (autovacuum_enabled = false)"); err != nil {
			return nil, err
		}
	}
	if err := b.register(ctx, db, 1_000_000); err != nil {
		return nil, err
	}
	if err := db.fill(ctx, fill{tasks: pending, history: decided, due: time.Now().Add(12 * time.Hour), spread: 6 * time.Hour}); err != nil {
		return nil, err
	}
	_, err = db.Exec(ctx, "CHECKPOINT")
	return db, err
}

// compareGrowth takes turns batch by batch: what disturbs the machine for a
// moment disturbs both sides.
func (b *bench) compareGrowth(ctx context.Context, what string, bound float64, big, small *database) error {
	var bigs, smalls sample
	for range b.rounds {
		b.machine.calibrate()
		ours, base, err := takeTurns(ctx, big, small)
		if err != nil {
			return err
		}
		b.say("%s: %.1f µs, %.1f µs with little stored", what, ours, base)
		bigs, smalls = append(bigs, ours), append(smalls, base)
	}
	b.table.compare(what, new(atMost(bound)), micros, bigs, "10,000 and 10,000", smalls)
	return nil
}

func takeTurns(ctx context.Context, big, small *database) (ours, base float64, err error) {
	var sides [2]*decider
	for i, db := range []*database{big, small} {
		if sides[i], err = db.newDecider(ctx); err != nil {
			return 0, 0, err
		}
		defer sides[i].close(ctx)
	}
	for range growthTasks / growthBatch {
		for _, d := range sides {
			if err := d.next(ctx); err != nil {
				return 0, 0, err
			}
		}
	}
	return sides[0].each(), sides[1].each(), nil
}

// A decider claims and records tasks of one database, batch by batch.
type decider struct {
	store  *store.Store
	daemon int64
	tasks  []*store.Decision
	took   time.Duration
	done   int
}

// newDecider adds tasks that are due and decides the first batch of them, which
// prepares the statements.
func (d *database) newDecider(ctx context.Context) (*decider, error) {
	if err := d.fill(ctx, fill{tasks: growthTasks + growthBatch, due: time.Now().Add(-10 * time.Second)}); err != nil {
		return nil, err
	}
	rows, _ := d.Query(ctx, `SELECT id, app_no, campaign_id, revision, due_at, clock_timestamp() FROM scheduler.pending_tasks WHERE ready_at < now() ORDER BY ready_at, id`)
	tasks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*store.Decision, error) {
		t := &store.Decision{
			Channel: "mpaas.push_multiple", Origin: "scheduled", Status: "succeeded", Targets: []string{"user-1"}, TargetCount: 1, RequestID: "request", MessageID: "message",
		}
		err := row.Scan(&t.TaskID, &t.AppNo, &t.CampaignID, &t.Revision, &t.DueAt, &t.StartedAt)
		t.SentAt = t.StartedAt
		return t, err
	})
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, store.Config{URL: d.url})
	if err != nil {
		return nil, err
	}
	in, err := s.Enlist(ctx, store.Newcomer{Name: "bench", Version: "bench", Lease: time.Hour, Run: true})
	if err != nil {
		return nil, err
	}
	side := &decider{store: s, daemon: in.ID, tasks: tasks}
	err = side.next(ctx)
	side.took, side.done = 0, 0
	return side, err
}

func (d *decider) next(ctx context.Context) error {
	n := min(growthBatch, len(d.tasks))
	began := time.Now()
	err := decideBatch(ctx, d.store, d.daemon, d.tasks[:n])
	d.took += time.Since(began)
	d.done += n
	d.tasks = d.tasks[n:]
	return err
}

// each is what one task cost, in microseconds.
func (d *decider) each() float64 {
	return float64(d.took.Nanoseconds()) / 1000 / float64(d.done)
}

func (d *decider) close(ctx context.Context) {
	_ = d.store.Retire(ctx, d.daemon)
	d.store.Close()
}

func decideBatch(ctx context.Context, s *store.Store, daemon int64, tasks []*store.Decision) error {
	ids := make([]int64, len(tasks))
	for i, t := range tasks {
		ids[i] = t.TaskID
	}
	claim, claimed, err := s.Claim(ctx, daemon, time.Time{}, ids)
	if err != nil {
		return err
	}
	for i := range tasks {
		tasks[i].ClaimID = claim
	}
	recorded, err := s.Record(ctx, daemon, tasks, []int64{claim})
	if err == nil && (len(claimed) != len(tasks) || len(recorded) != len(tasks)) {
		err = fmt.Errorf("%d of %d tasks claimed, %d recorded", len(claimed), len(tasks), len(recorded))
	}
	return err
}

// holdSnapshot keeps a transaction open that still sees everything as it is.
func (d *database) holdSnapshot(ctx context.Context) (release func(), err error) {
	tx, err := d.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, "SELECT count(*) FROM (SELECT FROM scheduler.pending_tasks LIMIT 1) x")
	return func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }, err
}
