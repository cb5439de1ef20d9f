package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Progress is how far a running task of several deliveries is.
type Progress struct {
	TaskID     int64
	AppNo      int32
	CampaignID int64
	Done       int32
	Total      int32
	Targets    int64
}

// Progress lists up to limit running tasks of several deliveries, those that
// began first at the head.
func (s *Store) Progress(ctx context.Context, limit int) ([]Progress, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT r.id, r.app_no, r.campaign_id,
		       r.slices - (SELECT count(*) FROM scheduler.slices s WHERE s.task_id = r.id AND s.finished_at IS NULL)::integer, r.slices, r.targets
		  FROM scheduler.running_tasks r WHERE r.slices > 1 ORDER BY r.started_at LIMIT $1`, limit)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Progress])
	if err != nil {
		return nil, fmt.Errorf("read progress: %w", err)
	}
	return out, nil
}
