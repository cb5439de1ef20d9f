package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A QuotaUsage is a row of scheduler.quota_usage.
type QuotaUsage struct {
	AppID, WorkspaceID, Channel string
	Weekly                      int
	Used                        int64
	NextFreeAt                  *time.Time // when the oldest call stops counting; nil: none counts
}

// QuotaUsages lists every quota with what is used of it now.
func (s *Store) QuotaUsages(ctx context.Context) ([]QuotaUsage, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT app_id, workspace_id, channel, weekly_quota, used, next_free_at FROM scheduler.quota_usage ORDER BY app_id, workspace_id, channel`)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[QuotaUsage])
	if err != nil {
		return nil, fmt.Errorf("list quotas: %w", err)
	}
	return out, nil
}
