package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

var (
	// ErrNoTask says that there is no task with the id.
	ErrNoTask = errors.New("there is no such task")
	// ErrNotUnknown says that the task's outcome is no question.
	ErrNotUnknown = errors.New("only a task whose outcome is unknown can be ruled on")
	// ErrNoResend says that the task's campaign may not push.
	ErrNoResend = errors.New("the task cannot be sent again")
)

// A Ruling is what an operator found out about the calls of a task whose
// outcome was unknown.
type Ruling struct {
	TaskID   int64
	Sent     bool   // they arrived; else they did not
	Resend   bool   // make them again, with the same message keys; not with Sent
	Note     string // why
	Operator string // the user of the operating system, for the audit
}

// Ruled is what became of the task.
type Ruled struct {
	Status string // succeeded, failed, or running when it is sent again
	Reason string
}

// Resolve applies a ruling and keeps the audit, in one transaction. Only the
// deliveries of unknown outcome are touched: those that were accepted are never
// sent again. A ruling that nothing was sent returns the quota. Besides errors
// of the database it returns ErrNoTask, ErrNotUnknown and ErrNoResend.
func (s *Store) Resolve(ctx context.Context, r Ruling) (Ruled, error) {
	var out Ruled
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := takeUnknown(ctx, tx, r); err != nil {
			return err
		}
		var err error
		if r.Resend {
			out, err = resend(ctx, tx, r)
		} else {
			out, err = decideAs(ctx, tx, r)
		}
		return err
	})
	if err != nil {
		return Ruled{}, fmt.Errorf("resolve task %d: %w", r.TaskID, err)
	}
	return out, nil
}

// takeUnknown locks the task and writes the audit.
func takeUnknown(ctx context.Context, tx pgx.Tx, r Ruling) error {
	tag, err := tx.Exec(ctx, `
		WITH task AS MATERIALIZED (
			SELECT * FROM scheduler.decided_tasks WHERE id = $1 AND status = 'unknown' FOR UPDATE
		)
		INSERT INTO scheduler.rulings (task_id, app_no, campaign_id, due_at, ruling, resend, note, previous_status, previous_reason, operator)
		SELECT t.id, t.app_no, t.campaign_id, t.due_at, CASE WHEN $2 THEN 'sent' ELSE 'not_sent' END, $3, nullif($4, ''), t.status, t.reason, nullif($5, '')
		  FROM task t`, r.TaskID, r.Sent, r.Resend, r.Note, r.Operator)
	if err != nil || tag.RowsAffected() == 1 {
		return err
	}
	var status string
	err = tx.QueryRow(ctx, `SELECT status FROM scheduler.tasks WHERE id = $1`, r.TaskID).Scan(&status)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNoTask
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w; this one is %s", ErrNotUnknown, status)
}

// decideAs lets the unknown deliveries end as the ruling says, and with them
// the task: it succeeded when every delivery did.
func decideAs(ctx context.Context, tx pgx.Tx, r Ruling) (Ruled, error) {
	why := "ruled not sent"
	if r.Sent {
		why = "ruled sent"
	}
	if r.Operator != "" {
		why += " by " + r.Operator
	}
	if r.Note != "" {
		why += ": " + r.Note
	}
	if _, err := tx.Exec(ctx, returnQuotaSQL, r.TaskID, r.Sent); err != nil {
		return Ruled{}, fmt.Errorf("return quota: %w", err)
	}
	_, err := tx.Exec(ctx, `
		UPDATE scheduler.slices SET status = CASE WHEN $2 THEN 'accepted' ELSE 'failed' END::scheduler.slice_status, reason = $3
		 WHERE task_id = $1 AND status = 'unknown'`, r.TaskID, r.Sent, why)
	if err != nil {
		return Ruled{}, fmt.Errorf("rule on deliveries: %w", err)
	}
	var out Ruled
	err = tx.QueryRow(ctx, `
		WITH tally AS (
			SELECT count(*) AS n, count(*) FILTER (WHERE status = 'accepted') AS accepted FROM scheduler.slices WHERE task_id = $1
		), ruled AS (
			-- A task with one call may keep it in its own row.
			SELECT CASE WHEN n = 0 THEN $2 ELSE accepted = n END AS succeeded, CASE WHEN n > 0 THEN accepted WHEN $2 THEN 1 ELSE 0 END AS accepted,
			       CASE WHEN n > 1 AND accepted < n THEN format('%s of %s deliveries accepted; %s', accepted, n, $3::text) ELSE $3 END AS reason
			  FROM tally
		)
		UPDATE scheduler.decided_tasks d
		   SET status = CASE WHEN r.succeeded THEN 'succeeded' ELSE 'failed' END::scheduler.decision, accepted = r.accepted, reason = r.reason,
		       decided_at = clock_timestamp()
		  FROM ruled r WHERE d.id = $1 RETURNING d.status::text, d.reason`, r.TaskID, r.Sent, why).Scan(&out.Status, &out.Reason)
	if err != nil {
		return Ruled{}, fmt.Errorf("rule on the task: %w", err)
	}
	return out, nil
}

// returnQuotaSQL takes the calls that were not sent out of the ledger.
const returnQuotaSQL = `
	DELETE FROM scheduler.quota_uses WHERE NOT $2
	   AND slice_id IN (SELECT id FROM scheduler.slices WHERE task_id = $1 AND status = 'unknown')`

// resend makes the task run again, with the deliveries of unknown outcome only.
// Its window opens anew, since its own may have closed while it waited for the
// ruling; its occurrence, and so its message keys, stay.
func resend(ctx context.Context, tx pgx.Tx, r Ruling) (Ruled, error) {
	window, err := mayPush(ctx, tx, r.TaskID)
	if err != nil {
		return Ruled{}, err
	}
	if _, err := tx.Exec(ctx, returnQuotaSQL, r.TaskID, false); err != nil {
		return Ruled{}, fmt.Errorf("return quota: %w", err)
	}
	_, err = tx.Exec(ctx, `
		UPDATE scheduler.slices SET status = 'waiting', maybe_sent = false, finished_at = NULL, ready_at = clock_timestamp(), reason = 'sent again by ruling'
		 WHERE task_id = $1 AND status = 'unknown'`, r.TaskID)
	if err != nil {
		return Ruled{}, fmt.Errorf("wake deliveries: %w", err)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at, attempts, targets, sent_at, reason)
		SELECT d.id, 1, d.app_no, d.campaign_id, clock_timestamp(), d.attempts, coalesce(d.targets, '{}'), d.sent_at, 'sent again by ruling'
		  FROM scheduler.decided_tasks d
		 WHERE d.id = $1 AND NOT EXISTS (SELECT FROM scheduler.slices s WHERE s.task_id = d.id)`, r.TaskID)
	if err != nil {
		return Ruled{}, fmt.Errorf("store delivery: %w", err)
	}
	_, err = tx.Exec(ctx, `
		WITH gone AS (DELETE FROM scheduler.decided_tasks WHERE id = $1 RETURNING *)
		INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, expires_at, started_at, slices, targets)
		SELECT g.id, g.app_no, g.campaign_id, g.revision, g.origin, g.due_at, clock_timestamp() + $2 * interval '1 microsecond',
		       coalesce(g.started_at, clock_timestamp()), greatest(g.slices, 1), g.target_count
		  FROM gone g`, r.TaskID, window.Microseconds())
	if err != nil {
		return Ruled{}, fmt.Errorf("run again: %w", err)
	}
	return Ruled{Status: "running", Reason: "sent again by ruling"}, nil
}

// mayPush returns the catch-up window of the task's campaign, and locks the
// campaign, so that a pause or a cancel either is seen here or sees what is
// written here. A finished campaign may push again what it has pushed.
func mayPush(ctx context.Context, tx pgx.Tx, taskID int64) (window time.Duration, err error) {
	var status string
	var micros int64
	err = tx.QueryRow(ctx, `
		SELECT c.status, (extract(epoch FROM c.catch_up_window) * 1e6)::bigint
		  FROM scheduler.decided_tasks d JOIN scheduler.campaigns c ON c.id = d.campaign_id WHERE d.id = $1 FOR SHARE OF c`, taskID).Scan(&status, &micros)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, fmt.Errorf("%w: its campaign is deleted", ErrNoResend)
	case err != nil:
		return 0, fmt.Errorf("lock campaign: %w", err)
	case status == "paused":
		return 0, fmt.Errorf("%w: its campaign is paused; resume it first", ErrNoResend)
	case status != "active" && status != "finished":
		return 0, fmt.Errorf("%w: its campaign is %s", ErrNoResend, status)
	}
	return time.Duration(micros) * time.Microsecond, nil
}
