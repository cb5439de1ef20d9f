package store_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// Fault 15: a lowered limit withdrew tasks by their slots, which say nothing of when
// they are due. The earliest are there in the UPDATE's own transaction, also while
// an author holds one of their campaigns.
func TestLoweredLimitKeepsTheEarliest(t *testing.T) {
	t.Parallel()
	db := surface(t)
	begin := time.Now().Add(time.Hour).Truncate(time.Second)
	slots := []int{3, 1, 2, 6, 5, 4}
	for i, slot := range slots {
		pend(t, db, campaign(t, db), slot, begin.Add(time.Duration(i)*time.Minute))
	}
	app := one[int32](t, db, `SELECT DISTINCT app_no FROM scheduler.campaigns`)
	for _, limit := range []int{6, 4, 3, 2, 1} {
		tx, err := db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `UPDATE scheduler.apps SET pending_limit = $1 WHERE app_no = $2`, limit, app); err != nil {
			t.Fatal(err)
		}
		rows, _ := tx.Query(t.Context(), `SELECT due_at, slot FROM scheduler.pending_tasks WHERE app_no = $1 ORDER BY due_at`, app)
		var due time.Time
		var slot, n int
		for rows.Next() {
			if err := rows.Scan(&due, &slot); err != nil {
				t.Fatal(err)
			}
			if want := begin.Add(time.Duration(n) * time.Minute); !due.Equal(want) || slot > limit {
				t.Errorf("limit %d: task %d is due at %v in slot %d, want %v", limit, n+1, due, slot, want)
			}
			n++
		}
		if n != limit || rows.Err() != nil {
			t.Errorf("limit %d: %d tasks, %v", limit, n, rows.Err())
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := one[int](t, db, `SELECT count(DISTINCT campaign_id) FROM scheduler.campaign_changes WHERE rewind_to IS NOT NULL`); n != 5 {
		t.Errorf("%d withdrawn occurrences return to the plan, want 5", n)
	}
}

// Fault 19: what is left out was read all the same, 300,000 rows each second on
// every daemon. However much an app has in store, crowded or another daemon's, no
// more of it is read than could be returned, and no other app's is overlooked.
func TestUpcomingReadsNoMoreThanItMayReturn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	run(t, db, `INSERT INTO scheduler.apps (app_id, provider, pending_limit) SELECT 'a' || g, 'mpaas', 1000000 FROM generate_series(1, 4) g`)
	const stored = 20000
	for app, n := range map[int]int{1: stored, 2: 5, 3: stored, 4: 7} {
		run(t, db, `INSERT INTO scheduler.pending_tasks (app_no, campaign_id, revision, origin, due_at, ready_at)
			SELECT $1, $1 * 1000000 + g, 1, 'immediate', now(), now() FROM generate_series(1, $2::integer) g`, app, n)
	}
	run(t, db, `ALTER TABLE scheduler.pending_tasks SET (autovacuum_enabled = false)`)
	s, err := store.Open(t.Context(), store.Config{URL: db.URL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	before := rowsRead(t, db)["pending_tasks"]
	// Apps 2 and 4 are this daemon's; so is none of the large ones, or they are crowded.
	for _, c := range []struct {
		without       []int32
		share, shares int
		want          []int32
	}{{nil, 0, 2, []int32{2, 4}}, {[]int32{1, 3}, 0, 1, []int32{2, 4}}} {
		tasks, more, err := s.Upcoming(t.Context(), time.Now().Add(time.Minute), c.without, nil, c.share, c.shares, 50, 100)
		if err != nil || len(tasks) != 12 || more {
			t.Fatalf("%d tasks, more %t, %v", len(tasks), more, err)
		}
		for _, task := range tasks {
			if !slices.Contains(c.want, task.AppNo) {
				t.Errorf("a task of app %d", task.AppNo)
			}
		}
	}
	tasks, more, err := s.Upcoming(t.Context(), time.Now().Add(time.Minute), nil, nil, 0, 1, 10, 100)
	if err != nil || len(tasks) != 10+5+10+7 || !more {
		t.Errorf("%d tasks of all apps, ten of each, more %t, %v", len(tasks), more, err)
	}
	if !slices.IsSortedFunc(tasks, func(a, b store.ReadyTask) int { return cmp.Or(a.ReadyAt.Compare(b.ReadyAt), cmp.Compare(a.ID, b.ID)) }) {
		t.Error("the tasks are not in the order of their time")
	}
	s.Close()
	awaitEnd(t, db)
	if n := rowsRead(t, db)["pending_tasks"] - before; n > 1000 { // 400 of the earliest, read and counted, and 56 by their apps
		t.Errorf("%d rows were read to return 56", n)
	}
}

// What the engine locks is for the engine to lock: a login without rights could
// stop all planning with advisory locks, and nothing told.
func TestOnlyDaemonsLockWhatTheEngineLocks(t *testing.T) {
	t.Parallel()
	db := surface(t)
	app := one[int32](t, db, `SELECT min(app_no) FROM scheduler.apps`)
	for role, want := range map[string]string{"scheduler_author": "42501", "scheduler_reader": "42501", "scheduler_admin": "42501", "scheduler_daemon": ""} {
		tx, err := db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `SET LOCAL ROLE `+role); err != nil {
			t.Fatal(err)
		}
		_, err = tx.Exec(t.Context(), `SELECT FROM scheduler.engine_locks WHERE app_no = $1 FOR UPDATE`, app)
		var state string
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
			state = pg.Code
		}
		if state != want {
			t.Errorf("%s locks a row: %v, want %q", role, err, want)
		}
		_ = tx.Rollback(t.Context())
	}
	// Whatever numbers are taken, an app is planned, pruned and books its quota.
	blocker, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Release()
	if _, err := blocker.Exec(t.Context(), `SELECT pg_advisory_lock(1397572688 + k, n) FROM generate_series(0, 2) k, generate_series(1, 100) n`); err != nil {
		t.Fatal(err)
	}
	s := opened(t, db.URL)
	if busy, err := s.PlanApp(t.Context(), app, time.Time{}, func(*store.PlanTx) error { return nil }); busy || err != nil {
		t.Errorf("plan: busy %v, %v", busy, err)
	}
	if one[int](t, db, `SELECT count(*) FROM pg_proc WHERE pronamespace = 'scheduler'::regnamespace AND prosrc LIKE '%advisory%'`) != 0 {
		t.Error("a function of the schema takes an advisory lock")
	}
	if _, err := blocker.Exec(t.Context(), `SELECT pg_advisory_unlock_all()`); err != nil {
		t.Fatal(err)
	}
}

// An installation's numbers come from a range of its own, below 2^53.
func TestIDRange(t *testing.T) {
	t.Parallel()
	db := surface(t)
	before := campaign(t, db)
	if first := one[int64](t, db, `SELECT scheduler.set_id_range(7)`); first != 70000000000001 {
		t.Errorf("the first number is %d", first)
	}
	if id := campaign(t, db); id != 70000000000001 || before > 1000 {
		t.Errorf("campaign %d after %d", id, before)
	}
	pend(t, db, before, 1, time.Now())
	if id := one[int64](t, db, `SELECT max(id) FROM scheduler.pending_tasks`); id < 70000000000001 || id > 70000000001000 {
		t.Errorf("task %d", id)
	}
	if one[int64](t, db, `SELECT scheduler.set_id_range(7)`) != 70000000000001 {
		t.Error("again is an error")
	}
	for _, bad := range []string{"6", "-1", "901", "NULL"} {
		if _, err := db.Exec(t.Context(), fmt.Sprintf(`SELECT scheduler.set_id_range(%s)`, bad)); err == nil {
			t.Errorf("range %s is taken", bad)
		}
	}
	if got := one[int](t, db, `SELECT id_range FROM scheduler.installation`); got != 7 {
		t.Errorf("the installation says range %d", got)
	}
}

// Authors finding 3: a daemon loaded whatever a row held. One beyond the bound is
// not loaded, and what is loaded at once is bounded.
func TestLoadingCampaignsIsBounded(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	var ids []int64
	for range 40 {
		ids = append(ids, campaign(t, db))
	}
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, sql := range []string{
		`SET session_replication_role = replica`,
		`UPDATE scheduler.campaigns SET request = jsonb_build_object('t', repeat('x', 900000))`,
		`UPDATE scheduler.campaigns SET request = jsonb_build_object('t', repeat('x', 3000000)) WHERE id % 10 = 0`,
		`RESET session_replication_role`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	seen, large := 0, 0
	err = s.LoadCampaigns(t.Context(), ids, func(some []store.Campaign) bool {
		total := 0
		for _, c := range some {
			seen++
			total += len(c.Request)
			if c.Unreadable != "" {
				large++
				if len(c.Request) > 0 || !strings.Contains(c.Unreadable, "too large for this program: 3000") {
					t.Errorf("campaign %d: %d bytes, %s", c.ID, len(c.Request), c.Unreadable)
				}
			}
		}
		if total > 17<<20 {
			t.Errorf("%d bytes at once", total)
		}
		return true
	})
	if err != nil || seen != 40 || large != 4 {
		t.Errorf("%d campaigns, %d of them too large, %v", seen, large, err)
	}
}

// Fault 20: audits and the targets of ended campaigns stayed for ever. An admin
// removes them; a daemon may not, and nothing goes that is still needed.
func TestPruneHistoryAndTargets(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	const day = 24 * time.Hour
	ended, living, fresh := campaign(t, db), campaign(t, db), campaign(t, db)
	for _, id := range []int64{ended, living, fresh} {
		run(t, db, `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, 't' || g FROM generate_series(1, 10) g`, id)
		run(t, db, `UPDATE scheduler.campaigns SET name = 'changed' WHERE id = $1`, id)
	}
	run(t, db, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = ANY($1)`, []int64{ended, fresh})
	run(t, db, `DELETE FROM scheduler.campaign_changes WHERE campaign_id <> $1`, living) // the planner has still to look at one
	run(t, db, `UPDATE scheduler.campaign_history SET changed_at = now() - interval '100 days' WHERE campaign_id <> $1`, fresh)
	run(t, db, `ALTER TABLE scheduler.campaigns DISABLE TRIGGER USER`)
	run(t, db, `UPDATE scheduler.campaigns SET updated_at = now() - interval '100 days' WHERE id <> $1`, fresh)
	run(t, db, `ALTER TABLE scheduler.campaigns ENABLE TRIGGER USER`)
	for what, want := range map[store.Kept][]int64{store.KeptHistory: {2, 0}, store.KeptTargets: {10, 0}} {
		for _, n := range want {
			if got, err := s.PruneStep(t.Context(), what, 90*day); err != nil || got != n {
				t.Errorf("%s: %d removed, want %d, %v", what, got, n, err)
			}
		}
		if _, err := s.PruneStep(t.Context(), what, time.Hour); err == nil {
			t.Errorf("%s of the last hour are removed", what)
		}
	}
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `SET LOCAL SESSION AUTHORIZATION scheduler_daemon`); err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(t.Context(), `SELECT scheduler.prune_history(now() - interval '90 days')`)
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
		t.Errorf("a daemon removes audits: %v", err)
	}
	if n := one[int](t, db, `SELECT count(*) FROM scheduler.campaign_targets WHERE campaign_id = ANY($1)`, []int64{living, fresh}); n != 20 {
		t.Errorf("%d targets of the others are left, want 20", n)
	}
}
