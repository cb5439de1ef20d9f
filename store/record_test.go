package store_test

import (
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// A task that has a decision already keeps it, and costs the others of its batch
// nothing.
func TestFirstDecisionStands(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		tasks, decided int
	}{
		{"two of eleven", 11, 2},
		{"the only one", 1, 1},
		{"all", 3, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			run(t, db, `INSERT INTO scheduler.apps (app_id, provider) VALUES ('a', 'mpaas')`)
			stock(t, db, c.tasks)
			s := opened(t, db.URL)
			daemon := enlisted(t, s)
			ids := one[[]int64](t, db, `SELECT array_agg(id) FROM scheduler.pending_tasks`)
			claim, tasks, err := s.Claim(t.Context(), daemon, time.Time{}, ids)
			if err != nil || len(tasks) != c.tasks {
				t.Fatalf("claimed %d tasks of %d: %v", len(tasks), c.tasks, err)
			}
			decisions := decisionsOf(t, db, claim)
			run(t, db, `
				INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count, reason)
				SELECT t.id, t.app_no, t.campaign_id, t.revision, 1, 'scheduled', 'missed', t.due_at, now(), 0, 0, 0, 0, 'first'
				  FROM scheduler.claimed_tasks t ORDER BY t.id LIMIT $1`, c.decided)

			recorded, err := s.Record(t.Context(), daemon, decisions, []int64{claim})
			if err != nil {
				t.Fatal(err)
			}
			if want := c.tasks - c.decided; len(recorded) != want {
				t.Errorf("%d decisions were recorded, want %d", len(recorded), want)
			}
			if n := one[int](t, db, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'missed' AND reason = 'first'`); n != c.decided {
				t.Errorf("%d first decisions stand, want %d", n, c.decided)
			}
			if n := one[int](t, db, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'succeeded' AND id = ANY($1)`, ids); n != c.tasks-c.decided {
				t.Errorf("%d others are decided, want %d", n, c.tasks-c.decided)
			}
			if n := one[int](t, db, `SELECT count(*) FROM scheduler.claims`); n != 0 {
				t.Errorf("%d claims are left", n)
			}
		})
	}
}

// decisionsOf decides every task of a claim.
func decisionsOf(t *testing.T, db *pgtest.DB, claim int64) []*store.Decision {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT id, app_no, campaign_id, due_at FROM scheduler.claimed_tasks ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []*store.Decision
	for rows.Next() {
		d := &store.Decision{ClaimID: claim, Revision: 1, Channel: "mpaas.push_multiple", Origin: "scheduled", Status: "succeeded"}
		if err := rows.Scan(&d.TaskID, &d.AppNo, &d.CampaignID, &d.DueAt); err != nil {
			t.Fatal(err)
		}
		d.StartedAt, d.SentAt = d.DueAt, d.DueAt
		out = append(out, d)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
