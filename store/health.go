package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Health is how the database and the work in it stand.
type Health struct {
	Now           time.Time // the database's clock
	ServerVersion int       // the major version
	ReadOnly      bool      // a standby, or demoted
	Daemons       int       // with a lease
	Unknown       int64     // tasks that wait for a ruling
	Overdue       int64     // tasks ready for longer than a minute, not begun, and not waiting for a quota
	Rejected      int64     // campaigns
	HeldSince     time.Time // zero: not held
	HeldReason    string
}

// A BusyApp has campaigns that are active.
type BusyApp struct {
	AppID, WorkspaceID, Provider string
	Campaigns                    int64
}

// Health reads how things stand, in one snapshot.
func (s *Store) Health(ctx context.Context) (Health, error) {
	var h Health
	var held *time.Time
	err := s.pool.QueryRow(ctx, pendingApps+`
		SELECT clock_timestamp(), current_setting('server_version_num')::integer / 10000,
		       pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
		       (SELECT count(*) FROM scheduler.daemons WHERE ended_at IS NULL AND leased_until > clock_timestamp()),
		       (SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'unknown'),
		       (SELECT count(*) FROM app JOIN scheduler.pending_tasks p ON p.app_no = app.app_no
		         WHERE p.ready_at < clock_timestamp() - interval '1 minute' AND p.waits_for IS NULL),
		       (SELECT count(*) FROM scheduler.campaigns WHERE status = 'rejected'),
		       (SELECT held_since FROM scheduler.hold), coalesce((SELECT reason FROM scheduler.hold), '')`).
		Scan(&h.Now, &h.ServerVersion, &h.ReadOnly, &h.Daemons, &h.Unknown, &h.Overdue, &h.Rejected, &held, &h.HeldReason)
	if err != nil {
		return Health{}, fmt.Errorf("read health: %w", err)
	}
	h.HeldSince = orZero(held)
	return h, nil
}

// BusyApps lists the apps that have active campaigns. Which of them a daemon has
// credentials for is not in the database.
func (s *Store) BusyApps(ctx context.Context) ([]BusyApp, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT a.app_id, a.workspace_id, a.provider, count(*)
		  FROM scheduler.apps a JOIN scheduler.campaigns c ON c.app_no = a.app_no AND c.status = 'active'
		 GROUP BY a.app_id, a.workspace_id, a.provider ORDER BY 1, 2`)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[BusyApp])
	if err != nil {
		return nil, fmt.Errorf("list busy apps: %w", err)
	}
	return out, nil
}
