package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Statements ask for quiet hours in three ways: whether a push may begin now,
// until when an occurrence may be pushed, and, after a claim got nothing, until
// when a task is held. Where no app has quiet hours, each costs only a look at an
// empty list.

// QuietReason is the reason recorded for an occurrence that is missed because
// its campaign skips quiet hours.
const QuietReason = "quiet hours"

// WaitsForQuiet is the waits_for of a pending task that quiet hours hold.
const WaitsForQuiet = "the end of quiet hours"

// outsideQuiet returns the condition that a push of an app and a campaign may begin
// at an instant: the app has no quiet hours then, or the campaign ignores them. apps
// is an array that limits the apps whose quiet hours are read, or NULL.
func outsideQuiet(app, campaign, at, apps string) string {
	return `(` + app + ` <> ALL(ARRAY(SELECT q.app_no FROM scheduler.apps q WHERE q.quiet_from IS NOT NULL AND (` + apps + ` IS NULL OR q.app_no = ANY(` + apps + `))
		AND scheduler.quiet_end(q.quiet_from, q.quiet_until, q.time_zone, ` + at + `) IS NOT NULL)) OR scheduler.ignores_quiet_hours(` + campaign + `))`
}

// quietApps selects the apps with quiet hours.
const quietApps = `ARRAY(SELECT q.app_no FROM scheduler.apps q WHERE q.quiet_from IS NOT NULL)`

// windowOpen returns the condition that a catch-up window that counts from one
// instant is open at another. Quiet hours can only move the window's end back,
// so they are looked at last.
func windowOpen(app, campaign, from, window, at string) string {
	return `(scheduler.window_end(` + from + `, ` + window + `) > ` + at + ` OR ` + app + ` = ANY(` + quietApps + `) AND scheduler.held_window_end(` + app + `, ` + campaign + `, ` + from + `, ` + window + `) > ` + at + `)`
}

// windowEnd returns the SQL of the instant until which an occurrence may be pushed.
func windowEnd(app, campaign, from, window string) string {
	return `(CASE WHEN ` + app + ` = ANY(` + quietApps + `) THEN scheduler.held_window_end(` + app + `, ` + campaign + `, ` + from + `, ` + window + `) ELSE scheduler.window_end(` + from + `, ` + window + `) END)`
}

// pendingEnd and runningEnd are windowEnd of a pending task p and of a running task r,
// each of a campaign c.
var (
	pendingEnd = windowEnd("p.app_no", "p.campaign_id", "coalesce(p.window_from, p.due_at)", "c.catch_up_window")
	runningEnd = windowEnd("r.app_no", "r.campaign_id", "coalesce(r.window_from, r.due_at)", "c.catch_up_window")
)

// quietPolicy is the effective quiet_policy of a campaign, of a row named c. A
// campaign that ignores quiet hours needs an exemption, which is looked up only for
// such a campaign.
const quietPolicy = `CASE WHEN c.quiet_policy = 'ignore' THEN CASE WHEN scheduler.quiet_exempt(c.app_no, c.channel, c.name) THEN 'ignore' ELSE 'hold' END ELSE coalesce(c.quiet_policy, 'hold') END`

// HoldTasks returns those of the pending tasks that quiet hours hold now. It lets them
// wait until the quiet hours end or their windows close. It leaves out tasks of an app
// whose quiet hours are being changed by a transaction that has not committed.
func (s *Store) HoldTasks(ctx context.Context, ids []int64) ([]int64, error) {
	rows, _ := s.db.Query(ctx, `
		WITH mine AS MATERIALIZED (
			SELECT p.id, scheduler.quiet_end(a.quiet_from, a.quiet_until, a.time_zone, clock_timestamp()) AS ends,
			       scheduler.held_window_end(p.app_no, p.campaign_id, coalesce(p.window_from, p.due_at), c.catch_up_window) AS closes
			  FROM scheduler.pending_tasks p JOIN scheduler.apps a ON a.app_no = p.app_no AND a.quiet_from IS NOT NULL JOIN scheduler.campaigns c ON c.id = p.campaign_id
			 WHERE p.id = ANY($1) AND scheduler.ignores_quiet_hours(p.campaign_id) IS NOT TRUE
			   FOR UPDATE OF p SKIP LOCKED FOR SHARE OF a SKIP LOCKED
		)
		UPDATE scheduler.pending_tasks p SET ready_at = greatest(p.ready_at, least(m.ends, m.closes)), waits_for = coalesce(p.waits_for, $2)
		  FROM mine m WHERE p.id = m.id AND m.ends IS NOT NULL RETURNING p.id`, ids, WaitsForQuiet)
	held, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("hold tasks until quiet hours end: %w", err)
	}
	return held, nil
}

// QuietHours are the quiet hours of an app: times of day since midnight, in its zone.
type QuietHours struct {
	From, Until time.Duration
	Zone        string
}

// String returns the hours as people write them.
func (h QuietHours) String() string {
	clock := func(d time.Duration) string { return time.Time{}.Add(d).Format(time.TimeOnly) }
	return clock(h.From) + "–" + clock(h.Until) + " (" + h.Zone + ")"
}

// QuietHoursOf returns an app's quiet hours; zero: the app has none.
func (s *Store) QuietHoursOf(ctx context.Context, appNo int32) (h QuietHours, err error) {
	err = s.db.QueryRow(ctx, `SELECT quiet_from, quiet_until, time_zone FROM scheduler.apps WHERE app_no = $1 AND quiet_from IS NOT NULL`, appNo).
		Scan((*clockTime)(&h.From), (*clockTime)(&h.Until), &h.Zone)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return QuietHours{}, fmt.Errorf("read quiet hours: %w", err)
	}
	return h, nil
}

// QuietHoursFor returns the quiet hours of a campaign's app, zero where the app has
// none, and the campaign's effective quiet_policy: ignore only with an exemption.
func (s *Store) QuietHoursFor(ctx context.Context, campaignID int64) (h QuietHours, policy string, err error) {
	err = s.read(ctx, "read quiet hours", func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			SELECT a.quiet_from, a.quiet_until, a.time_zone, `+quietPolicy+` FROM scheduler.campaigns c JOIN scheduler.apps a ON a.app_no = c.app_no
			 WHERE c.id = $1 AND a.quiet_from IS NOT NULL`, campaignID).Scan((*clockTime)(&h.From), (*clockTime)(&h.Until), &h.Zone, &policy)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return h, policy, err
}

// A Quiet holds the quiet hours of each app that has some, and a mark that
// changes whenever an exemption from them changes.
type Quiet struct {
	Hours map[int32]QuietHours
	Mark  string
}

// Quiet reads the quiet hours of all apps.
func (s *Store) Quiet(ctx context.Context) (Quiet, error) {
	out := Quiet{Hours: make(map[int32]QuietHours)}
	rows, _ := s.db.Query(ctx, `
		SELECT a.app_no, a.quiet_from, a.quiet_until, a.time_zone, (SELECT count(*) || '/' || count(e.revoked_at) FROM scheduler.quiet_exemptions e)
		  FROM scheduler.apps a WHERE a.quiet_from IS NOT NULL`)
	var app int32
	var h QuietHours
	_, err := pgx.ForEachRow(rows, []any{&app, (*clockTime)(&h.From), (*clockTime)(&h.Until), &h.Zone, &out.Mark}, func() error {
		out.Hours[app] = h
		return nil
	})
	if err != nil {
		return Quiet{}, fmt.Errorf("read quiet hours: %w", err)
	}
	return out, nil
}

// clockTime scans a time of day; NULL is zero.
type clockTime time.Duration

// ScanTime implements pgtype.TimeScanner.
func (d *clockTime) ScanTime(v pgtype.Time) error {
	*d = clockTime(time.Duration(v.Microseconds) * time.Microsecond)
	return nil
}
