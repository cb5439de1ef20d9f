package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// RevokeTask has the provider take back the messages of a task that it accepted,
// only those to one target where target is not empty. It returns how many
// deliveries this concerns, without those that were asked for before. The error
// may be ErrNoTask, or a Refusal of a task of which the provider accepted
// nothing.
func (s *Store) RevokeTask(ctx context.Context, taskID int64, note, target string) (deliveries int64, err error) {
	if err := s.db.QueryRow(ctx, `SELECT scheduler.revoke_task($1, $2, $3)`, taskID, note, target).Scan(&deliveries); err != nil {
		return 0, fmt.Errorf("revoke task %d: %w", taskID, refusal(err, ErrNoTask))
	}
	return deliveries, nil
}

// A RevocationCount says how many revocations of a task's deliveries have a
// status, with the reason of the first.
type RevocationCount struct {
	Status     string // waiting, revoked, refused, unsupported or unknown
	Deliveries int64
	Reason     string
}

// RevocationCounts returns the state of a task's revocations.
func (s *Store) RevocationCounts(ctx context.Context, taskID int64) ([]RevocationCount, error) {
	return readRows(ctx, s, "read revocations", pgx.RowToStructByPos[RevocationCount], `
		SELECT c.status::text, count(*), coalesce((array_agg(c.reason ORDER BY c.id) FILTER (WHERE c.reason <> ''))[1], '')
		  FROM scheduler.revocations v JOIN scheduler.revocation_calls c ON c.revocation_id = v.id
		 WHERE v.task_id = $1 GROUP BY c.status ORDER BY c.status`, taskID)
}

// A RevocationCall is a delivery that a provider is to take back. ID and Attempts
// are its fencing token.
type RevocationCall struct {
	ID        int64
	Attempts  int32
	AppNo     int32
	TaskID    int64
	SliceNo   int32
	MessageID string
	RequestID string
	Target    string
}

// TakeRevocations begins an attempt for up to limit waiting revocations, up to
// perApp of an app, and returns them. Nobody else begins an attempt of the same
// within lease. After it the attempt counts as lost, and another daemon makes
// the call again, which does no harm.
func (s *Store) TakeRevocations(ctx context.Context, lease time.Duration, perApp, limit int) ([]RevocationCall, error) {
	rows, _ := s.db.Query(ctx, takeRevocationsSQL, lease.Microseconds(), perApp, limit)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RevocationCall])
	if err != nil {
		return nil, fmt.Errorf("take revocations: %w", err)
	}
	return out, nil
}

// The first of each app come before the second of any, and among equals chance
// decides. So every app gets its turn, however many wait of others. Nothing is
// taken where notHeld is false, since the database may be a copy.
const takeRevocationsSQL = `
	WITH RECURSIVE app AS (
		(SELECT r.app_no FROM scheduler.revocation_calls r WHERE r.finished_at IS NULL ORDER BY r.app_no LIMIT 1)
		UNION ALL
		SELECT n.app_no FROM app CROSS JOIN LATERAL (
			SELECT r.app_no FROM scheduler.revocation_calls r WHERE r.finished_at IS NULL AND r.app_no > app.app_no ORDER BY r.app_no LIMIT 1) n
	), ready AS (
		SELECT x.id, row_number() OVER (PARTITION BY app.app_no ORDER BY x.ready_at, x.id) AS turn FROM app CROSS JOIN LATERAL (
			SELECT r.id, r.ready_at FROM scheduler.revocation_calls r
			 WHERE r.finished_at IS NULL AND r.app_no = app.app_no AND r.ready_at <= clock_timestamp()
			 ORDER BY r.ready_at, r.id LIMIT $2) x
	), mine AS MATERIALIZED (
		SELECT r.id FROM scheduler.revocation_calls r
		 WHERE r.id = ANY (ARRAY(SELECT id FROM ready ORDER BY turn, random() LIMIT $3))
		   AND r.finished_at IS NULL AND r.ready_at <= clock_timestamp() AND ` + released + `
		   FOR UPDATE SKIP LOCKED
	)
	UPDATE scheduler.revocation_calls c SET attempts = c.attempts + 1, ready_at = clock_timestamp() + $1 * interval '1 microsecond'
	  FROM mine WHERE c.id = mine.id
	RETURNING c.id, c.attempts, c.app_no, c.task_id, c.slice_no, coalesce(c.message_id, ''), coalesce(c.request_id, ''), c.target`

// A RevocationOutcome is the result of an attempt.
type RevocationOutcome struct {
	Status                string        // revoked, refused, unsupported or unknown; empty: try again
	RetryAfter            time.Duration // when to try again
	Reason, Code, Message string
	AnswerID              string
	Untried               bool // no call was made, and no attempt used
}

// RecordRevocation records the outcome of an attempt, unless another has begun
// since.
func (s *Store) RecordRevocation(ctx context.Context, c RevocationCall, o RevocationOutcome) error {
	_, err := s.db.Exec(ctx, `
		UPDATE scheduler.revocation_calls
		   SET status = coalesce(nullif($3, ''), 'waiting'), finished_at = CASE WHEN $3 <> '' THEN clock_timestamp() END,
		       ready_at = clock_timestamp() + $4 * interval '1 microsecond', attempts = attempts - $9::boolean::integer,
		       reason = nullif($5, ''), code = nullif($6, ''), message = nullif($7, ''), answer_id = nullif($8, '')
		 WHERE id = $1 AND attempts = $2 AND finished_at IS NULL`,
		c.ID, c.Attempts, o.Status, o.RetryAfter.Microseconds(), o.Reason, o.Code, o.Message, o.AnswerID, o.Untried)
	if err != nil {
		return fmt.Errorf("record revocation: %w", err)
	}
	return nil
}
