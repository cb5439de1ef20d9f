package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Refusal says by which rule the database refuses what an author or operator
// wants to do.
type Refusal struct{ Message, Hint string }

// Error is the rule, and the fix when there is one.
func (r Refusal) Error() string {
	if r.Hint == "" {
		return r.Message
	}
	return r.Message + "; " + r.Hint
}

// refusal turns an error that a rule of the database raised into a Refusal. It
// returns missing where the row is not there, and other errors as they are.
func refusal(err, missing error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return missing
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && pg.Code == "P0002": // no_data_found
		return missing
	case ok && (pg.Code == "23514" || pg.Code == "55000"): // check_violation, object_not_in_prerequisite_state
		return Refusal{pg.Message, pg.Hint}
	case ok && pg.Code == uniqueViolation && pg.TableName == "campaign_targets":
		return Refusal{Message: targetTwice}
	}
	return err
}

// SetCampaignStatus pauses, resumes or cancels a campaign, as an UPDATE by its
// author would, and returns the status it had. It waits for other changes of
// the campaign. The error may be ErrNoCampaign or a Refusal.
func (s *Store) SetCampaignStatus(ctx context.Context, id int64, status string) (before string, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT status FROM scheduler.campaigns WHERE id = $1 FOR NO KEY UPDATE`, id).Scan(&before); err != nil {
			return err
		}
		if before == status {
			return nil // a revision would be raised for nothing
		}
		_, err := tx.Exec(ctx, `UPDATE scheduler.campaigns SET status = $2 WHERE id = $1`, id, status)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("campaign %d: %w", id, refusal(err, ErrNoCampaign))
	}
	return before, nil
}

// Trigger makes a task of the campaign that is due now, beside those of its
// strategy, wakes the daemons, and keeps for the audit who did it. The error may
// be ErrNoCampaign, or a Refusal of a campaign that is paused, cancelled or rejected.
func (s *Store) Trigger(ctx context.Context, campaignID int64, operator string) (taskID int64, due time.Time, err error) {
	err = s.db.QueryRow(ctx, `SELECT task_id, due_at FROM scheduler.trigger_campaign($1, $2)`, campaignID, operator).Scan(&taskID, &due)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("trigger campaign %d: %w", campaignID, refusal(err, ErrNoCampaign))
	}
	return taskID, due, nil
}

// A TriggerRow is a row of scheduler.triggered_tasks.
type TriggerRow struct {
	By       string // the database login
	Operator string // the user of the operating system, as he says
	At       time.Time
}

// Triggered returns who triggered a task; nil: nobody did.
func (s *Store) Triggered(ctx context.Context, taskID int64) (*TriggerRow, error) {
	rows, _ := s.db.Query(ctx, `SELECT triggered_by, coalesce(operator, ''), triggered_at FROM scheduler.triggered_tasks WHERE task_id = $1`, taskID)
	t, err := pgx.CollectOneRow(rows, pgx.RowToAddrOfStructByPos[TriggerRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // most tasks are of their strategy
	}
	if err != nil {
		return nil, fmt.Errorf("read who triggered task %d: %w", taskID, err)
	}
	return t, nil
}

// SkipOccurrence decides one coming occurrence of a campaign as cancelled. With
// back it takes that decision back, while the occurrence is still to come.
// changed is false when nothing had to change. The error may be ErrNoCampaign,
// or a Refusal of an instant that is past, whose push has begun, or that is no
// occurrence.
func (s *Store) SkipOccurrence(ctx context.Context, campaignID int64, due time.Time, note string, back bool) (changed bool, err error) {
	do := `SELECT scheduler.skip_occurrence($1, $2, $3)`
	if back {
		do = `SELECT scheduler.unskip_occurrence($1, $2, $3)`
	}
	if err := s.db.QueryRow(ctx, do, campaignID, due, note).Scan(&changed); err != nil {
		return false, fmt.Errorf("skip an occurrence of campaign %d: %w", campaignID, refusal(err, ErrNoCampaign))
	}
	return changed, nil
}

// A Skip is a coming occurrence that is not pushed.
type Skip struct {
	DueAt time.Time
	By    string
	Note  string // why; may be empty
}

// Words returns a text that says who skipped the occurrence and why.
func (k Skip) Words() string {
	if k.Note == "" {
		return "skipped by " + k.By
	}
	return "skipped by " + k.By + ": " + k.Note
}

// maxSkips bounds what Skips returns.
const maxSkips = 1000

// Skips returns a campaign's skipped occurrences after the given time, the first
// 1,000, in their order.
func (s *Store) Skips(ctx context.Context, campaignID int64, after time.Time) ([]Skip, error) {
	return readRows(ctx, s, "read skipped occurrences", pgx.RowToStructByPos[Skip], `
		SELECT k.due_at, k.skipped_by, coalesce(k.note, '') FROM scheduler.skipped_occurrences k
		 WHERE k.campaign_id = $1 AND k.due_at > $2 AND k.restored_at IS NULL ORDER BY k.due_at LIMIT $3`, campaignID, after, maxSkips)
}

// ErrNoTask says that there is no task with the id.
var ErrNoTask = errors.New("there is no such task")

// A Ruling states what an operator found out about a task's calls whose outcome
// was unknown.
type Ruling struct {
	TaskID   int64
	Sent     bool   // they arrived; else they did not
	Resend   bool   // make the calls again, with the same message keys; not with Sent
	Note     string // why
	Operator string // the user of the operating system, for the audit
}

// A Ruled is the state of the task after a ruling.
type Ruled struct {
	Status string // succeeded, failed, or running when it is sent again
	Reason string
}

// Resolve applies a ruling and keeps the audit, in one transaction, by the
// database's own function. It touches only deliveries of unknown outcome, so
// accepted ones are never sent again. A ruling that nothing was sent gives the
// quota back. The error may be ErrNoTask, or a Refusal of a task whose outcome
// is known, or of a resend for a campaign that may not push.
func (s *Store) Resolve(ctx context.Context, r Ruling) (Ruled, error) {
	var out Ruled
	err := s.db.QueryRow(ctx, `SELECT status, reason FROM scheduler.resolve_task($1, $2, $3, $4, $5)`, r.TaskID, r.Sent, r.Resend, r.Note, r.Operator).
		Scan(&out.Status, &out.Reason)
	if err != nil {
		return Ruled{}, fmt.Errorf("resolve task %d: %w", r.TaskID, refusal(err, ErrNoTask))
	}
	return out, nil
}

// A RulingRow is a row of scheduler.rulings.
type RulingRow struct {
	RuledAt        time.Time
	Ruling         string // sent or not_sent
	Resend         bool
	Note           string
	RuledBy        string // the database role
	Operator       string // the user of the operating system, as he says
	PreviousReason string
}

// Rulings returns the rulings on a task, oldest first.
func (s *Store) Rulings(ctx context.Context, taskID int64) ([]RulingRow, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT ruled_at, ruling, resend, coalesce(note, ''), ruled_by, coalesce(operator, ''), coalesce(previous_reason, '')
		  FROM scheduler.rulings WHERE task_id = $1 ORDER BY id`, taskID)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RulingRow])
	if err != nil {
		return nil, fmt.Errorf("list rulings of task %d: %w", taskID, err)
	}
	return out, nil
}
