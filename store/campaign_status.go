package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Refusal is what the database's rules say to an author's or operator's deed.
type Refusal struct{ Message, Hint string }

// Error is the rule, and the mend when there is one.
func (r Refusal) Error() string {
	if r.Hint == "" {
		return r.Message
	}
	return r.Message + "; " + r.Hint
}

// SetCampaignStatus pauses, resumes or cancels a campaign, as an UPDATE by its
// author would, and returns the status it had. It waits for other changes of
// the campaign. The error may be ErrNoCampaign or a Refusal.
func (s *Store) SetCampaignStatus(ctx context.Context, id int64, status string) (before string, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
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

// refusal turns what a rule of the database raised into words; missing says what
// there is none of.
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
	}
	return err
}

// Trigger makes a task of the campaign that is due now, beside those of its
// strategy, wakes the daemons, and keeps for the audit who did it. The error may
// be ErrNoCampaign, or a Refusal of a campaign that is paused, cancelled or rejected.
func (s *Store) Trigger(ctx context.Context, campaignID int64, operator string) (taskID int64, due time.Time, err error) {
	err = s.pool.QueryRow(ctx, `SELECT task_id, due_at FROM scheduler.trigger_campaign($1, $2)`, campaignID, operator).Scan(&taskID, &due)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("trigger campaign %d: %w", campaignID, refusal(err, ErrNoCampaign))
	}
	return taskID, due, nil
}
