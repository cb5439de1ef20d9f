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

// Upcoming returns pending tasks that are ready before the given instant, in
// the order of (ready_at, id), beginning after the given position and leaving
// out the apps in without. share and shares split the apps among daemons: only
// apps whose number is share modulo shares are returned.
func (s *Store) Upcoming(ctx context.Context, after ReadyTask, before time.Time, without []int32, share, shares, limit int) ([]ReadyTask, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT id, app_no, campaign_id, revision, origin::text, due_at, ready_at, coalesce(waits_for, '')
		  FROM scheduler.pending_tasks
		 WHERE (ready_at, id) > ($1, $2) AND ready_at <= $3 AND app_no % $5 = $4 AND app_no <> ALL($6)
		 ORDER BY ready_at, id LIMIT $7`, after.ReadyAt, after.ID, before, share, shares, orEmpty(without), limit)
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

// Missed decides pending tasks as missed, each only while it has the Revision
// that the decision was made on: its campaign's window and policy are then as
// they were. It needs TaskID, Revision and Reason, and returns what it recorded;
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
			  JOIN scheduler.pending_tasks p ON p.id = u.id AND p.revision = u.revision FOR UPDATE OF p SKIP LOCKED
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
