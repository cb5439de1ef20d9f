package store

import (
	"context"
	"fmt"
	"time"
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
