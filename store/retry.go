package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Retry turns a claimed task with one call into a running task whose call is
// tried again.
type Retry struct {
	ClaimID    int64
	TaskID     int64
	AppNo      int32
	CampaignID int64
	Revision   int32
	Origin     string
	DueAt      time.Time
	WindowFrom time.Time // where its catch-up window begins; zero: at DueAt
	StartedAt  time.Time
	SentAt     time.Time
	ReadyAt    time.Time
	Targets    []string
	MaybeSent  bool // the outcome was unknown
	Reason     string
	Code       string
	Message    string
	RequestID  string
}

// RetryClaimed stores retries of claimed tasks in one transaction, fenced by
// their claims, and drops the claims in done. It returns the tasks it stored. A
// task that an earlier transaction stored, whose answer did not arrive, counts
// as stored.
func (s *Store) RetryClaimed(ctx context.Context, daemonID int64, retries []*Retry, done []int64) (stored map[int64]bool, err error) {
	stored = make(map[int64]bool, len(retries))
	claims := make([]int64, len(retries))
	for i, r := range retries {
		claims[i] = r.ClaimID
	}
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		held, _, err := holdClaims(ctx, tx, daemonID, claims, done)
		if err != nil {
			return err
		}
		stand := make([]*Retry, 0, len(retries))
		for _, r := range retries {
			if held[r.ClaimID] {
				stand = append(stand, r)
				stored[r.TaskID] = true
			}
		}
		if len(stand) == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, retryClaimedSQL, jsonRows(stand, (*Retry).row))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store retries: %w", err)
	}
	return stored, nil
}

// row returns the retry as retryClaimedSQL reads it.
func (r *Retry) row() map[string]any {
	attempts := 0
	if !r.SentAt.IsZero() {
		attempts = 1
	}
	return map[string]any{
		"id": r.TaskID, "app_no": r.AppNo, "campaign_id": r.CampaignID, "revision": r.Revision, "origin": r.Origin,
		"due_at": micros(r.DueAt), "window_from": micros(r.WindowFrom), "started_at": micros(r.StartedAt), "sent_at": micros(r.SentAt), "ready_at": micros(r.ReadyAt),
		"attempts": attempts, "maybe_sent": r.MaybeSent, "targets": orEmpty(r.Targets), "reason": orNull(r.Reason), "code": orNull(r.Code),
		"message": orNull(r.Message), "request_id": orNull(r.RequestID),
	}
}

// One statement stores all retries of a batch. One by one, the refused calls of
// a busy second would take too long to store.
const retryClaimedSQL = `
	WITH u AS MATERIALIZED (
		SELECT u.*, nextval('scheduler.slices_id_seq') AS slice_id
		  FROM jsonb_to_recordset($1) AS u (id bigint, app_no integer, campaign_id bigint, revision integer, origin text,
		       due_at timestamptz, window_from timestamptz, started_at timestamptz, sent_at timestamptz, ready_at timestamptz, attempts integer,
		       maybe_sent boolean, targets text[], reason text, code text, message text, request_id text)
		 WHERE NOT EXISTS (SELECT FROM scheduler.running_tasks r WHERE r.id = u.id) AND NOT EXISTS (SELECT FROM scheduler.decided_tasks d WHERE d.id = u.id)
	), task AS (
		INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, window_from, started_at, slices, targets)
		SELECT id, app_no, campaign_id, revision, origin::scheduler.task_origin, due_at, window_from, started_at, 1, cardinality(targets) FROM u
	), delivery AS (
		INSERT INTO scheduler.slices (id, task_id, slice_no, app_no, campaign_id, ready_at, attempts, maybe_sent, sent_at, reason, code, message, request_id)
		OVERRIDING SYSTEM VALUE
		SELECT slice_id, id, 1, app_no, campaign_id, ready_at, attempts, maybe_sent, sent_at, reason, code, message, request_id FROM u
	)
	INSERT INTO scheduler.slice_targets (slice_id, targets) SELECT slice_id, targets FROM u WHERE targets <> '{}'`

// jsonRows returns a list as jsonb_to_recordset reads it.
func jsonRows[T any](list []T, row func(T) map[string]any) []map[string]any {
	out := make([]map[string]any, len(list))
	for i, v := range list {
		out[i] = row(v)
	}
	return out
}

// micros returns a time in the database's precision, cut as pgx cuts it; NULL when
// it is zero.
func micros(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.Truncate(time.Microsecond)
	return &t
}

// orNull turns an empty text into NULL.
func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// CutClaimed stores the deliveries of a claimed task whose audience grew past one
// call before any was made. If the result is not Begun, nothing was stored: the
// claim is gone, or the campaign has another revision or was deleted. If it is
// Begun without Slices, the deliveries were stored before.
func (s *Store) CutClaimed(ctx context.Context, daemonID, claim int64, in Start) (Started, error) {
	var out Started
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		held, _, err := holdClaims(ctx, tx, daemonID, []int64{claim}, nil)
		if err != nil || !held[claim] {
			return err
		}
		t := &startingTask{}
		var standing *int32
		err = tx.QueryRow(ctx, `
			SELECT t.app_no, t.revision, t.campaign_id, coalesce(c.channel, ''), coalesce(c.audience_view, ''), t.due_at, t.claimed_at, t.origin::text, c.revision,
			       c.spread, coalesce(`+windowEnd("t.app_no", "t.campaign_id", "t.due_at", "c.catch_up_window")+`, t.due_at)
			  FROM scheduler.claimed_tasks t LEFT JOIN scheduler.campaigns c ON c.id = t.campaign_id
			 WHERE t.claim_id = $1 AND t.id = $2`, claim, in.TaskID).
			Scan(&t.appNo, &t.revision, &t.campaignID, &t.channel, &t.audienceView, &t.dueAt, &t.now, &t.origin, &standing,
				(*interval)(&t.spread), &t.expiresAt)
		switch {
		case errors.Is(err, pgx.ErrNoRows): // an earlier transaction committed whose answer did not arrive
			out.Begun = true
			return nil
		case err != nil:
			return err
		case standing == nil || *standing != in.Revision: // the campaign was deleted or changed since
			return nil
		}
		out.Begun, t.revision = true, in.Revision
		return t.store(ctx, tx, daemonID, in, &out)
	})
	if err != nil {
		return Started{}, fmt.Errorf("cut task %d: %w", in.TaskID, err)
	}
	return out, nil
}

// ReturnLostClaims gives back claims and attempts that the database has of the daemon,
// and of which the daemon does not know: their statement failed here and committed
// there. No call was made for them, so they may begin again. known are the claims, and
// running the attempts, of which the daemon knew at the instant before. Later ones are
// left alone, so that a statement that the network held back and runs late does no
// harm.
func (s *Store) ReturnLostClaims(ctx context.Context, daemonID int64, before time.Time, known, running []int64) (int, error) {
	var lost []int64
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
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
		return 0, fmt.Errorf("give back lost claims: %w", err)
	}
	return len(lost), nil
}
