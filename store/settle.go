package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Placed says what PlaceDeliveries did.
type Placed struct {
	Rows  int     // deliveries that were moved
	Ended []int64 // tasks of which deliveries were ended
}

// PlaceDeliveries gives up to limit waiting deliveries the state that their
// campaign, as it stands, wants. Deliveries of a paused campaign are held, and
// wait again when it is resumed. Deliveries of a cancelled or deleted campaign,
// deliveries whose window has closed, and deliveries that may not be sent again
// end. Call it again while it returns limit rows. No author's change waits for
// it, and ClaimDeliveries does not depend on it. Deliveries end only under the
// campaign's lock, and campaigns that an author holds are passed over.
func (s *Store) PlaceDeliveries(ctx context.Context, now time.Time, limit int) (Placed, error) {
	var out Placed
	if err := s.db.QueryRow(ctx, placeSQL, at(now), limit).Scan(&out.Rows, &out.Ended); err != nil {
		return Placed{}, fmt.Errorf("place deliveries: %w", err)
	}
	return out, nil
}

// openIn returns the condition that the running task r has a delivery in one of
// the statuses. It is a value and not an EXISTS, for which the server may read
// every delivery.
func openIn(statuses, more string) string {
	return `(SELECT true FROM scheduler.slices s WHERE s.task_id = r.id AND s.finished_at IS NULL AND s.status IN (` + statuses + `)` + more + ` LIMIT 1) IS TRUE`
}

// Each of the three looks into the deliveries is a range of one index, so that
// the other deliveries of a large audience cost nothing.
var placeSQL = `
	WITH task AS MATERIALIZED (
		SELECT r.id, c.resend_unknown, CASE WHEN c.status = 'cancelled' THEN 'cancelled' WHEN NOT ` + runningOpen("coalesce($1, clock_timestamp())") + ` THEN 'late'
		       WHEN c.status = 'paused' THEN 'held' ELSE 'waiting' END AS place
		  FROM (SELECT r.id, r.app_no, r.campaign_id, r.due_at, r.window_from FROM scheduler.running_tasks r CROSS JOIN LATERAL (
			SELECT c.status, c.catch_up_window, c.resend_unknown FROM scheduler.campaigns c WHERE c.id = r.campaign_id OFFSET 0) c
		 WHERE CASE WHEN c.status = 'cancelled' OR NOT ` + runningOpen("coalesce($1, clock_timestamp())") + ` THEN ` + openIn(`'waiting', 'held'`, "") + `
		            WHEN c.status = 'paused' THEN ` + openIn(`'waiting'`, "") + ` ELSE ` + openIn(`'held'`, "") + ` END
		    OR NOT c.resend_unknown AND ` + openIn(`'waiting', 'held'`, " AND s.maybe_sent") + ` OFFSET 0) r
		 CROSS JOIN LATERAL (SELECT c.status, c.catch_up_window, c.resend_unknown FROM scheduler.campaigns c WHERE c.id = r.campaign_id FOR SHARE SKIP LOCKED) c
		 LIMIT 1000
	), orphan AS MATERIALIZED (
		SELECT r.id, false AS resend_unknown, 'deleted' AS place FROM scheduler.running_tasks r
		 WHERE (SELECT true FROM scheduler.campaigns c WHERE c.id = r.campaign_id) IS NULL AND ` + openIn(`'waiting', 'held'`, "") + ` LIMIT 1000
	), mine AS MATERIALIZED (
		SELECT s.id, t.place, t.resend_unknown
		  FROM (SELECT * FROM task UNION ALL SELECT * FROM orphan) t CROSS JOIN LATERAL (
			SELECT * FROM (SELECT x.id FROM scheduler.slices x WHERE x.task_id = t.id AND x.finished_at IS NULL AND x.status = 'waiting' AND t.place <> 'waiting'
				LIMIT $2 FOR UPDATE SKIP LOCKED) a
			 UNION
			SELECT * FROM (SELECT x.id FROM scheduler.slices x WHERE x.task_id = t.id AND x.finished_at IS NULL AND x.status = 'held' AND t.place <> 'held'
				LIMIT $2 FOR UPDATE SKIP LOCKED) b
			 UNION
			SELECT * FROM (SELECT x.id FROM scheduler.slices x WHERE x.task_id = t.id AND x.finished_at IS NULL AND x.maybe_sent AND x.status IN ('waiting', 'held')
				AND NOT t.resend_unknown LIMIT $2 FOR UPDATE SKIP LOCKED) c) s
		 LIMIT $2
	), placed AS (
		UPDATE scheduler.slices s
		   SET status = CASE WHEN m.place = 'late' THEN scheduler.ended('missed', s.maybe_sent)
		                     WHEN m.place IN ('cancelled', 'deleted') THEN scheduler.ended('cancelled', s.maybe_sent)
		                     WHEN s.maybe_sent AND NOT m.resend_unknown THEN 'unknown' ELSE m.place::scheduler.slice_status END,
		       finished_at = CASE WHEN m.place IN ('late', 'cancelled', 'deleted') OR s.maybe_sent AND NOT m.resend_unknown THEN clock_timestamp() END,
		       reason = CASE WHEN m.place IN ('cancelled', 'deleted') THEN 'campaign ' || m.place
		                     WHEN m.place = 'late' AND s.reason = 'quota' AND NOT s.maybe_sent THEN s.reason
		                     WHEN m.place = 'late' THEN CASE WHEN s.maybe_sent THEN 'no certain outcome' ELSE 'not sent' END || ' within the catch-up window' || coalesce(': ' || s.reason, '')
		                     WHEN s.maybe_sent AND NOT m.resend_unknown THEN 'resend_unknown was taken back' ELSE s.reason END
		  FROM mine m WHERE s.id = m.id AND s.id = ANY(ARRAY(SELECT id FROM mine))
		RETURNING s.task_id, s.finished_at
	)
	SELECT count(*), coalesce(array_agg(DISTINCT task_id) FILTER (WHERE finished_at IS NOT NULL), '{}') FROM placed`

// Settle decides up to limit running tasks whose deliveries have all ended, and
// returns the decisions. It looks at the given tasks, or at all when tasks is
// nil.
func (s *Store) Settle(ctx context.Context, daemonID int64, tasks []int64, limit int) ([]Decision, error) {
	sql, args := settleAllSQL, []any{daemonID, limit}
	if tasks != nil {
		sql, args = settleSQL, append(args, tasks)
	}
	rows, _ := s.db.Query(ctx, sql, args...)
	out, err := pgx.CollectRows(rows, scanDecision)
	if err != nil {
		return nil, fmt.Errorf("settle tasks: %w", err)
	}
	return out, nil
}

// A sliced task has succeeded when every delivery was accepted. Else it is
// unknown when one delivery is unknown. Else it has failed, is cancelled or
// missed; a mixture of these counts as failed. The reason has the counts.
var settleSQL, settleAllSQL = settling(`r.id = ANY($3) AND `), settling(``)

func settling(which string) string {
	return `
	WITH over AS MATERIALIZED (
		SELECT r.* FROM scheduler.running_tasks r
		 WHERE ` + which + `(SELECT true FROM scheduler.slices s WHERE s.task_id = r.id AND s.finished_at IS NULL LIMIT 1) IS NULL
		 LIMIT $2 FOR UPDATE SKIP LOCKED
	), tally AS MATERIALIZED ( -- counts alone, since there may be a million
		SELECT o.id, t.* FROM over o CROSS JOIN LATERAL (
		SELECT min(s.sent_at) AS sent_at, sum(s.attempts)::integer AS attempts, count(*)::integer AS slices,
		       (count(*) FILTER (WHERE s.status = 'accepted'))::integer AS accepted,
		       count(*) FILTER (WHERE s.status = 'failed') AS failed, count(*) FILTER (WHERE s.status = 'unknown') AS unknown,
		       count(*) FILTER (WHERE s.status = 'cancelled') AS cancelled, count(*) FILTER (WHERE s.status = 'missed') AS missed,
		       min(s.slice_no) FILTER (WHERE s.status <> 'accepted' AND s.reason IS NOT NULL) AS first, min(s.slice_no) AS only
		  FROM scheduler.slices s WHERE s.task_id = o.id) t WHERE t.slices > 0
	), gone AS (
		DELETE FROM scheduler.running_tasks r USING tally WHERE r.id = tally.id
	), ruled AS (
		SELECT o.*, t.sent_at, t.attempts, t.slices AS n, t.accepted, s.code, s.message, s.request_id, s.message_id, x.targets AS list,
		       CASE WHEN t.accepted = t.slices THEN 'succeeded' WHEN t.unknown > 0 THEN 'unknown'
		            WHEN t.failed > 0 OR t.accepted > 0 THEN 'failed' WHEN t.cancelled > 0 THEN 'cancelled' ELSE 'missed' END AS status,
		       CASE WHEN t.accepted = t.slices AND t.sent_at IS NULL THEN 'empty audience' -- all targets were deleted since
		            WHEN t.accepted = t.slices THEN nullif(concat_ws('; ', scheduler.left_out(o.id), o.spread_note), '') WHEN t.slices = 1 THEN coalesce(f.reason, 'refused')
		            ELSE format('%s of %s deliveries accepted, %s failed, %s unknown, %s cancelled, %s missed%s',
		                        t.accepted, t.slices, t.failed, t.unknown, t.cancelled, t.missed, coalesce('; first: ' || f.reason, '')) || coalesce('; ' || scheduler.left_out(o.id), '') || coalesce('; ' || o.spread_note, '') END AS why
		  FROM over o JOIN tally t USING (id)
		  LEFT JOIN scheduler.slices f ON f.task_id = o.id AND f.slice_no = t.first
		  LEFT JOIN scheduler.slices s ON s.task_id = o.id AND s.slice_no = t.only AND t.slices = 1
		  LEFT JOIN scheduler.slice_targets x ON x.slice_id = s.id
	), ending AS (
		SELECT (r.id, r.app_no, r.campaign_id, r.revision, NULL, r.origin, r.status, r.due_at, r.started_at, r.sent_at,
		        r.attempts, r.n, r.accepted, r.targets, $1::bigint, r.why, CASE WHEN r.n = 1 THEN r.code END, CASE WHEN r.n = 1 THEN r.message END,
		        CASE WHEN r.n = 1 THEN r.request_id END, CASE WHEN r.n = 1 THEN r.message_id END, r.list)::scheduler.ending AS e
		  FROM ruled r
	)` + decideSQL
}
