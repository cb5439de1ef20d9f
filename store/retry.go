package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Retry turns a claimed task with one call into a running one whose call is
// tried again.
type Retry struct {
	ClaimID    int64
	TaskID     int64
	AppNo      int32
	CampaignID int64
	Revision   int32
	Origin     string
	DueAt      time.Time
	ExpiresAt  time.Time
	StartedAt  time.Time
	SentAt     time.Time
	ReadyAt    time.Time
	Targets    []string
	MaybeSent  bool // the outcome was unknown
	Reason     string
	Code       string
	Message    string
	RequestID  string
	Cut        *Start // no call was made, and the audience needs several
}

// RetryClaimed stores retries of claimed tasks, fenced by their claims, drops
// the claims in done, and returns the tasks it stored.
func (s *Store) RetryClaimed(ctx context.Context, daemonID int64, retries []Retry, done []int64) (stored map[int64]bool, err error) {
	stored = make(map[int64]bool, len(retries))
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for _, r := range retries {
			store := retryClaimed
			if r.Cut != nil {
				store = cutClaimed
			}
			ok, err := claimHeld(ctx, tx, daemonID, r.ClaimID)
			if err == nil && ok {
				err = store(ctx, tx, daemonID, r)
			}
			if err != nil {
				return err
			}
			stored[r.TaskID] = ok
		}
		_, err := tx.Exec(ctx, `DELETE FROM scheduler.claims WHERE id = ANY($1) AND daemon_id = $2`, done, daemonID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store retries: %w", err)
	}
	return stored, nil
}

// claimHeld locks a claim and says whether it still stands: the fence.
func claimHeld(ctx context.Context, tx pgx.Tx, daemonID, claim int64) (held bool, err error) {
	err = tx.QueryRow(ctx, `
		WITH held AS (SELECT FROM scheduler.claims WHERE id = $1 AND daemon_id = $2 FOR UPDATE) SELECT EXISTS (SELECT FROM held)`,
		claim, daemonID).Scan(&held)
	return held, err
}

// stored says, in a statement with the task's id as $1, whether an earlier
// transaction stored the retry whose answer did not arrive.
const storedAlready = `(EXISTS (SELECT FROM scheduler.running_tasks WHERE id = $1) OR EXISTS (SELECT FROM scheduler.decided_tasks WHERE id = $1))`

// retryClaimed stores the delivery of a claimed task for another attempt.
func retryClaimed(ctx context.Context, tx pgx.Tx, _ int64, r Retry) error {
	_, err := tx.Exec(ctx, `
		WITH task AS (
			INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
			SELECT $1, $2, $3, $4, $5::scheduler.task_origin, $6, $7, 1, cardinality($10::text[]) WHERE NOT `+storedAlready+`
			RETURNING id
		), delivery AS (
			INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at, attempts, maybe_sent, sent_at, reason, code, message, request_id)
			SELECT id, 1, $2, $3, $9, ($8::timestamptz IS NOT NULL)::integer, $11, $8, $12, nullif($13, ''), nullif($14, ''), nullif($15, '') FROM task
			RETURNING id
		)
		INSERT INTO scheduler.slice_targets (slice_id, targets) SELECT id, $10 FROM delivery WHERE $10 <> '{}'`,
		r.TaskID, r.AppNo, r.CampaignID, r.Revision, r.Origin, r.DueAt, r.StartedAt, at(r.SentAt),
		r.ReadyAt, orEmpty(r.Targets), r.MaybeSent, r.Reason, r.Code, r.Message, r.RequestID)
	return err
}

// cutClaimed stores the deliveries of a claimed task whose audience grew past
// one call before any was made.
func cutClaimed(ctx context.Context, tx pgx.Tx, daemonID int64, r Retry) error {
	var done bool
	if err := tx.QueryRow(ctx, `SELECT `+storedAlready, r.TaskID).Scan(&done); err != nil || done {
		return err
	}
	t := startingTask{
		appNo: r.AppNo, revision: r.Revision, campaignID: r.CampaignID, dueAt: r.DueAt, expiresAt: r.ExpiresAt,
		now: r.StartedAt, origin: r.Origin, channel: r.Cut.Channel,
	}
	var s Started
	var err error
	if s.Slices, s.Targets, err = writeSlices(ctx, tx, *r.Cut, t); err != nil {
		return err
	}
	return t.begin(ctx, tx, daemonID, r.TaskID, s)
}

// Unhear gives back what the daemon holds in the database without knowing of it:
// claims and attempts whose statement failed here and committed there. No call
// was made for them, so they may begin again. known are the claims, and running
// the attempts, that the daemon knew of at the moment before; what began later
// is left alone, so that a statement that the network held back and executes
// late does no harm.
func (s *Store) Unhear(ctx context.Context, daemonID int64, before time.Time, known, running []int64) (int, error) {
	var lost []int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			WITH lost AS MATERIALIZED (
				SELECT id FROM scheduler.claims WHERE daemon_id = $1 AND id <> ALL($2) AND claimed_at < $4 FOR UPDATE
			), task AS MATERIALIZED (
				SELECT t.* FROM scheduler.claimed_tasks t WHERE t.claim_id IN (SELECT id FROM lost)
			), running AS (
				INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
				SELECT id, app_no, campaign_id, revision, origin, due_at, claimed_at, 1, 0 FROM task
			), slice AS (
				INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at, reason)
				SELECT id, 1, app_no, campaign_id, clock_timestamp(), 'the claim was lost before a call' FROM task
			), dropped AS (
				DELETE FROM scheduler.claims WHERE id IN (SELECT id FROM lost)
			), again AS (
				UPDATE scheduler.slices SET status = 'waiting', daemon_id = NULL, attempts = attempts - 1
				 WHERE daemon_id = $1 AND status = 'running' AND id <> ALL($3) AND sent_at < $4 RETURNING campaign_id
			)
			SELECT campaign_id FROM task UNION ALL SELECT campaign_id FROM again`, daemonID, known, running, before)
		var err error
		lost, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("give back unheard claims: %w", err)
	}
	return len(lost), nil
}
