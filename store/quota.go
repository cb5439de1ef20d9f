package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// week is the length of a quota's rolling window.
const week = 7 * 24 * time.Hour

// reserveQuota books one call of the app on the channel, or says when the next
// one frees up. The lock makes counting and booking one step for all
// daemons; it is held until the transaction ends, which is at once.
func reserveQuota(ctx context.Context, tx pgx.Tx, appNo int32, channel string, now time.Time) (use int64, free time.Time, err error) {
	var quota int
	if err := lockRow(ctx, tx, quotaLock, appNo); err != nil {
		return 0, time.Time{}, err
	}
	err = tx.QueryRow(ctx, `
		SELECT coalesce(q.weekly_quota, c.weekly_quota)
		  FROM scheduler.channels c LEFT JOIN scheduler.app_quotas q ON q.app_no = $1 AND q.channel = c.channel
		 WHERE c.channel = $2`, appNo, channel).Scan(&quota)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("lock quota: %w", err)
	}
	if quota == 0 {
		return -1, time.Time{}, nil // no quota: nothing to book
	}
	// A statement of its own, so that it sees what the lock waited for.
	err = tx.QueryRow(ctx, `
		INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota)
		SELECT $1, $2, $3, $5::integer WHERE (SELECT count(*) FROM scheduler.quota_uses WHERE app_no = $1 AND channel = $2 AND used_at > $4) < $5
		RETURNING id`, appNo, channel, now, now.Add(-week), quota).Scan(&use)
	if err == nil {
		return use, time.Time{}, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return 0, time.Time{}, fmt.Errorf("book quota: %w", err)
	}
	// The window is free again when the quota-th newest use leaves it.
	var oldest time.Time
	err = tx.QueryRow(ctx, `
		SELECT used_at FROM scheduler.quota_uses WHERE app_no = $1 AND channel = $2 ORDER BY used_at DESC OFFSET $3 LIMIT 1`,
		appNo, channel, quota-1).Scan(&oldest)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("read quota: %w", err)
	}
	return 0, oldest.Add(week + time.Microsecond), nil
}

// lookAgain is when to ask for a quota again that frees up at a given time: sooner,
// since a booking may be given back and a quota raised before.
func lookAgain(now, free time.Time) time.Time {
	if soon := now.Add(time.Minute); free.After(soon) {
		return soon
	}
	return free
}

// bookSlices books a call for those of the slices whose channel has a quota and
// that hold no booking yet, puts off those that get none, and returns the rest.
func bookSlices(ctx context.Context, tx pgx.Tx, slices []Slice, now time.Time) ([]Slice, error) {
	ids := make([]int64, len(slices))
	for i, sl := range slices {
		ids[i] = sl.ID
	}
	rows, _ := tx.Query(ctx, `
		SELECT s.id, s.app_no, ch.channel, coalesce($2, clock_timestamp())
		  FROM scheduler.slices s
		  JOIN scheduler.campaigns c ON c.id = s.campaign_id
		  JOIN scheduler.channels ch ON ch.channel = c.channel
		  LEFT JOIN scheduler.app_quotas q ON q.app_no = s.app_no AND q.channel = ch.channel
		 WHERE s.id = ANY($1) AND coalesce(q.weekly_quota, ch.weekly_quota) > 0
		   AND NOT EXISTS (SELECT FROM scheduler.quota_uses u WHERE u.slice_id = s.id)
		 ORDER BY s.app_no, s.id`, ids, at(now)) // the quotas' locks in one order for all
	type unbooked struct {
		ID      int64
		AppNo   int32
		Channel string
		Now     time.Time
	}
	wanting, err := pgx.CollectRows(rows, pgx.RowToStructByPos[unbooked])
	if err != nil {
		return nil, fmt.Errorf("read quotas: %w", err)
	}
	late := make(map[int64]bool)
	for _, w := range wanting {
		use, free, err := reserveQuota(ctx, tx, w.AppNo, w.Channel, w.Now)
		if err != nil {
			return nil, err
		}
		if use > 0 {
			_, err = tx.Exec(ctx, `UPDATE scheduler.quota_uses SET slice_id = $2 WHERE id = $1`, use, w.ID)
		} else {
			late[w.ID] = true
			_, err = tx.Exec(ctx, `
				UPDATE scheduler.slices SET status = 'waiting', daemon_id = NULL, attempts = attempts - 1, ready_at = $2, reason = 'quota' WHERE id = $1`, w.ID, lookAgain(w.Now, free))
		}
		if err != nil {
			return nil, fmt.Errorf("book quota: %w", err)
		}
	}
	return withoutIDs(slices, late), nil
}

func withoutIDs(list []Slice, ids map[int64]bool) []Slice {
	return slices.DeleteFunc(list, func(sl Slice) bool { return ids[sl.ID] })
}

// settleQuota is the part of a statement that says what the outcome of the
// attempts in done means for their bookings: a call that was or may have been
// made counts from its end, so that a window counted from there covers its
// arrival; one that was certainly not made gives the booking back; one that is
// only put off keeps it.
func settleQuota(o SliceOutcome) string {
	waiting := o.Status == "waiting"
	switch {
	case o.KeepQuota && waiting: // another attempt is another call
		return `, booking AS (UPDATE scheduler.quota_uses q SET used_at = clock_timestamp(), slice_id = NULL FROM done WHERE q.slice_id = done.id)`
	case o.KeepQuota:
		return `, booking AS (UPDATE scheduler.quota_uses q SET used_at = clock_timestamp() FROM done WHERE q.slice_id = done.id)`
	case o.Sent || !waiting:
		return `, booking AS (DELETE FROM scheduler.quota_uses q USING done WHERE q.slice_id = done.id)`
	default:
		return ``
	}
}
