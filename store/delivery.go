package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// runningOpen returns the condition that the catch-up window of a running task r,
// of its campaign c as it stands now, is open at an instant.
func runningOpen(at string) string {
	return windowOpen("r.app_no", "r.campaign_id", "coalesce(r.window_from, r.due_at)", "c.catch_up_window", at)
}

// A WaitingDelivery is a stored delivery whose next attempt is ready.
type WaitingDelivery struct {
	ID         int64
	TaskID     int64
	AppNo      int32
	CampaignID int64
	Revision   int32 // the campaign's
	Attempts   int32 // attempts so far; the fencing token of the next is one more
	ReadyAt    time.Time
	Quota      bool // its channel has a weekly quota
	Named      bool // its targets are stored
	Targets    int  // of its call as it was cut; 1 for a broadcast, whose targets only the provider knows
	Late       bool // so late that its task is spread anew before it may begin
}

// A WaitingApp is an app with deliveries that are ready soon.
type WaitingApp struct {
	AppNo      int32
	QuietUntil time.Time // when its current quiet hours end; zero: it is in none
}

// WaitingApps lists the apps with deliveries that are ready by the given time.
// It looks at one row of each app.
func (s *Store) WaitingApps(ctx context.Context, until time.Time) ([]WaitingApp, error) {
	rows, _ := s.db.Query(ctx, waitingAppsSQL, at(until))
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a WaitingApp, err error) {
		var quiet *time.Time
		err = row.Scan(&a.AppNo, &quiet)
		a.QuietUntil = orZero(quiet)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("list apps with deliveries: %w", err)
	}
	return out, nil
}

const waitingAppsSQL = `
	WITH RECURSIVE app AS (
		(SELECT s.app_no, s.ready_at FROM scheduler.slices s WHERE s.status = 'waiting' ORDER BY s.app_no, s.ready_at LIMIT 1)
		UNION ALL
		SELECT n.app_no, n.ready_at FROM app CROSS JOIN LATERAL (
			SELECT s.app_no, s.ready_at FROM scheduler.slices s WHERE s.status = 'waiting' AND s.app_no > app.app_no ORDER BY s.app_no, s.ready_at LIMIT 1) n
	)
	SELECT app.app_no, (SELECT scheduler.quiet_end(q.quiet_from, q.quiet_until, q.time_zone, clock_timestamp()) FROM scheduler.apps q WHERE q.app_no = app.app_no AND q.quiet_from IS NOT NULL)
	  FROM app WHERE ready_at <= coalesce($1, clock_timestamp())`

// A Reading says which of an app's deliveries to read: up to Limit, and of
// every Shares deliveries the one whose number is Share.
type Reading struct {
	AppNo         int32
	Limit         int
	Share, Shares int
	QuietUntil    time.Time // when the app's current quiet hours end; zero: it is in none
}

// Quiet says whether quiet hours last beyond the given time, so that only deliveries
// of campaigns that ignore them are read.
func (r Reading) Quiet(until time.Time) bool { return r.QuietUntil.After(until) }

// WaitingDeliveries returns the deliveries of each app that are ready by the
// given time, the earliest first, except those of the campaigns in without. Apps
// without a Reading cost nothing.
func (s *Store) WaitingDeliveries(ctx context.Context, until time.Time, readings []Reading, without []int64) ([]WaitingDelivery, error) {
	n := len(readings)
	apps, limits, share, shares, quiet := make([]int32, 0, n), make([]int, 0, n), make([]int, 0, n), make([]int, 0, n), make([]int32, 0, n)
	for _, r := range readings {
		if r.Quiet(until) {
			quiet = append(quiet, r.AppNo)
			continue
		}
		apps, limits, share, shares = append(apps, r.AppNo), append(limits, r.Limit), append(share, r.Share), append(shares, max(r.Shares, 1))
	}
	rows, _ := s.db.Query(ctx, waitingSQL, apps, limits, share, shares, at(until), orEmpty(without))
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[WaitingDelivery])
	if err == nil && len(quiet) > 0 {
		var more []WaitingDelivery
		rows, _ := s.db.Query(ctx, ignoringSQL, quiet, at(until), orEmpty(without))
		more, err = pgx.CollectRows(rows, pgx.RowToStructByPos[WaitingDelivery])
		out = append(out, more...)
	}
	if err != nil {
		return nil, fmt.Errorf("read waiting deliveries: %w", err)
	}
	return out, nil
}

// The reading is only a plan: the claim checks everything again. Tasks and
// campaigns are looked up one by one. If they were joined, the server might
// read all of them.
var waitingSQL = waitingColumns + `
	  FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::integer[]) AS a (app_no, most, share, shares)
	 CROSS JOIN LATERAL (
		SELECT s.id, s.task_id, s.slice_no, s.app_no, s.campaign_id, s.attempts, s.ready_at, s.maybe_sent FROM scheduler.slices s
		 WHERE s.app_no = a.app_no AND s.status = 'waiting' AND s.ready_at <= (SELECT coalesce($5, clock_timestamp())) AND s.id % a.shares = a.share AND s.campaign_id <> ALL($6)
		 ORDER BY s.app_no, s.ready_at, s.id LIMIT a.most) w
	 CROSS JOIN LATERAL (SELECT * FROM scheduler.running_tasks r WHERE r.id = w.task_id OFFSET 0) r
` + waitingOf

// waitingColumns are WaitingDelivery's fields in order, of deliveries w of running
// tasks r. waitingOf joins the rows that the other conditions need.
var waitingColumns = `
	SELECT w.id, w.task_id, w.app_no, w.campaign_id, c.revision, w.attempts, w.ready_at, coalesce(q.weekly_quota, ch.weekly_quota) > 0,
	       (SELECT true FROM scheduler.slice_targets x WHERE x.slice_id = w.id) IS TRUE,
	       greatest(1, least(ch.max_targets, r.targets - (w.slice_no - 1)::bigint * ch.max_targets)),
	       c.spread IS NOT NULL AND r.slices > 1 AND w.attempts = 0 AND NOT w.maybe_sent AND ` + tooLate(`w.ready_at`, `clock_timestamp()`)

var waitingOf = `
	 CROSS JOIN LATERAL (SELECT * FROM scheduler.campaigns c WHERE c.id = w.campaign_id OFFSET 0) c
	  JOIN scheduler.channels ch ON ch.channel = c.channel
	  LEFT JOIN scheduler.app_quotas q ON q.app_no = w.app_no AND q.channel = c.channel
	 WHERE c.status NOT IN ('paused', 'cancelled') AND (c.resend_unknown OR NOT w.maybe_sent) AND ` + runningOpen("clock_timestamp()") + `
	 ORDER BY w.ready_at, w.id`

// ignoringSQL reads, of apps in quiet hours, the deliveries that ignore them. It
// goes task by task, so that it does not go through a large audience that is held.
var ignoringSQL = waitingColumns + `
	  FROM (SELECT x.id, x.app_no, x.campaign_id, x.due_at, x.window_from, x.slices, x.targets, x.spread_moves FROM scheduler.running_tasks x
		 WHERE x.app_no = ANY($1) AND x.campaign_id <> ALL($3) AND scheduler.ignores_quiet_hours(x.campaign_id) ORDER BY x.due_at LIMIT 100) r
	 CROSS JOIN LATERAL (
		SELECT s.id, s.task_id, s.slice_no, s.app_no, s.campaign_id, s.attempts, s.ready_at, s.maybe_sent FROM scheduler.slices s
		 WHERE s.task_id = r.id AND s.finished_at IS NULL AND s.status = 'waiting' AND s.ready_at <= (SELECT coalesce($2, clock_timestamp())) LIMIT 128) w
` + waitingOf + ` LIMIT 512`

// A Delivery is a stored delivery whose attempt has begun.
type Delivery struct {
	ID           int64
	TaskID       int64
	SliceNo      int32
	AppNo        int32
	CampaignID   int64
	Attempts     int32 // this attempt's number, from 1; with the daemon it is the fencing token
	MaybeSent    bool  // an earlier attempt may have arrived
	DueAt        time.Time
	Revision     int32 // the campaign's
	TaskRevision int32 // the campaign's when the task began
	Targets      []string
}

// ClaimDeliveries begins one attempt of each of the deliveries that may begin. Such
// a delivery was not begun since it was read, its campaign still has that revision
// and allows it, and its window is open. This daemon has a lease, and neither the
// guard nor quiet hours hold the delivery. A delivery whose quota is used up is put
// off instead. The deliveries returned may be pushed at once; the others have to be
// read again.
//
// The claim locks the campaign against authors. So a change by an author either
// waits for the claim, which is short, or is seen by it. Deliveries of a
// campaign that an author holds do not begin, since the author may be about to
// forbid them.
func (s *Store) ClaimDeliveries(ctx context.Context, daemonID int64, now time.Time, want []WaitingDelivery) ([]Delivery, error) {
	n := len(want)
	ids, attempts, revisions, quotas := make([]int64, n), make([]int32, n), make([]int32, n), make([]bool, n)
	var booked []int64
	var apps []int32
	for i, w := range want {
		ids[i], attempts[i], revisions[i], quotas[i] = w.ID, w.Attempts, w.Revision, w.Quota
		if w.Quota {
			booked = append(booked, w.ID)
		}
		if !slices.Contains(apps, w.AppNo) {
			apps = append(apps, w.AppNo)
		}
	}
	var out []Delivery
	claim := func(q interface {
		Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	},
	) (err error) {
		rows, _ := q.Query(ctx, claimSQL, daemonID, at(now), ids, attempts, revisions, quotas, apps)
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Delivery])
		return err
	}
	err := error(nil)
	if booked == nil {
		err = claim(s.db)
	} else {
		err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
			if err := lockQuotas(ctx, tx, booked); err != nil {
				return err
			}
			return claim(tx) // a statement of its own, so that it sees what the locks waited for
		})
	}
	if err != nil {
		return nil, fmt.Errorf("claim deliveries: %w", err)
	}
	return out, nil
}

// The ids are looked up in the key's index one by one, so that the cost of a
// claim does not depend on the rows around them, alive or dead. The status is
// compared as text, so that the server does not go through the index of waiting
// deliveries instead.
var claimSQL = `
	WITH mine AS MATERIALIZED (
		SELECT s.id, s.app_no, s.ready_at, c.channel, c.revision, r.due_at, r.revision AS task_revision,
		       coalesce(q.weekly_quota, ch.weekly_quota) AS quota, coalesce($2, clock_timestamp()) AS now
		  FROM scheduler.slices s
		 CROSS JOIN LATERAL (SELECT array_position($3::bigint[], s.id) AS i) w
		  JOIN scheduler.running_tasks r ON r.id = s.task_id
		  JOIN scheduler.campaigns c ON c.id = s.campaign_id
		  JOIN scheduler.channels ch ON ch.channel = c.channel
		  LEFT JOIN scheduler.app_quotas q ON q.app_no = s.app_no AND q.channel = c.channel
		 WHERE s.id = ANY($3) AND s.status::text = 'waiting' AND s.attempts = ($4::integer[])[w.i] AND s.ready_at <= coalesce($2, clock_timestamp())
		   AND c.revision = ($5::integer[])[w.i] AND c.status NOT IN ('paused', 'cancelled') AND (c.resend_unknown OR NOT s.maybe_sent) AND ` + runningOpen("coalesce($2, clock_timestamp())") + `
		   AND (coalesce(q.weekly_quota, ch.weekly_quota) = 0 OR ($6::boolean[])[w.i])
		   AND EXISTS (SELECT FROM scheduler.daemons d WHERE d.id = $1 AND d.ended_at IS NULL AND d.leased_until > clock_timestamp()) AND ` + notHeld + `
		   AND ` + outsideQuiet("s.app_no", "s.campaign_id", "coalesce($2, clock_timestamp())", "$7::integer[]") + `
		   FOR SHARE OF c SKIP LOCKED FOR UPDATE OF s SKIP LOCKED
	), counted AS MATERIALIZED (
		SELECT m.*, CASE WHEN m.quota > 0 THEN row_number() OVER (PARTITION BY m.app_no, m.channel ORDER BY m.ready_at, m.id)
		       + (SELECT count(*) FROM scheduler.quota_uses u WHERE u.app_no = m.app_no AND u.channel = m.channel AND u.used_at > m.now - interval '168 hours') END AS n
		  FROM mine m
	), begun AS (
		UPDATE scheduler.slices s SET status = 'running', daemon_id = $1, attempts = s.attempts + 1, sent_at = m.now
		  FROM counted m WHERE s.id = m.id AND (m.quota = 0 OR m.n <= m.quota)
		RETURNING s.id, s.task_id, s.slice_no, s.app_no, s.campaign_id, s.attempts, s.maybe_sent, m.due_at, m.revision, m.task_revision,
		          m.channel, m.quota, m.now
	), booked AS (
		INSERT INTO scheduler.quota_uses (app_no, channel, slice_id, used_at, weekly_quota) SELECT app_no, channel, id, now, quota FROM begun WHERE quota > 0
	), later AS ( -- soon, since a booking may be given back and a quota raised before
		UPDATE scheduler.slices s SET reason = 'quota', ready_at = least(m.now + interval '1 minute', (
			SELECT u.used_at + interval '168 hours 1 microsecond' FROM scheduler.quota_uses u WHERE u.app_no = m.app_no AND u.channel = m.channel
			 ORDER BY u.used_at DESC OFFSET greatest(m.quota - 1, 0) LIMIT 1))
		  FROM counted m WHERE s.id = m.id AND m.quota > 0 AND m.n > m.quota
	)
	SELECT b.id, b.task_id, b.slice_no, b.app_no, b.campaign_id, b.attempts, b.maybe_sent, b.due_at, b.revision, b.task_revision,
	       coalesce(x.targets, '{}')
	  FROM begun b LEFT JOIN scheduler.slice_targets x ON x.slice_id = b.id`

// A DeliveryOutcome is how one attempt of a stored delivery ended.
type DeliveryOutcome struct {
	Delivery  Delivery
	DaemonID  int64     // the daemon that began the attempt
	Status    string    // accepted, failed or unknown; waiting: there is another attempt
	ReadyAt   time.Time // of the next attempt, when waiting
	Reason    string
	Code      string
	Message   string
	RequestID string
	MessageID string
	MaybeSent bool // the outcome was unknown
	Sent      bool // whether a call was made; an attempt without a call does not count
	KeepQuota bool // whether the call counts against a quota; it must be Sent
}

// RecordDeliveries writes the outcomes of attempts in one statement, and
// returns the ids of the deliveries it wrote. An attempt that was fenced off is
// not among them.
func (s *Store) RecordDeliveries(ctx context.Context, outcomes []DeliveryOutcome) (map[int64]bool, error) {
	n := len(outcomes)
	ids, daemons, attempts, statuses, ready := make([]int64, n), make([]int64, n), make([]int32, n), make([]string, n), make([]*time.Time, n)
	reasons, codes, messages, requests, messageIDs := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	maybe, sent, keep := make([]bool, n), make([]bool, n), make([]bool, n)
	for i, o := range outcomes {
		ids[i], daemons[i], attempts[i], statuses[i], ready[i] = o.Delivery.ID, o.DaemonID, o.Delivery.Attempts, o.Status, at(o.ReadyAt)
		reasons[i], codes[i], messages[i], requests[i], messageIDs[i] = o.Reason, o.Code, o.Message, o.RequestID, o.MessageID
		maybe[i], sent[i], keep[i] = o.MaybeSent, o.Sent, o.Sent && o.KeepQuota
	}
	rows, _ := s.db.Query(ctx, recordSQL, ids, daemons, attempts, statuses, ready, reasons, codes, messages, requests, messageIDs, maybe, sent, keep)
	recorded := make(map[int64]bool, n)
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { recorded[id] = true; return nil }); err != nil {
		return nil, fmt.Errorf("record deliveries: %w", err)
	}
	return recorded, nil
}

// The fence is the attempt's own daemon and number. An attempt without a call
// leaves no trace but its reason. A call that was or may have been made counts
// against its quota from its end, so that a window from there covers its
// arrival. Another attempt is another call and has a booking of its own.
const recordSQL = `
	WITH o AS MATERIALIZED (
		SELECT o.*, NOT o.sent AND o.status = 'waiting' AS put_off
		  FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
		              $11::boolean[], $12::boolean[], $13::boolean[])
		         AS o (id, daemon_id, attempts, status, ready_at, reason, code, message, request_id, message_id, maybe_sent, sent, keep)
	), done AS (
		UPDATE scheduler.slices s
		   SET status = o.status::scheduler.slice_status, daemon_id = NULL, ready_at = coalesce(o.ready_at, s.ready_at),
		       finished_at = CASE WHEN o.status = 'waiting' THEN NULL ELSE clock_timestamp() END,
		       reason = CASE WHEN o.put_off THEN coalesce(nullif(o.reason, ''), s.reason) ELSE nullif(o.reason, '') END,
		       code = CASE WHEN o.put_off THEN s.code ELSE nullif(o.code, '') END, message = CASE WHEN o.put_off THEN s.message ELSE nullif(o.message, '') END,
		       request_id = CASE WHEN o.put_off THEN s.request_id ELSE nullif(o.request_id, '') END,
		       message_id = CASE WHEN o.put_off THEN s.message_id ELSE nullif(o.message_id, '') END,
		       attempts = s.attempts - (NOT o.sent)::integer, maybe_sent = s.maybe_sent OR o.maybe_sent,
		       sent_at = CASE WHEN o.sent OR s.attempts > 1 THEN s.sent_at END
		  FROM o WHERE s.id = ANY($1) AND s.id = o.id AND s.daemon_id = o.daemon_id AND s.attempts = o.attempts AND s.status::text = 'running'
		RETURNING s.id, o.keep, o.status
	), kept AS (
		UPDATE scheduler.quota_uses q SET used_at = clock_timestamp(), slice_id = CASE WHEN done.status = 'waiting' THEN NULL ELSE q.slice_id END
		  FROM done WHERE q.slice_id = done.id AND done.keep
	), returned AS (
		DELETE FROM scheduler.quota_uses q USING done WHERE q.slice_id = done.id AND NOT done.keep
	)
	SELECT id FROM done`

// orEmpty turns nil, which is NULL to the database, into an empty array.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
