package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Slice is a stored delivery a daemon runs.
type Slice struct {
	ID         int64
	TaskID     int64
	SliceNo    int32
	AppNo      int32
	CampaignID int64
	Attempts   int32 // this attempt's number, from 1: the fencing token
	MaybeSent  bool  // an earlier attempt may have been taken
	DueAt      time.Time
	ExpiresAt  time.Time
	Revision   int32 // the campaign's
	Targets    []string
	Details    []byte
}

// ClaimSlices takes up to limit deliveries that are ready, oldest first, for
// one attempt each. Apps in without are left out. An attempt whose quota is
// used up is put off instead.
//
// A delivery begins only while its campaign allows it and is locked against
// authors: a pause or a cancel either waits for the claim, which is at once, or
// is seen by it. Campaigns an author holds are passed over, since the author may
// be about to forbid it.
func (s *Store) ClaimSlices(ctx context.Context, daemonID int64, now time.Time, without []int32, limit int) ([]Slice, error) {
	var out []Slice
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			WITH mine AS MATERIALIZED (
				SELECT s.id, c.revision FROM scheduler.slices s JOIN scheduler.campaigns c ON c.id = s.campaign_id
				 WHERE s.status = 'waiting' AND s.ready_at <= coalesce($2, clock_timestamp()) AND s.app_no <> ALL($3) AND c.status NOT IN ('paused', 'cancelled')
				   AND (c.resend_unknown OR NOT s.maybe_sent)
				   AND EXISTS (SELECT FROM scheduler.daemons d WHERE d.id = $1 AND d.ended_at IS NULL AND d.leased_until > clock_timestamp()) AND `+notHeld+`
				 ORDER BY s.ready_at, s.id LIMIT $4 FOR SHARE OF c SKIP LOCKED FOR UPDATE OF s SKIP LOCKED
			), begun AS (
				UPDATE scheduler.slices s SET status = 'running', daemon_id = $1, attempts = s.attempts + 1, sent_at = coalesce($2, clock_timestamp())
				  FROM mine WHERE s.id = mine.id
				RETURNING s.id, s.task_id, s.slice_no, s.app_no, s.campaign_id, s.attempts, s.maybe_sent, s.targets, s.details, mine.revision
			)
			SELECT b.id, b.task_id, b.slice_no, b.app_no, b.campaign_id, b.attempts, b.maybe_sent, r.due_at, r.expires_at, b.revision, b.targets, b.details
			  FROM begun b JOIN scheduler.running_tasks r ON r.id = b.task_id`,
			daemonID, at(now), orEmpty(without), limit)
		var err error
		if out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Slice]); err != nil {
			return err
		}
		out, err = bookSlices(ctx, tx, out, now)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim deliveries: %w", err)
	}
	return out, nil
}

// A SliceOutcome is how one attempt of a stored delivery ended.
type SliceOutcome struct {
	Slice     Slice
	Status    string    // accepted, failed, unknown, missed; waiting for another attempt
	ReadyAt   time.Time // of the next attempt, when waiting
	Reason    string
	Code      string
	Message   string
	RequestID string
	MessageID string
	MaybeSent bool // the outcome was unknown
	KeepQuota bool // whether the call counts against a quota
	Sent      bool // whether a call was made: an attempt that was put off does not count
}

// RecordSlices writes the outcomes of attempts and returns the ids of those it
// wrote: an attempt that was fenced off does not count.
func (s *Store) RecordSlices(ctx context.Context, daemonID int64, outcomes []SliceOutcome) (map[int64]bool, error) {
	recorded := make(map[int64]bool, len(outcomes))
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		var again []int64
		for _, o := range outcomes {
			queueOutcome(b, daemonID, o, func(id int64) { recorded[id] = true })
			if o.Status == "waiting" {
				again = append(again, o.Slice.CampaignID)
			}
		}
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		return placeWaiting(ctx, tx, again)
	})
	if err != nil {
		return nil, fmt.Errorf("record deliveries: %w", err)
	}
	return recorded, nil
}

// queueOutcome queues one attempt's outcome, fenced by the attempt's number. An
// attempt that was put off leaves no trace but its reason.
func queueOutcome(b *pgx.Batch, daemonID int64, o SliceOutcome, recorded func(id int64)) {
	b.Queue(`
		WITH done AS (
			UPDATE scheduler.slices
			   SET status = $4::scheduler.slice_status, daemon_id = NULL, ready_at = coalesce($5, ready_at),
			       finished_at = CASE WHEN $4 = 'waiting' THEN NULL ELSE clock_timestamp() END,
			       reason = CASE WHEN put_off THEN coalesce(nullif($6, ''), reason) ELSE nullif($6, '') END,
			       code = CASE WHEN put_off THEN code ELSE nullif($7, '') END, message = CASE WHEN put_off THEN message ELSE nullif($8, '') END,
			       request_id = CASE WHEN put_off THEN request_id ELSE nullif($9, '') END, message_id = CASE WHEN put_off THEN message_id ELSE nullif($10, '') END,
			       attempts = attempts - (NOT $11)::integer, maybe_sent = maybe_sent OR $12,
			       sent_at = CASE WHEN $11 OR attempts > 1 THEN sent_at END
			  FROM (SELECT NOT $11 AND $4 = 'waiting' AS put_off) x
			 WHERE id = $1 AND daemon_id = $2 AND attempts = $3 AND status = 'running' RETURNING id
		)`+settleQuota(o)+`
		SELECT id FROM done`,
		o.Slice.ID, daemonID, o.Slice.Attempts, o.Status, at(o.ReadyAt), o.Reason, o.Code, o.Message, o.RequestID, o.MessageID, o.Sent, o.MaybeSent).
		Query(func(rows pgx.Rows) error {
			var id int64
			_, err := pgx.ForEachRow(rows, []any{&id}, func() error { recorded(id); return nil })
			return err
		})
}

// orEmpty turns nil, which is NULL to the database, into an empty array.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
