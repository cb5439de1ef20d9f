package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/store"
)

// What pages show of one app is what is stored of it, tasks of deleted campaigns
// included, whether the app has few campaigns or many.
func TestPagesOfAnApp(t *testing.T) {
	t.Parallel()
	db, s := newManyTasks(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	// The app c has two campaigns of the thousand, one of which is gone; d has none.
	exec(`INSERT INTO scheduler.apps (app_id, provider) VALUES ('c', 'webhook'), ('d', 'webhook')`)
	exec(`SET session_replication_role = replica;
		UPDATE scheduler.campaigns SET app_id = 'c', app_no = (SELECT app_no FROM scheduler.apps WHERE app_id = 'c') WHERE id IN (7, 8);
		UPDATE scheduler.decided_tasks SET app_no = (SELECT app_no FROM scheduler.apps WHERE app_id = 'c'), sent_at = due_at + interval '3 ms' WHERE campaign_id IN (7, 8);
		DELETE FROM scheduler.pending_tasks WHERE campaign_id IN (7, 8);
		SET session_replication_role = origin`)
	exec(`SELECT scheduler.delete_campaign(8)`)
	since := time.Now().Add(-48 * time.Hour).Truncate(time.Hour)
	for _, app := range []string{"a", "c", "d", "nobody"} {
		t.Run(app, func(t *testing.T) {
			tasks := pagedTasks(t, s, store.Filter{AppID: app, Limit: 150}, store.TaskCursor{})
			got := []int64{}
			for _, r := range tasks {
				got = append(got, r.ID)
			}
			rows, _ := db.Query(t.Context(), `SELECT id FROM scheduler.tasks WHERE app_id = $1 ORDER BY due_at DESC, id DESC LIMIT 150`, app)
			want, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tasks (-want +got):\n%.2000s", diff)
			}
			if len(tasks) == 150 {
				checkNextPage(t, s, app, tasks)
			}
			days, err := s.CountDays(t.Context(), time.Now(), []time.Time{since, since.Add(24 * time.Hour), since.Add(25 * time.Hour)}, store.Filter{AppID: app})
			if err != nil {
				t.Fatal(err)
			}
			counted := int64(0)
			for _, d := range days {
				counted += d.Tasks
			}
			var stored int64
			err = db.QueryRow(t.Context(), `SELECT count(*) FROM (SELECT FROM scheduler.tasks WHERE app_id = $1 AND due_at >= $2 AND due_at < $2 + interval '25 hours' LIMIT 10001) x`, app, since).Scan(&stored)
			if more := len(days) > 0 && days[0].More; more != (stored > 10_000) {
				t.Errorf("more than are counted: %v, of %d", more, stored)
			}
			if err != nil || counted != stored {
				t.Errorf("%d tasks are counted by day, want %d (%v)", counted, stored, err)
			}
			checkLateness(t, s, app, since, map[string]int64{"c": 2 * 48 * 3600 / 1000})
		})
	}
}

// Stretches that have begun and those to come are counted by different statements.
func TestCountDaysBeforeAndAfterNow(t *testing.T) {
	t.Parallel()
	db, s := newManyTasks(t)
	run(t, db, `SET session_replication_role = replica`)
	run(t, db, `
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count, reason)
		SELECT 2000000 + n, 1, n, 1, 9, 'scheduled', 'cancelled', now() + n * interval '6 hours', now(), 0, 0, 0, 0, 'so' FROM generate_series(1, 12) n`)
	now := time.Now()
	for name, hours := range map[string][]float64{
		"before and after": {-0.4, -0.2, 0.2, 19, 37, 90}, "before": {-0.6, -0.4, -0.2}, "after": {1, 13, 14, 60}, "one stretch around now": {-0.1, 30},
	} {
		bounds := make([]time.Time, len(hours))
		for i, h := range hours {
			bounds[i] = now.Add(time.Duration(h * float64(time.Hour))).Truncate(time.Microsecond)
		}
		days, err := s.CountDays(t.Context(), now, bounds, store.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]int64)
		for _, d := range days {
			got[fmt.Sprintf("%d %s", d.Day, d.Status)] += d.Tasks
			if d.More {
				t.Errorf("%s: stretch %d has more", name, d.Day)
			}
		}
		want := make(map[string]int64)
		for i := range bounds[1:] {
			rows, _ := db.Query(t.Context(), `SELECT status, count(*) FROM scheduler.tasks WHERE due_at >= $1 AND due_at < $2 GROUP BY status`, bounds[i], bounds[i+1])
			var status string
			var n int64
			if _, err := pgx.ForEachRow(rows, []any{&status, &n}, func() error { want[fmt.Sprintf("%d %s", i, status)] = n; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// pagedTasks goes on from where a page ended since it took too long, as a reader would.
func pagedTasks(t *testing.T, s *store.Store, f store.Filter, after store.TaskCursor) (out []store.TaskRow) {
	t.Helper()
	limit := f.Limit
	for {
		page, err := s.PageTasks(t.Context(), f, after)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, page.Rows...)
		if f.Limit = limit - len(out); f.Limit <= 0 || page.DownTo.IsZero() {
			return out
		}
		after = store.TaskCursor{DueAt: page.DownTo}
	}
}

func checkNextPage(t *testing.T, s *store.Store, app string, first []store.TaskRow) {
	t.Helper()
	middle := first[74]
	next := pagedTasks(t, s, store.Filter{AppID: app, Limit: 75}, store.TaskCursor{DueAt: middle.DueAt, ID: middle.ID})
	if diff := cmp.Diff(first[75:], next); diff != "" {
		t.Errorf("the next page (-want +got):\n%.2000s", diff)
	}
}

// checkLateness wants about as many pushes, since one falls due on an edge or not.
func checkLateness(t *testing.T, s *store.Store, app string, since time.Time, want map[string]int64) {
	t.Helper()
	hours, err := s.Lateness(t.Context(), since, time.Hour, 48, 100, store.Filter{AppID: app})
	if err != nil {
		t.Fatal(err)
	}
	pushes := int64(0)
	for _, h := range hours {
		pushes += h.Tasks
		if h.P99 != 3*time.Millisecond {
			t.Errorf("%v: p99 is %v", h.From, h.P99)
		}
		for i, n := range h.Within {
			if bound := store.LatenessBounds[i]; bound < h.P99 && n != 0 || bound >= h.P99 && n != h.Tasks {
				t.Errorf("%v: %d of %d within %v", h.From, n, h.Tasks, bound)
			}
		}
	}
	if pushes < want[app]-2 || pushes > want[app]+2 {
		t.Errorf("%d pushes were late, want %d", pushes, want[app])
	}
}

// A task that runs counts too, since its first call has begun.
func TestLatenessOfARunningTask(t *testing.T) {
	t.Parallel()
	db, s := newManyTasks(t)
	_, err := db.Exec(t.Context(), `SET session_replication_role = replica;
		INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
		SELECT 5000000, c.app_no, c.id, 1, 'scheduled', now() - interval '10 minutes', now(), 2, 200 FROM scheduler.campaigns c WHERE c.id = 7;
		INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, status, ready_at, attempts, sent_at, daemon_id)
		SELECT 5000000, n, c.app_no, c.id, 'running', now(), 1, now() - interval '9 minutes', 1 FROM scheduler.campaigns c, generate_series(1, 2) n WHERE c.id = 7;
		SET session_replication_role = origin`)
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range []string{"", "a"} {
		steps, err := s.Lateness(t.Context(), time.Now().Add(-2*time.Hour), time.Hour, 3, 100, store.Filter{AppID: app})
		if err != nil {
			t.Fatal(err)
		}
		if len(steps) != 1 || steps[0].Tasks != 1 || steps[0].P50 != time.Minute { // no other task of these has begun
			t.Errorf("of the app %q: %+v", app, steps)
		}
	}
}

// What waits for a ruling is found by its own index, of any app, and what is shown of an
// app by its campaigns: neither goes through what others have decided.
func TestPagesReadLittle(t *testing.T) {
	t.Parallel()
	db, s := newManyTasks(t)
	if _, err := db.Exec(t.Context(), `INSERT INTO scheduler.apps (app_id, provider) VALUES ('d', 'webhook')`); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]store.Filter{
		"unknown":           {Statuses: []string{"unknown"}},
		"unknown of an app": {Statuses: []string{"unknown"}, AppID: "d"},
		"an app without":    {AppID: "d"},
		"no such app":       {AppID: "nobody", Statuses: []string{"missed"}},
	} {
		total := 0.0
		_, err := s.PageSteps(t.Context(), f, 10*time.Minute, func(tx pgx.Tx, sql string, args []any) (int, error) {
			total += explained(t, tx, sql, args...)
			return 0, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if total > 300 { // those of two minutes are looked at in any case
			t.Errorf("%s: looked at %.0f of %d decided tasks", name, total, manyTasks)
		}
	}
}

// What is held is counted up to the bound, and the first pushes are those of the view.
func TestHeldUpTo(t *testing.T) {
	t.Parallel()
	db, s := newManyTasks(t)
	held := func() (store.Hold, []store.HeldPush) {
		t.Helper()
		h, pushes, err := s.HeldUpTo(t.Context(), 20)
		if err != nil {
			t.Fatal(err)
		}
		return h, pushes
	}
	if h, pushes := held(); !h.Since.IsZero() || len(pushes) > 0 {
		t.Errorf("not held, and it says %+v", h)
	}
	if _, err := s.HoldAll(t.Context(), "so", ""); err != nil {
		t.Fatal(err)
	}
	for _, overdue := range []int{5, store.MaxHeld + 1} {
		_, err := db.Exec(t.Context(), fmt.Sprintf(`SET session_replication_role = replica; DELETE FROM scheduler.pending_tasks WHERE due_at < now();
			INSERT INTO scheduler.pending_tasks (id, app_no, campaign_id, revision, origin, due_at, ready_at)
			SELECT 2000000 + n, 1, n %% 500 + 1, 1, 'immediate', now() - n * interval '1 second', now() - n * interval '1 second' FROM generate_series(1, %d) n;
			SET session_replication_role = origin`, overdue))
		if err != nil {
			t.Fatal(err)
		}
		exact, want, err := s.Held(t.Context(), 20)
		if err != nil {
			t.Fatal(err)
		}
		h, pushes := held()
		if diff := cmp.Diff(exact, h); diff != "" {
			t.Errorf("hold (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, pushes); diff != "" {
			t.Errorf("pushes (-want +got):\n%s", diff)
		}
	}
	_, err := db.Exec(t.Context(), `SET session_replication_role = replica;
		INSERT INTO scheduler.pending_tasks (id, app_no, campaign_id, revision, origin, due_at, ready_at)
		SELECT 3000000 + n, 1, n + 600, 1, 'immediate', now() - interval '1 day', now() FROM generate_series(1, 300) n;
		SET session_replication_role = origin`)
	if h, _ := held(); err != nil || h.Overdue != store.MaxHeld+1 || h.Coming != 3 {
		t.Errorf("%d overdue and %d to come are counted, want %d and 3 (%v)", h.Overdue, h.Coming, store.MaxHeld+1, err)
	}
}
