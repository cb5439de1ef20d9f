package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Candidate is a campaign with an occurrence that is no task yet. Of the
// Campaign only what decides its occurrences is read.
type Candidate struct {
	Campaign  Campaign
	NextDueAt time.Time
}

// candidateColumns are a Candidate's columns, of rows named k and c.
const candidateColumns = `k.next_due_at, c.id, c.revision, c.channel, c.strategy_type, c.strategy_content, c.time_zone,
	c.short_month_policy, c.dst_gap_policy, c.catch_up_window, c.written_at`

// Candidates returns the app's active campaigns with the earliest occurrences
// before the given instant, at most limit, earliest first.
func (p *PlanTx) Candidates(ctx context.Context, before time.Time, limit int) ([]Candidate, error) {
	rows, _ := p.tx.Query(ctx, `
		WITH k AS MATERIALIZED (
			SELECT campaign_id, revision, next_due_at FROM scheduler.campaign_cursors
			 WHERE app_no = $1 AND active AND next_due_at IS NOT NULL AND next_due_at < $2
			 ORDER BY next_due_at, campaign_id LIMIT $3
		)
		SELECT `+candidateColumns+`
		  FROM k JOIN scheduler.campaigns c ON c.id = k.campaign_id AND c.revision = k.revision AND c.status = 'active'
		 ORDER BY k.next_due_at, k.campaign_id`, p.AppNo, before, limit)
	return collectCandidates(rows)
}

// FreeCandidates is Candidates without the campaigns that authors hold; it locks
// those it returns until the transaction ends. It looks at every campaign of
// the app in the worst case, so it is asked only when Lock got fewer than it
// should: however many campaigns an author holds, the others go on.
func (p *PlanTx) FreeCandidates(ctx context.Context, before time.Time, limit int) ([]Candidate, error) {
	rows, _ := p.tx.Query(ctx, `
		SELECT `+candidateColumns+`
		  FROM scheduler.campaign_cursors k
		  JOIN scheduler.campaigns c ON c.id = k.campaign_id AND c.revision = k.revision AND c.status = 'active'
		 WHERE k.app_no = $1 AND k.active AND k.next_due_at IS NOT NULL AND k.next_due_at < $2
		 ORDER BY k.next_due_at, k.campaign_id LIMIT $3 FOR SHARE OF c SKIP LOCKED`, p.AppNo, before, limit)
	return collectCandidates(rows)
}

func collectCandidates(rows pgx.Rows) ([]Candidate, error) {
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Candidate, error) {
		var c Candidate
		m := &c.Campaign
		err := row.Scan(&c.NextDueAt, &m.ID, &m.Revision, &m.Channel, &m.StrategyType, &m.StrategyContent, &m.TimeZone,
			&m.ShortMonthPolicy, &m.DSTGapPolicy, (*interval)(&m.CatchUpWindow), &m.WrittenAt)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("load candidates: %w", err)
	}
	return out, nil
}
