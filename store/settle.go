package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Settle decides running tasks whose deliveries have all ended, having first
// given up on those that waited past the catch-up window. It returns the tasks
// it decided.
func (s *Store) Settle(ctx context.Context, daemonID int64, now time.Time, limit int) ([]Settled, error) {
	var out []Settled
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			WITH late AS MATERIALIZED ( -- but for those an author is changing at this moment
				SELECT s.id FROM scheduler.running_tasks r JOIN scheduler.slices s ON s.task_id = r.id
				 WHERE s.status IN ('waiting', 'held') AND r.expires_at < coalesce($1, clock_timestamp()) FOR UPDATE OF s SKIP LOCKED
			)
			UPDATE scheduler.slices s
			   SET status = CASE WHEN s.maybe_sent THEN 'unknown' ELSE 'missed' END::scheduler.slice_status, finished_at = clock_timestamp(),
			       reason = CASE WHEN s.maybe_sent THEN 'no certain outcome' ELSE 'not sent' END || ' within the catch-up window' || coalesce(': ' || s.reason, '')
			  FROM late WHERE s.id = late.id`, at(now))
		if err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, settleSQL, daemonID, limit)
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Settled])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settle tasks: %w", err)
	}
	return out, nil
}

// Settled is a running task that has just been decided.
type Settled struct {
	TaskID     int64
	AppNo      int32
	CampaignID int64
	Channel    string
	DueAt      time.Time
	SentAt     *time.Time
	Status     string
	Reason     string
	Slices     int32
	Accepted   int32
	Targets    int64
}

// The decision of a sliced task: succeeded when every delivery was accepted;
// else unknown when one is unknown; else failed, cancelled or missed, where
// failed also stands for a mixture. The counts go into the reason.
const settleSQL = `
	WITH over AS MATERIALIZED (
		SELECT r.* FROM scheduler.running_tasks r
		 WHERE NOT EXISTS (SELECT FROM scheduler.slices s WHERE s.task_id = r.id AND s.finished_at IS NULL)
		 LIMIT $2 FOR UPDATE SKIP LOCKED
	), tally AS MATERIALIZED (
		SELECT o.id, min(s.sent_at) AS sent_at, sum(s.attempts)::integer AS attempts, count(*)::integer AS slices,
		       (count(*) FILTER (WHERE s.status = 'accepted'))::integer AS accepted,
		       count(*) FILTER (WHERE s.status = 'failed') AS failed, count(*) FILTER (WHERE s.status = 'unknown') AS unknown,
		       count(*) FILTER (WHERE s.status = 'cancelled') AS cancelled, count(*) FILTER (WHERE s.status = 'missed') AS missed,
		       (array_agg(s.reason ORDER BY s.slice_no) FILTER (WHERE s.status <> 'accepted' AND s.reason IS NOT NULL))[1] AS reason,
		       (array_agg(s.code ORDER BY s.slice_no) FILTER (WHERE s.code IS NOT NULL))[1] AS code,
		       (array_agg(s.message ORDER BY s.slice_no) FILTER (WHERE s.message IS NOT NULL))[1] AS message,
		       (array_agg(s.request_id ORDER BY s.slice_no) FILTER (WHERE s.request_id IS NOT NULL))[1] AS request_id,
		       (array_agg(s.message_id ORDER BY s.slice_no) FILTER (WHERE s.message_id IS NOT NULL))[1] AS message_id,
		       CASE WHEN count(*) = 1 THEN (array_agg(array_to_json(s.targets)))[1] END AS targets
		  FROM over o JOIN scheduler.slices s ON s.task_id = o.id GROUP BY o.id
	), gone AS (
		DELETE FROM scheduler.running_tasks r USING tally WHERE r.id = tally.id
	), ruled AS (
		SELECT o.*, t.sent_at, t.attempts, t.slices AS n, t.accepted, t.code, t.message, t.request_id, t.message_id, t.targets AS list,
		       CASE WHEN t.accepted = t.slices THEN 'succeeded' WHEN t.unknown > 0 THEN 'unknown'
		            WHEN t.failed > 0 OR t.accepted > 0 THEN 'failed' WHEN t.cancelled > 0 THEN 'cancelled' ELSE 'missed' END AS status,
		       CASE WHEN t.accepted = t.slices AND t.sent_at IS NULL THEN 'empty audience' -- all targets were deleted since
		            WHEN t.accepted = t.slices THEN scheduler.left_out(o.id) WHEN t.slices = 1 THEN coalesce(t.reason, 'refused')
		            ELSE format('%s of %s deliveries accepted, %s failed, %s unknown, %s cancelled, %s missed%s',
		                        t.accepted, t.slices, t.failed, t.unknown, t.cancelled, t.missed, coalesce('; first: ' || t.reason, '')) || coalesce('; ' || scheduler.left_out(o.id), '') END AS why
		  FROM over o JOIN tally t USING (id)
	)
	INSERT INTO scheduler.decided_tasks AS d (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, started_at, sent_at, decided_at,
	       attempts, slices, accepted, target_count, daemon_id, reason, code, message, request_id, message_id, targets)
	SELECT r.id, r.app_no, r.campaign_id, r.revision,
	       coalesce((SELECT ch.channel_no FROM scheduler.channels ch JOIN scheduler.campaigns c ON c.channel = ch.channel WHERE c.id = r.campaign_id),
	                (SELECT ch.channel_no FROM scheduler.channels ch JOIN scheduler.campaign_history h ON ch.channel = h.before ->> 'channel'
	                  WHERE h.campaign_id = r.campaign_id ORDER BY h.id DESC LIMIT 1)),
	       r.origin, r.status::scheduler.decision, r.due_at, r.started_at, r.sent_at, clock_timestamp(),
	       r.attempts, r.n, r.accepted, r.targets, $1, r.why, CASE WHEN r.n = 1 THEN r.code END, CASE WHEN r.n = 1 THEN r.message END,
	       CASE WHEN r.n = 1 THEN r.request_id END, CASE WHEN r.n = 1 THEN r.message_id END,
	       CASE WHEN r.list IS NOT NULL THEN ARRAY(SELECT json_array_elements_text(r.list)) END
	  FROM ruled r
	RETURNING d.id, d.app_no, d.campaign_id, (SELECT channel FROM scheduler.channels ch WHERE ch.channel_no = d.channel_no), d.due_at, d.sent_at,
	          d.status::text, coalesce(d.reason, ''), d.slices, d.accepted, d.target_count`
