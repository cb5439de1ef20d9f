package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// week is the length of a quota's rolling window.
const week = 7 * 24 * time.Hour

// quotaAllows says whether the task may begin by its channel's quota, and
// otherwise when the next call may be made. It books nothing, since a booking
// belongs to a call and is made by the claim of the call. It also counts tasks
// that have begun and whose call waits, so that no more tasks begin than calls may
// be made. And it counts the tasks that are due before this one and wait for the
// same quota. The task that is due earliest comes first, and of several the
// campaign with the smallest id, whichever asks first. A lock makes looking and
// beginning one step for all daemons. It is held until the transaction ends, which
// is at once.
func quotaAllows(ctx context.Context, tx pgx.Tx, t *startingTask) (ok bool, free time.Time, err error) {
	var quota int
	if err := lockRow(ctx, tx, quotaLock, t.appNo); err != nil {
		return false, time.Time{}, err
	}
	err = tx.QueryRow(ctx, `
		SELECT coalesce(q.weekly_quota, c.weekly_quota)
		  FROM scheduler.channels c LEFT JOIN scheduler.app_quotas q ON q.app_no = $1 AND q.channel = c.channel
		 WHERE c.channel = $2`, t.appNo, t.channel).Scan(&quota)
	if err != nil {
		return false, time.Time{}, fmt.Errorf("read quota: %w", err)
	}
	if quota == 0 {
		return true, time.Time{}, nil
	}
	// This is a statement of its own, so that it sees the changes for which the lock
	// waited. This task's turn comes when enough uses have left the window for the
	// tasks before it and for itself.
	var used, before int
	var turn *time.Time
	err = tx.QueryRow(ctx, `
		WITH n AS (SELECT
		       (SELECT count(*) FROM scheduler.quota_uses WHERE app_no = $1 AND channel = $2 AND used_at > $3) AS used,
		       (SELECT count(*) FROM scheduler.running_tasks r JOIN scheduler.campaigns c ON c.id = r.campaign_id
		         WHERE r.app_no = $1 AND c.channel = $2 AND c.status NOT IN ('paused', 'cancelled')
		           AND `+openIn(`'waiting'`, "")+`)
		     + (SELECT count(*) FROM (SELECT FROM scheduler.pending_tasks p JOIN scheduler.campaigns c ON c.id = p.campaign_id
		         WHERE p.app_no = $1 AND c.channel = $2 AND c.status = 'active' AND (p.due_at, p.campaign_id) < ($5, $6)
		           AND `+windowOpen("p.app_no", "p.campaign_id", "coalesce(p.window_from, p.due_at)", "c.catch_up_window", "$7")+` LIMIT $4) x) AS before) -- more than the quota tells no more
		SELECT n.used, n.before, CASE WHEN n.before < $4 THEN
		       (SELECT used_at FROM scheduler.quota_uses WHERE app_no = $1 AND channel = $2 ORDER BY used_at DESC OFFSET $4 - 1 - n.before LIMIT 1) END
		  FROM n`,
		t.appNo, t.channel, t.now.Add(-week), quota, t.dueAt, t.campaignID, t.now).Scan(&used, &before, &turn)
	switch {
	case err != nil:
		return false, time.Time{}, fmt.Errorf("read quota: %w", err)
	case used+before < quota:
		return true, time.Time{}, nil
	case turn == nil: // the tasks before it may use the whole quota, or not
		return false, t.now.Add(time.Minute), nil
	}
	return false, turn.Add(week + time.Microsecond), nil
}

// lookAgain returns when to ask again for a quota that is free at the given time. It
// is at most a minute from now, since a booking may be given back or the quota raised
// before that time.
func lookAgain(now, free time.Time) time.Time {
	if soon := now.Add(time.Minute); free.After(soon) {
		return soon
	}
	return free
}

// lockQuotas makes counting and booking one step for all daemons, for the apps
// of the deliveries. All daemons take the locks in the same order. The locks
// end with the transaction, which is at once.
func lockQuotas(ctx context.Context, tx pgx.Tx, deliveries []int64) error {
	_, err := tx.Exec(ctx, `
		SELECT FROM scheduler.engine_locks l
		 WHERE l.name = $2 AND l.app_no = ANY(ARRAY(SELECT DISTINCT s.app_no FROM scheduler.slices s WHERE s.id = ANY($1)))
		 ORDER BY l.app_no FOR UPDATE`, deliveries, quotaLock)
	if err != nil {
		return fmt.Errorf("lock quotas: %w", err)
	}
	return nil
}

// A QuotaUsage is a row of scheduler.quota_usage.
type QuotaUsage struct {
	AppID, WorkspaceID, Channel string
	Weekly                      int
	Used                        int64
	NextFreeAt                  *time.Time // when the oldest call stops counting; nil: none counts
}

// QuotaUsages lists every quota and how much of it is used now.
func (s *Store) QuotaUsages(ctx context.Context) ([]QuotaUsage, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT app_id, workspace_id, channel, weekly_quota, used, next_free_at FROM scheduler.quota_usage ORDER BY app_id, workspace_id, channel`)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[QuotaUsage])
	if err != nil {
		return nil, fmt.Errorf("list quotas: %w", err)
	}
	return out, nil
}

// QuotaFills lists for a page the fullest quotas of an app, or of all apps where appID
// is empty.
func (s *Store) QuotaFills(ctx context.Context, appID string, limit int) ([]QuotaUsage, error) {
	where := Filter{AppID: appID}.common("u")
	most := where.limit(limit)
	return readRows(ctx, s, "read how full quotas are", pgx.RowToStructByPos[QuotaUsage], `
		SELECT u.app_id, u.workspace_id, u.channel, u.weekly_quota, u.used, u.next_free_at FROM scheduler.quota_usage u
		 WHERE `+where.sql()+` ORDER BY u.used::float8 / u.weekly_quota DESC, u.app_id, u.workspace_id, u.channel LIMIT `+most, where.args...)
}
