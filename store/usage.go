package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Usage is how full everything is that has a bound, and what waits.
type Usage struct {
	Apps    []AppFill
	Quotas  []QuotaFill
	Unknown int64         // tasks that wait for a ruling
	Overdue time.Duration // of the pending task that has been ready for the longest; zero: none is
	Claims  int64         // claims whose outcomes are not all recorded
	Held    bool
}

// An AppFill is a row of scheduler.app_usage.
type AppFill struct {
	AppID, WorkspaceID string
	Limit, Pending     int64
}

// A QuotaFill is a row of scheduler.quota_usage.
type QuotaFill struct {
	AppID, WorkspaceID, Channel string
	Quota, Used                 int64
}

// Usage reads the usage of at most limit apps and limit quotas, the fullest
// first.
func (s *Store) Usage(ctx context.Context, limit int) (Usage, error) {
	var u Usage
	var overdue float64
	b := &pgx.Batch{}
	b.Queue(`
		SELECT (SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'unknown'), (SELECT count(*) FROM scheduler.claims),
		       coalesce((SELECT extract(epoch FROM clock_timestamp() - min(ready_at)) FROM scheduler.pending_tasks), 0)::float8, NOT (` + released + `)`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&u.Unknown, &u.Claims, &overdue, &u.Held) })
	b.Queue(`
		SELECT app_id, workspace_id, pending_limit, pending FROM scheduler.app_usage ORDER BY percent_full DESC, app_id, workspace_id LIMIT $1`, limit).
		Query(func(rows pgx.Rows) (err error) {
			u.Apps, err = pgx.CollectRows(rows, pgx.RowToStructByPos[AppFill])
			return err
		})
	b.Queue(`
		SELECT app_id, workspace_id, channel, weekly_quota, used FROM scheduler.quota_usage
		 ORDER BY used::float8 / weekly_quota DESC, app_id, workspace_id, channel LIMIT $1`, limit).
		Query(func(rows pgx.Rows) (err error) {
			u.Quotas, err = pgx.CollectRows(rows, pgx.RowToStructByPos[QuotaFill])
			return err
		})
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	u.Overdue = time.Duration(max(overdue, 0) * float64(time.Second))
	return u, nil
}
