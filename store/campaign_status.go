package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNotActive says that a campaign that is not active cannot be triggered.
var ErrNotActive = errors.New("only an active campaign can be triggered")

// A Refusal is what the database's rules say to a change of a campaign.
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
		return "", fmt.Errorf("campaign %d: %w", id, refusal(err))
	}
	return before, nil
}

// refusal turns what a rule of the campaigns table raised into words.
func refusal(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNoCampaign
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "23514" {
		return Refusal{pg.Message, pg.Hint}
	}
	return err
}

// Trigger makes a task of the campaign that is due now, beside those of its
// strategy, and wakes the daemons. The error may be ErrNoCampaign or ErrNotActive.
func (s *Store) Trigger(ctx context.Context, campaignID int64) (taskID int64, due time.Time, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// The lock is against a pause or a cancel: it either is seen here, or
		// withdraws what is written here.
		var status string
		var appNo, revision int32
		err := tx.QueryRow(ctx, `SELECT status, app_no, revision FROM scheduler.campaigns WHERE id = $1 FOR SHARE`, campaignID).Scan(&status, &appNo, &revision)
		if err != nil {
			return err
		}
		if status != "active" {
			return fmt.Errorf("%w; this one is %s", ErrNotActive, status)
		}
		err = tx.QueryRow(ctx, `
			INSERT INTO scheduler.pending_tasks (app_no, campaign_id, revision, origin, due_at, ready_at)
			SELECT $1, $2, $3, 'triggered', t, t FROM clock_timestamp() t RETURNING id, due_at`, appNo, campaignID, revision).Scan(&taskID, &due)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `SELECT pg_notify($1, $2::integer::text)`, readyChannel, appNo)
		return err
	})
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("trigger campaign %d: %w", campaignID, refusal(err))
	}
	return taskID, due, nil
}
