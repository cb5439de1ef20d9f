package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// RejectedCampaigns returns up to limit rejected campaigns after the given id, in
// the order of their ids.
func (s *Store) RejectedCampaigns(ctx context.Context, after int64, limit int) ([]int64, error) {
	rows, _ := s.db.Query(ctx, `SELECT id FROM scheduler.campaigns WHERE status = 'rejected' AND id > $1 ORDER BY id LIMIT $2`, after, limit)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list rejected campaigns: %w", err)
	}
	return ids, nil
}

// PendingCampaigns returns up to limit campaigns after the given id that have
// pending tasks, and so are pushed next, in the order of their ids.
func (s *Store) PendingCampaigns(ctx context.Context, after int64, limit int) ([]int64, error) {
	rows, _ := s.db.Query(ctx, hop("campaign_id", "campaign_id > $1")+` SELECT campaign_id FROM hop WHERE campaign_id IS NOT NULL LIMIT $2`, after, limit)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list campaigns with pending tasks: %w", err)
	}
	return ids, nil
}

// Accept makes rejected campaigns active again whose requests are good now. A
// trigger has them planned, and their windows decide on occurrences that have
// passed meanwhile. revisions holds the revision in which each was judged. A
// campaign that its author has changed since is left alone, since the change
// has it planned.
func (s *Store) Accept(ctx context.Context, revisions map[int64]int32) (accepted []int64, err error) {
	ids, revs := make([]int64, 0, len(revisions)), make([]int32, 0, len(revisions))
	for id, revision := range revisions {
		ids, revs = append(ids, id), append(revs, revision)
	}
	err = s.asDaemon(ctx, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			UPDATE scheduler.campaigns c SET status = 'active', status_reason = NULL
			  FROM unnest($1::bigint[], $2::integer[]) AS u (id, revision)
			 WHERE c.id = u.id AND c.revision = u.revision AND c.status = 'rejected'
			RETURNING c.id`, ids, revs)
		var err error
		accepted, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("accept campaigns: %w", err)
	}
	return accepted, nil
}

// Rejudge has the planner look at active campaigns that nobody has changed.
func (s *Store) Rejudge(ctx context.Context, ids []int64) error {
	_, err := s.db.Exec(ctx, `
		INSERT INTO scheduler.campaign_changes (app_no, campaign_id)
		SELECT c.app_no, c.id FROM scheduler.campaigns c WHERE c.id = ANY($1) AND c.status = 'active'`, ids)
	if err != nil {
		return fmt.Errorf("have campaigns judged again: %w", err)
	}
	return nil
}
