package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Deliveries of a spread task are stored with the times at which they may begin.
// These times are worked out when the task is cut. They are worked out anew when
// they no longer fit: the campaign was changed, or a delivery is so late that the
// remaining ones would go out at once. That writes each waiting delivery, and
// happens seldom.

// makeUpFor is how late a delivery may be without its task being spread anew. To cut
// a large audience usually takes less time.
const makeUpFor = 5 * time.Second

// tooLate returns the condition that a waiting delivery of a running task r, which is
// ready at a time, is so late that the task is spread anew. The lateness that this
// needs doubles each time, so that an app that is slower than the spread has its tasks
// spread anew only a few times.
func tooLate(ready, now string) string {
	return fmt.Sprintf(`%s < %s - interval '%d milliseconds' * (1 << least(r.spread_moves, 20))`, ready, now, makeUpFor.Milliseconds())
}

// spreadMoved is the condition that the spread of a running task r no longer fits its
// campaign c. The campaign has another spread, or the window now ends within the
// spread, or the window shortened the spread more than it would now.
var spreadMoved = `(c.spread IS DISTINCT FROM r.spread OR r.spread_until > ` + runningEnd + `
	OR r.spread_note IS NOT NULL AND r.spread_until < ` + runningEnd + ` - interval '62 seconds')`

// SpreadMoved lists up to limit running tasks whose deliveries have to be spread
// anew, since their campaign was changed. Tasks of one delivery cost nothing.
func (s *Store) SpreadMoved(ctx context.Context, limit int) ([]int64, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT r.id FROM scheduler.running_tasks r CROSS JOIN LATERAL (
			SELECT c.spread, c.catch_up_window, c.status FROM scheduler.campaigns c WHERE c.id = r.campaign_id OFFSET 0) c
		 WHERE r.slices > 1 AND `+spreadMoved+` AND c.status NOT IN ('paused', 'cancelled') LIMIT $1`, limit)
	out, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list tasks to spread anew: %w", err)
	}
	return out, nil
}

// Spread says how the deliveries of a task were spread anew.
type Spread struct {
	Waiting int       // deliveries that got another time
	Until   time.Time // the end of the spread
	Note    string    // how the window's end shortened the spread; empty: it did not
}

// Respread gives the waiting deliveries of a running task new times to begin, where
// the campaign was changed or the earliest of them is too late. From now on, or from
// when the next is ready, they follow each other at the distance that the spread
// gives, or at a shorter one where the window ends before. Deliveries that begin
// meanwhile and further tries stay as they are. A task that somebody else has locked
// is left alone.
func (s *Store) Respread(ctx context.Context, daemonID int64, now time.Time, task int64) (out Spread, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			SELECT FROM scheduler.running_tasks r WHERE r.id = $2
			   AND EXISTS (SELECT FROM scheduler.daemons d WHERE d.id = $1 AND d.ended_at IS NULL AND d.leased_until > clock_timestamp()) AND `+notHeld+`
			   FOR UPDATE SKIP LOCKED`, daemonID, task)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil { // the context bounds it
			return err
		}
		// This is a statement of its own, so that it sees the changes for which
		// the lock waited.
		rows, _ := tx.Query(ctx, respreadSQL, task, at(now))
		_, err = pgx.ForEachRow(rows, []any{&out.Waiting, &out.Until, &out.Note}, func() error { return nil })
		return err
	})
	if err != nil {
		return Spread{}, fmt.Errorf("spread task %d anew: %w", task, err)
	}
	return out, nil
}

var respreadSQL = `
	WITH waits AS MATERIALIZED (
		SELECT s.id, s.ready_at, row_number() OVER (ORDER BY s.slice_no) - 1 AS place FROM scheduler.slices s
		 WHERE s.task_id = $1 AND s.finished_at IS NULL AND s.status IN ('waiting', 'held') AND s.attempts = 0 AND NOT s.maybe_sent
	), task AS MATERIALIZED (
		SELECT r.*, c.spread AS wanted, ` + runningEnd + ` AS ends, w.n, ` + spreadMoved + ` AS moved, coalesce(` + tooLate(`w.next`, `t.now`) + `, false) AS late,
		       greatest(t.now, CASE WHEN c.spread IS NOT NULL THEN least(w.next, t.now + extract(epoch FROM c.spread)::double precision / r.slices * interval '1 second') END) AS begins
		  FROM scheduler.running_tasks r JOIN scheduler.campaigns c ON c.id = r.campaign_id
		 CROSS JOIN (SELECT count(*) AS n, min(ready_at) AS next FROM waits) w
		 CROSS JOIN (SELECT coalesce($2, clock_timestamp()) AS now) t
		 WHERE r.id = $1 AND r.slices > 1
	), plan AS MATERIALIZED (
		SELECT t.*, coalesce(scheduler.spread_seconds(t.wanted, t.n::double precision / t.slices, t.begins, t.ends), 0) AS seconds
		  FROM task t WHERE t.moved AND (t.n > 0 OR t.wanted IS DISTINCT FROM t.spread) OR t.late AND t.wanted IS NOT NULL
	), placed AS (
		UPDATE scheduler.slices s SET ready_at = p.begins + p.seconds * w.place / p.n * interval '1 second'
		  FROM plan p, waits w WHERE s.id = w.id AND s.status IN ('waiting', 'held') AND s.attempts = 0
		RETURNING s.id
	), noted AS (
		UPDATE scheduler.running_tasks r
		   SET spread = p.wanted, spread_until = CASE WHEN p.wanted IS NOT NULL THEN p.begins + p.seconds * interval '1 second' END,
		       spread_moves = p.spread_moves + (p.late AND NOT p.moved)::integer,
		       spread_note = CASE WHEN p.n > 0 THEN scheduler.spread_note(p.wanted, p.n, p.slices, p.seconds) ELSE p.spread_note END
		  FROM plan p WHERE r.id = p.id
		RETURNING coalesce(r.spread_until, p.begins) AS until, coalesce(r.spread_note, '') AS note
	)
	SELECT (SELECT count(*) FROM placed), until, note FROM noted`
