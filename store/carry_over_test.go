package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// What an author's change does to tasks that have not begun, in the author's own
// transaction, and the cap that holds whoever writes.

// pend stores a pending task as the planner does; slot 0 is none, for an
// immediate task.
func pend(t *testing.T, db *pgtest.DB, campaignID int64, slot int, due time.Time) {
	t.Helper()
	run(t, db, `INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		SELECT app_no, nullif($2, 0), id, revision, (CASE WHEN $2 = 0 THEN 'immediate' ELSE 'scheduled' END)::scheduler.task_origin, $3, $3
		  FROM scheduler.campaigns WHERE id = $1`, campaignID, slot, due)
}

// sliced stores a running task with one delivery in each of the statuses.
func sliced(t *testing.T, db *pgtest.DB, campaignID int64, due time.Time, statuses ...string) {
	t.Helper()
	id := one[int64](t, db, `INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
		SELECT nextval('scheduler.task_ids'), app_no, id, revision, 'scheduled', $2, $2, $3, 0
		  FROM scheduler.campaigns WHERE id = $1 RETURNING id`, campaignID, due, len(statuses))
	for i, s := range statuses {
		run(t, db, `INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at, status, daemon_id, finished_at)
			SELECT $1, $2, app_no, id, $4, $5::scheduler.slice_status, CASE WHEN $5 = 'running' THEN 1 END,
			       CASE WHEN $5 IN ('waiting', 'held', 'running') THEN NULL ELSE now() END FROM scheduler.campaigns WHERE id = $3`,
			id, i+1, campaignID, due, s)
	}
}

// carried is what a campaign's tasks and deliveries look like: due in hours from
// the base, and status.
func carried(t *testing.T, db *pgtest.DB, campaignID int64, base time.Time) []string {
	t.Helper()
	rows, _ := db.Query(t.Context(), `
		SELECT round(extract(epoch FROM due_at - $2) / 3600) || ' ' || status || coalesce(': ' || reason, '') || ' r' || revision
		  FROM scheduler.tasks WHERE campaign_id = $1 AND status <> 'running'
		UNION ALL SELECT 'delivery ' || slice_no || ' ' || status FROM scheduler.deliveries WHERE campaign_id = $1 AND id IS NOT NULL
		UNION ALL SELECT 'rewind ' || round(extract(epoch FROM rewind_to - $2) / 3600) FROM scheduler.campaign_changes
		           WHERE campaign_id = $1 AND rewind_to IS NOT NULL
		 ORDER BY 1`, campaignID, base)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestChangesCarryOverToTasks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, sql string
		want      []string
	}{
		{"edit of the content", `UPDATE scheduler.campaigns SET request = '{"a": 1}' WHERE id = $1`, []string{
			"-1 pending r2", "1 pending r2", "2 pending r2",
			"delivery 1 pending", "delivery 2 running", "delivery 3 succeeded",
		}},
		{"edit of the strategy", `UPDATE scheduler.campaigns SET strategy_content = strategy_content || '{"time": "13:00:00"}' WHERE id = $1`, []string{
			"-1 cancelled: replaced by revision 2 r1",
			"delivery 1 pending", "delivery 2 running", "delivery 3 succeeded", "rewind 1",
		}},
		{"pause", `UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`, []string{
			"delivery 1 held", "delivery 2 running", "delivery 3 succeeded", "rewind -1",
		}},
		{"cancel", `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, []string{
			"-1 cancelled: campaign cancelled r1", "1 cancelled: campaign cancelled r1", "2 cancelled: campaign cancelled r1",
			"delivery 1 cancelled", "delivery 2 running", "delivery 3 succeeded",
		}},
		{"delete", `DELETE FROM scheduler.campaigns WHERE id = $1`, []string{
			"-1 cancelled: campaign deleted r1", "1 cancelled: campaign deleted r1", "2 cancelled: campaign deleted r1",
			"delivery 1 cancelled", "delivery 2 running", "delivery 3 succeeded",
		}},
		{"nothing new", `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, []string{
			"-1 pending r1", "1 pending r1", "2 pending r1",
			"delivery 1 pending", "delivery 2 running", "delivery 3 succeeded",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			id := campaign(t, db)
			base := time.Now().Truncate(time.Second)
			for i, hours := range []int{-1, 1, 2} {
				pend(t, db, id, i+1, base.Add(time.Duration(hours)*time.Hour))
			}
			sliced(t, db, id, base.Add(-2*time.Hour), "waiting", "running", "accepted")
			run(t, db, c.sql, id)
			if diff := cmp.Diff(c.want, carried(t, db, id, base)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestResumeLetsHeldDeliveriesGoOn(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := campaign(t, db)
	base := time.Now()
	sliced(t, db, id, base, "waiting", "failed")
	run(t, db, `UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`, id)
	run(t, db, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
	want := []string{"delivery 1 pending", "delivery 2 failed"}
	if diff := cmp.Diff(want, carried(t, db, id, base)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An author's change that is rolled back has done nothing.
func TestRolledBackChangeLeavesTasksAlone(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := campaign(t, db)
	pend(t, db, id, 1, time.Now().Add(time.Hour))
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, db, `SELECT status FROM scheduler.tasks`); got != "pending" {
		t.Errorf("the task is %s", got)
	}
}

func TestDeleteNamesTheAuthor(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := campaign(t, db)
	run(t, db, `DELETE FROM scheduler.campaigns WHERE id = $1`, id)
	if !one[bool](t, db, `SELECT changed_by = current_user AND action = 'delete' AND strategy_ended AND before ->> 'name' = 'weekly'
		FROM scheduler.campaign_history WHERE campaign_id = $1`, id) {
		t.Error("the audit of the deletion is wrong")
	}
}

func TestCap(t *testing.T) {
	t.Parallel()
	db := surface(t)
	run(t, db, `UPDATE scheduler.apps SET pending_limit = 3 WHERE app_id = 'hook'`)
	id := campaign(t, db)
	due := time.Now().Add(time.Hour)
	for slot := range 3 {
		pend(t, db, id, slot+1, due.Add(time.Duration(slot)*time.Hour))
	}
	beyond := `INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		SELECT app_no, $2, id, 1, 'scheduled', $3, $3 FROM scheduler.campaigns WHERE id = $1`
	if got := refused(t, db, beyond, id, 4, due.Add(10*time.Hour)); !strings.Contains(got.Message, "slot 4 is over the pending limit of 3") {
		t.Errorf("message %q", got.Message)
	}
	if _, err := db.Exec(t.Context(), beyond, id, 3, due.Add(10*time.Hour)); err == nil {
		t.Error("a slot was given twice")
	}
	_ = refused(t, db, beyond, id, nil, due.Add(10*time.Hour)) // scheduled without a slot
	_ = refused(t, db, `UPDATE scheduler.pending_tasks SET slot = 7 WHERE slot = 3`)
	pend(t, db, id, 0, due.Add(20*time.Hour)) // immediate ones do not count

	// A lowered limit holds at once, and what is beyond it returns to the plan.
	run(t, db, `DELETE FROM scheduler.campaign_changes`)
	run(t, db, `UPDATE scheduler.apps SET pending_limit = 1 WHERE app_id = 'hook'`)
	if n := one[int](t, db, `SELECT count(slot) FROM scheduler.pending_tasks`); n != 1 {
		t.Errorf("%d scheduled tasks pending under a limit of 1", n)
	}
	got := one[[]string](t, db, `SELECT array_agg(campaign_id || coalesce(' ' || (rewind_to = $1), '') ORDER BY campaign_id) FROM scheduler.campaign_changes`,
		due.Add(time.Hour).Truncate(time.Microsecond))
	if diff := cmp.Diff([]string{"0", fmt.Sprint(id, " true")}, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// The limit is lowered in a transaction that stays open while the planner goes
// on: both cannot have their way.
func TestCapHoldsAgainstALimitBeingLowered(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := campaign(t, db)
	due := time.Now().Add(time.Hour)
	admin, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(t.Context(), `UPDATE scheduler.apps SET pending_limit = 1 WHERE app_id = 'hook'`); err != nil {
		t.Fatal(err)
	}
	planned := make(chan error, 1)
	go func() {
		_, err := db.Exec(context.WithoutCancel(t.Context()), `INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
			SELECT app_no, g, id, 1, 'scheduled', $2::timestamptz + g * interval '1 hour', $2::timestamptz + g * interval '1 hour'
			  FROM scheduler.campaigns, generate_series(1, 2) g WHERE id = $1`, id, due)
		planned <- err
	}()
	waitFor(t, "the planner to wait for the admin, or to end", func() bool {
		return len(planned) > 0 || one[bool](t, db, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	})
	if err := admin.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = <-planned
	if n := one[int](t, db, `SELECT count(slot) FROM scheduler.pending_tasks`); n > 1 {
		t.Errorf("%d tasks pending under a limit of 1; the planner got %v", n, err)
	}
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
