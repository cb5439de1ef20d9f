package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// placeWaiting brings deliveries that have just become waiting to the place that
// a pause, a cancel or a deletion has meant for those that were there when it
// committed. Nothing depends on it but how soon that is seen: ClaimSlices looks
// at the campaign itself. So it waits for nobody. A campaign an author holds at
// this moment is left to the planner, which looks at it when the author is done.
func placeWaiting(ctx context.Context, tx pgx.Tx, campaigns []int64) error {
	if len(campaigns) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		WITH u AS MATERIALIZED (
			SELECT DISTINCT id FROM unnest($1::bigint[]) AS x (id)
		), free AS MATERIALIZED ( -- locked: a change either waits and sees the deliveries, or is seen here
			SELECT c.id, c.status FROM scheduler.campaigns c WHERE c.id IN (SELECT id FROM u) FOR SHARE SKIP LOCKED
		), present AS MATERIALIZED (
			SELECT c.id, c.app_no FROM scheduler.campaigns c WHERE c.id IN (SELECT id FROM u)
		), later AS (
			INSERT INTO scheduler.campaign_changes (app_no, campaign_id)
			SELECT p.app_no, p.id FROM present p WHERE p.id NOT IN (SELECT id FROM free)
		), forbidden AS (
			SELECT id, status, 'campaign cancelled' AS reason FROM free WHERE status IN ('paused', 'cancelled')
			 UNION ALL SELECT id, NULL, 'campaign deleted' FROM u WHERE id NOT IN (SELECT id FROM present)
		)
		UPDATE scheduler.slices s
		   SET status = CASE WHEN f.status = 'paused' THEN 'held' WHEN s.maybe_sent THEN 'unknown' ELSE 'cancelled' END::scheduler.slice_status,
		       finished_at = CASE WHEN f.status = 'paused' THEN NULL ELSE clock_timestamp() END,
		       reason = CASE WHEN f.status = 'paused' THEN s.reason ELSE f.reason END
		  FROM forbidden f WHERE s.campaign_id = f.id AND s.status = 'waiting'`, campaigns)
	if err != nil {
		return fmt.Errorf("place waiting deliveries: %w", err)
	}
	return nil
}
