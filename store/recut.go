package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Recut slices a waiting delivery anew of which nobody knows any more to whom it
// goes, since whoever had begun it is gone: into as many as the audience that
// stands now needs. What is known of its attempts goes over to each. in is of
// the revision that the delivery was read with; when the campaign has another by
// now, or an author holds it, or the delivery has begun, nothing happens and
// done is false.
//
// An audience that is empty now, or a view that cannot be read, ends the
// delivery.
func (s *Store) Recut(ctx context.Context, w WaitingDelivery, in Start) (done bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		t := &startingTask{}
		rows, _ := tx.Query(ctx, `
			SELECT s.app_no, s.campaign_id, s.ready_at, coalesce(c.audience_view, ''), c.spread, clock_timestamp(), `+runningEnd+` FROM scheduler.slices s
			  JOIN scheduler.running_tasks r ON r.id = s.task_id
			  JOIN scheduler.campaigns c ON c.id = s.campaign_id
			 WHERE s.id = $1 AND s.status = 'waiting' AND s.attempts = $2 AND c.revision = $3 AND r.slices = 1
			   FOR SHARE OF c SKIP LOCKED FOR UPDATE OF s SKIP LOCKED`, w.ID, w.Attempts, w.Revision)
		_, err := pgx.ForEachRow(rows, []any{&t.appNo, &t.campaignID, &t.dueAt, &t.audienceView, (*interval)(&t.spread), &t.now, &t.expiresAt}, func() error { done = true; return nil })
		if err != nil || !done {
			return err
		}
		in.TaskID = w.TaskID
		// Out of the way of the new ones, which are numbered from one.
		if _, err := tx.Exec(ctx, `UPDATE scheduler.slices SET slice_no = $2 WHERE id = $1`, w.ID, 1<<31-1); err != nil {
			return err
		}
		var slices int
		var targets int64
		fault, err := viewFault(pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) (err error) {
			slices, targets, err = writeSlices(ctx, tx, in, t)
			return err
		}), t.audienceView)
		if err != nil {
			return err
		}
		if slices == 0 {
			_, err := tx.Exec(ctx, `
				UPDATE scheduler.slices
				   SET slice_no = 1, finished_at = clock_timestamp(), reason = coalesce(nullif($2, ''), reason),
				       status = CASE WHEN maybe_sent THEN 'unknown' WHEN $2 = '' THEN 'accepted' ELSE 'failed' END::scheduler.slice_status
				 WHERE id = $1`, w.ID, fault)
			return err
		}
		_, err = tx.Exec(ctx, `
			WITH old AS (
				DELETE FROM scheduler.slices WHERE id = $1 RETURNING task_id, attempts, maybe_sent, sent_at, reason
			), task AS (
				UPDATE scheduler.running_tasks SET slices = $2, targets = $3 WHERE id = (SELECT task_id FROM old)
			)
			UPDATE scheduler.slices s SET attempts = o.attempts, maybe_sent = o.maybe_sent, sent_at = o.sent_at, reason = o.reason
			  FROM old o WHERE s.task_id = o.task_id AND s.id <> $1`, w.ID, slices, targets)
		if err == nil && t.spread > 0 && slices > 1 {
			_, err = t.noteSpread(ctx, tx, w.TaskID, slices)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("slice delivery %d anew: %w", w.ID, err)
	}
	return done, nil
}
