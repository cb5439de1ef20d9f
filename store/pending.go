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
	WindowFrom time.Time // where its catch-up window begins; zero: at DueAt
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
// only apps whose number is share modulo shares, and those in also, are returned.
// What is not returned is not read.
func (s *Store) Upcoming(ctx context.Context, before time.Time, without, also []int32, share, shares, perApp, limit int) ([]ReadyTask, error) {
	rows, _ := s.pool.Query(ctx, pendingApps+`
		SELECT t.id, app.app_no, t.campaign_id, t.revision, t.origin::text, t.due_at, t.ready_at, t.window_from, coalesce(t.waits_for, '')
		  FROM app CROSS JOIN LATERAL (
			SELECT * FROM scheduler.pending_tasks p WHERE p.app_no = app.app_no AND p.ready_at <= $1 ORDER BY p.ready_at, p.id LIMIT $5) t
		 WHERE (app.app_no % $4 = $3 OR app.app_no = ANY($7)) AND app.app_no <> ALL($2)
		 ORDER BY t.ready_at, t.id LIMIT $6`, before, orEmpty(without), share, shares, perApp, limit, orEmpty(also))
	var out []ReadyTask
	var t ReadyTask
	var window *time.Time
	_, err := pgx.ForEachRow(rows, []any{&t.ID, &t.AppNo, &t.CampaignID, &t.Revision, &t.Origin, &t.DueAt, &t.ReadyAt, &window, &t.WaitsFor}, func() error {
		t.WindowFrom = orZero(window)
		out = append(out, t)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read upcoming tasks: %w", err)
	}
	return out, nil
}

// Missed decides pending tasks as missed, each only while it has the Revision
// that the decision was made on: its campaign's window and policy are then as
// they were. Whether it is missed for quiet hours is asked again: they may have
// changed. It needs TaskID, Revision and Reason, and returns what it recorded;
// tasks that are locked, gone or changed are left alone.
func (s *Store) Missed(ctx context.Context, daemonID int64, misses []Decision) ([]Decision, error) {
	ids, revisions, reasons := make([]int64, len(misses)), make([]int32, len(misses)), make([]string, len(misses))
	for i, m := range misses {
		ids[i], revisions[i], reasons[i] = m.TaskID, m.Revision, m.Reason
	}
	rows, _ := s.pool.Query(ctx, `
		WITH mine AS MATERIALIZED (
			SELECT p.id, u.reason
			  FROM unnest($2::bigint[], $3::integer[], $4::text[]) AS u (id, revision, reason)
			  JOIN scheduler.pending_tasks p ON p.id = u.id AND p.revision = u.revision
			 WHERE u.reason <> '`+QuietReason+`' OR scheduler.quiet_skips(p.campaign_id, p.due_at) FOR UPDATE OF p SKIP LOCKED
		), gone AS (
			DELETE FROM scheduler.pending_tasks p USING mine WHERE p.id = mine.id RETURNING p AS task, mine.reason
		), ending AS (
			SELECT scheduler.unbegun(task, 'missed', reason, $1) AS e FROM gone
		)`+decideSQL, daemonID, ids, revisions, reasons)
	out, err := pgx.CollectRows(rows, scanDecision)
	if err != nil {
		return nil, fmt.Errorf("record missed tasks: %w", err)
	}
	return out, nil
}
