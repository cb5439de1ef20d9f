package store_test

import (
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// Full ranges of pages are summarised, a few at a time, and the last one, which is not
// full, is left. While the table is vacuumed nothing waits.
func TestSummariseDecided(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	run(t, db, `ALTER TABLE scheduler.decided_tasks SET (autovacuum_enabled = off)`)
	run(t, db, `
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count)
		SELECT n, 1, n, 1, 1, 'scheduled', 'succeeded', now() + n * interval '1 second', now(), 1, 1, 1, 1 FROM generate_series(1, 45000) n`)
	full := one[int64](t, db, `SELECT pg_relation_size('scheduler.decided_tasks') / 8192 / 128`)
	if full < 3 {
		t.Fatalf("%d full ranges of pages, the test needs 3", full)
	}
	s := opened(t, db.URL)
	next := int64(0)
	for _, want := range []int64{2, min(4, full), full, full} {
		var err error
		if next, err = s.SummariseDecided(t.Context(), next, 2); err != nil || next != want {
			t.Fatalf("the next range is %d, %v, want %d", next, err, want)
		}
	}
	if n := one[int](t, db, `SELECT brin_summarize_new_values('scheduler.decided_tasks_due')`); n != 1 {
		t.Errorf("%d ranges were not summarised, want the last one only", n)
	}

	run(t, db, `SELECT brin_desummarize_range('scheduler.decided_tasks_due', 0)`)
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `LOCK TABLE scheduler.decided_tasks IN SHARE UPDATE EXCLUSIVE MODE`); err != nil { // as VACUUM does
		t.Fatal(err)
	}
	if next, err := s.SummariseDecided(t.Context(), 0, 2); !store.IsBlocked(err) || next != 0 {
		t.Errorf("beside a vacuum: the next range is %d, %v", next, err)
	}
}
