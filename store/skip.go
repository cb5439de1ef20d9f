package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// SkipOccurrence decides one coming occurrence of a campaign as cancelled, or
// takes that back while it is still to come. changed is false when it was so
// already. The error may be ErrNoCampaign, or a Refusal of what is past, has
// begun, or is no occurrence.
func (s *Store) SkipOccurrence(ctx context.Context, campaignID int64, due time.Time, note string, back bool) (changed bool, err error) {
	do := `SELECT scheduler.skip_occurrence($1, $2, $3)`
	if back {
		do = `SELECT scheduler.unskip_occurrence($1, $2, $3)`
	}
	if err := s.pool.QueryRow(ctx, do, campaignID, due, note).Scan(&changed); err != nil {
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

// Words say who skipped the occurrence and why.
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
