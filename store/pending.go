package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A ReadyTask is a pending task the dispatcher has to begin soon.
type ReadyTask struct {
	ID         int64
	AppNo      int32
	CampaignID int64
	Revision   int32
	Origin     string
	DueAt      time.Time
	ReadyAt    time.Time
	WaitsFor   string
}

// pendingApps begins a statement with the apps that have pending tasks, as app
// (app_no): it hops through the index from app to app, so that what one app has in
// store costs no more than one look.
const pendingApps = `
	WITH RECURSIVE hop AS (
		(SELECT app_no FROM scheduler.pending_tasks ORDER BY app_no LIMIT 1)
		UNION ALL
		SELECT (SELECT p.app_no FROM scheduler.pending_tasks p WHERE p.app_no > hop.app_no ORDER BY p.app_no LIMIT 1)
		  FROM hop WHERE hop.app_no IS NOT NULL
	), app AS (SELECT app_no FROM hop WHERE app_no IS NOT NULL)`

// Upcoming returns pending tasks that are ready before the given instant, in
// the order of (ready_at, id), at most perApp of each app and limit of all,
// leaving out the apps in without. share and shares split the apps among daemons:
// only apps whose number is share modulo shares are returned. What is not
// returned is not read.
func (s *Store) Upcoming(ctx context.Context, before time.Time, without []int32, share, shares, perApp, limit int) ([]ReadyTask, error) {
	rows, _ := s.pool.Query(ctx, pendingApps+`
		SELECT t.id, app.app_no, t.campaign_id, t.revision, t.origin::text, t.due_at, t.ready_at, coalesce(t.waits_for, '')
		  FROM app CROSS JOIN LATERAL (
			SELECT * FROM scheduler.pending_tasks p WHERE p.app_no = app.app_no AND p.ready_at <= $1 ORDER BY p.ready_at, p.id LIMIT $5) t
		 WHERE app.app_no % $4 = $3 AND app.app_no <> ALL($2)
		 ORDER BY t.ready_at, t.id LIMIT $6`, before, orEmpty(without), share, shares, perApp, limit)
	var out []ReadyTask
	var t ReadyTask
	_, err := pgx.ForEachRow(rows, []any{&t.ID, &t.AppNo, &t.CampaignID, &t.Revision, &t.Origin, &t.DueAt, &t.ReadyAt, &t.WaitsFor}, func() error {
		out = append(out, t)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read upcoming tasks: %w", err)
	}
	return out, nil
}

// A Miss is a pending task that is decided without a push.
type Miss struct {
	ID     int64
	Reason string
}

// Missed decides pending tasks as missed and returns those it got; tasks that
// are locked or gone are left alone.
func (s *Store) Missed(ctx context.Context, daemonID int64, misses []Miss) (map[int64]bool, error) {
	ids, reasons := make([]int64, len(misses)), make([]string, len(misses))
	for i, m := range misses {
		ids[i], reasons[i] = m.ID, m.Reason
	}
	rows, _ := s.pool.Query(ctx, `
		WITH mine AS MATERIALIZED (
			SELECT p.id FROM scheduler.pending_tasks p WHERE p.id = ANY($2) FOR UPDATE SKIP LOCKED
		), gone AS (
			DELETE FROM scheduler.pending_tasks p WHERE p.id = ANY(ARRAY(SELECT id FROM mine)) RETURNING p.*
		)
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at,
		       attempts, slices, accepted, target_count, daemon_id, reason)
		SELECT g.id, g.app_no, g.campaign_id, g.revision, ch.channel_no, g.origin, 'missed', g.due_at, clock_timestamp(), 0, 0, 0, 0, $1, u.reason
		  FROM gone g
		  JOIN unnest($2::bigint[], $3::text[]) AS u (id, reason) ON u.id = g.id
		  JOIN scheduler.campaigns c ON c.id = g.campaign_id
		  JOIN scheduler.channels ch ON ch.channel = c.channel
		RETURNING id`, daemonID, ids, reasons)
	out := make(map[int64]bool, len(misses))
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { out[id] = true; return nil }); err != nil {
		return nil, fmt.Errorf("record missed tasks: %w", err)
	}
	return out, nil
}
