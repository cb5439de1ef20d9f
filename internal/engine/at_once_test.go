package engine_test

import (
	"testing"
	"time"
)

// A campaign that pushes at once and was paused or rejected for longer than its
// window is not missed: it is pushed when it becomes active.
func TestAtOnceWaitsUntilItCanBePushed(t *testing.T) {
	t.Parallel()
	for status, activate := range map[string]string{
		"paused":   `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`,
		"rejected": `UPDATE scheduler.campaigns SET request = '{"fixed": true}' WHERE id = $1`,
	} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			app := r.app(t, "app", "webhook", nil)
			p := r.planner(t)
			id := r.insert(t, "app", "webhook", 0, nil, "status", "paused")
			plan(t, p, app, time.Time{})
			r.run(t, `SET session_replication_role = replica; UPDATE scheduler.campaigns SET status = '`+status+`', status_reason = 'why'; RESET session_replication_role`)
			// Looked at again, long after its window would have closed.
			r.run(t, `INSERT INTO scheduler.campaign_changes (app_no, campaign_id) SELECT app_no, id FROM scheduler.campaigns`)
			plan(t, p, app, time.Now().Add(48*time.Hour))
			if n := get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`); n != 0 {
				t.Fatalf("%d decisions on a campaign that could not be pushed", n)
			}
			if n, err := r.store.RevisitPaused(t.Context(), time.Now().Add(48*time.Hour), 10); err != nil || n != 0 {
				t.Errorf("the planner is asked %d times to look at it again, %v", n, err)
			}
			r.run(t, activate, id)
			plan(t, p, app, time.Time{})
			if n := get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks p JOIN scheduler.campaigns c ON c.id = p.campaign_id AND c.written_at = p.due_at AND c.updated_at <= p.due_at`); n != 1 {
				t.Errorf("%d tasks due when it became active, want 1", n)
			}
		})
	}
}
