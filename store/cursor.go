package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Cursor is how far a campaign is planned.
type Cursor struct {
	CampaignID int64
	Revision   int32
	Active     bool
	NextDueAt  time.Time // zero: no occurrence is left to become a task
}

// SaveCursors stores how far campaigns are planned.
func (p *PlanTx) SaveCursors(ctx context.Context, cursors []Cursor) error {
	n := len(cursors)
	ids, revisions, active, next := make([]int64, n), make([]int32, n), make([]bool, n), make([]*time.Time, n)
	for i, c := range cursors {
		ids[i], revisions[i], active[i], next[i] = c.CampaignID, c.Revision, c.Active, at(c.NextDueAt)
	}
	_, err := p.tx.Exec(ctx, `
		INSERT INTO scheduler.campaign_cursors AS k (campaign_id, app_no, revision, active, next_due_at)
		SELECT u.id, $1, u.revision, u.active, u.next_due_at
		  FROM unnest($2::bigint[], $3::integer[], $4::boolean[], $5::timestamptz[]) AS u (id, revision, active, next_due_at)
		    ON CONFLICT (campaign_id) DO UPDATE SET revision = excluded.revision, active = excluded.active, next_due_at = excluded.next_due_at
		 WHERE (k.revision, k.active, k.next_due_at) IS DISTINCT FROM (excluded.revision, excluded.active, excluded.next_due_at)`,
		p.AppNo, ids, revisions, active, next)
	if err != nil {
		return fmt.Errorf("save cursors: %w", err)
	}
	return nil
}

// Rewind lowers the cursors of campaigns whose tasks were displaced.
func (p *PlanTx) Rewind(ctx context.Context, displaced []PendingTask) error {
	n := len(displaced)
	ids, dues := make([]int64, n), make([]time.Time, n)
	for i, t := range displaced {
		ids[i], dues[i] = t.CampaignID, t.DueAt
	}
	_, err := p.tx.Exec(ctx, `
		UPDATE scheduler.campaign_cursors k SET next_due_at = least(k.next_due_at, u.due_at)
		  FROM (SELECT id, min(due_at) AS due_at FROM unnest($1::bigint[], $2::timestamptz[]) AS x (id, due_at) GROUP BY id) u
		 WHERE k.campaign_id = u.id`, ids, dues)
	if err != nil {
		return fmt.Errorf("rewind cursors: %w", err)
	}
	return nil
}

// Forget drops the cursors of deleted campaigns.
func (p *PlanTx) Forget(ctx context.Context, ids []int64) error {
	if _, err := p.tx.Exec(ctx, `DELETE FROM scheduler.campaign_cursors WHERE campaign_id = ANY($1)`, ids); err != nil {
		return fmt.Errorf("forget cursors: %w", err)
	}
	return nil
}

// NextWaiting returns the earliest occurrence of the app's active campaigns that
// is no task yet; zero: there is none.
func (p *PlanTx) NextWaiting(ctx context.Context) (time.Time, error) {
	var next *time.Time
	err := p.tx.QueryRow(ctx, `
		SELECT min(next_due_at) FROM scheduler.campaign_cursors WHERE app_no = $1 AND active AND next_due_at IS NOT NULL`, p.AppNo).Scan(&next)
	if err != nil {
		return time.Time{}, fmt.Errorf("read what waits: %w", err)
	}
	return orZero(next), nil
}

// Rooms returns the apps that have fewer pending tasks than they may have, and
// occurrences that wait for the room: the sweep behind the planner's hints.
func (s *Store) Rooms(ctx context.Context) ([]int32, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT x.app_no
		  FROM (SELECT a.app_no, a.pending_limit,
		               EXISTS (SELECT FROM scheduler.campaign_cursors k WHERE k.app_no = a.app_no AND k.active AND k.next_due_at IS NOT NULL) AS waiting
		          FROM scheduler.apps a OFFSET 0) x -- the dear count is only for those that something waits for
		 CROSS JOIN LATERAL (SELECT count(*) AS pending FROM scheduler.pending_tasks WHERE app_no = x.app_no AND slot IS NOT NULL) p
		 WHERE x.waiting AND p.pending < x.pending_limit`)
	out, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return nil, fmt.Errorf("list apps with room: %w", err)
	}
	return out, nil
}
