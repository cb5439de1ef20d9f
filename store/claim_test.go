package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// A claim takes what nobody holds, and does not wait for an author who leaves a
// transaction open.
func TestClaimPassesByWhatIsHeld(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	run(t, db, `INSERT INTO scheduler.apps (app_id, provider) VALUES ('a', 'mpaas')`)
	newest := stock(t, db, 3)
	s := opened(t, db.URL)
	daemon := enlisted(t, s)
	ids := one[[]int64](t, db, `SELECT array_agg(id ORDER BY campaign_id) FROM scheduler.pending_tasks`)
	claim := func() (got []int64) {
		_, tasks, err := s.Claim(t.Context(), daemon, time.Time{}, ids)
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			got = append(got, task.ID)
		}
		return got
	}
	hold(t, db, func() {
		if got := claim(); len(got) != 2 || got[0] == ids[2] || got[1] == ids[2] {
			t.Errorf("claimed %v beside a held task, want %v", got, ids[:2])
		}
		if got := claim(); len(got) != 0 {
			t.Errorf("claimed %v, want nothing", got)
		}
	}, `UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`, newest)
	if got := claim(); len(got) != 1 || got[0] != ids[2] {
		t.Errorf("claimed %v after the author changed their mind, want %v", got, ids[2:])
	}
	if n := one[int](t, db, `SELECT count(*) FROM scheduler.claimed_tasks`); n != 3 {
		t.Errorf("%d tasks are in claims, want 3", n)
	}
}

// hold keeps a statement's transaction open during do, and then takes it back.
func hold(t *testing.T, db *pgtest.DB, do func(), sql string, args ...any) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), pgx.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
	do()
}
