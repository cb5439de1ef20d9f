package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Decided is a task that was decided without a call of this daemon's.
type Decided struct {
	TaskID     int64
	AppNo      int32
	CampaignID int64
	Channel    string
	DueAt      time.Time
	Status     string
	Reason     string
}

// decidedColumns are those of Decided, of decided_tasks d and channels ch.
const decidedColumns = `d.id, d.app_no, d.campaign_id, ch.channel, d.due_at, d.status::text, coalesce(d.reason, '')`

// noteWithdrawn notes the tasks that the changes of authors decided, in their
// own transactions, where no daemon sees it. Each change is taken by one planner
// once, and so is told of once. The reasons are those of withdraw_tasks.
func (p *PlanTx) noteWithdrawn(ctx context.Context, history map[int64][]Superseded) error {
	var campaigns []int64
	var reasons []string
	var since []time.Time
	for id, versions := range history {
		for i := range versions {
			reason, from := withdrawal(&versions[i])
			if reason != "" {
				campaigns, reasons, since = append(campaigns, id), append(reasons, reason), append(since, from)
			}
		}
	}
	if len(campaigns) == 0 {
		return nil
	}
	rows, _ := p.tx.Query(ctx, `
		SELECT DISTINCT `+decidedColumns+`
		  FROM unnest($1::bigint[], $2::text[], $3::timestamptz[]) AS u (campaign_id, reason, since)
		  JOIN scheduler.decided_tasks d ON d.campaign_id = u.campaign_id AND d.reason = u.reason AND d.decided_at >= u.since
		  JOIN scheduler.channels ch ON ch.channel_no = d.channel_no
		 WHERE d.status = 'cancelled'
		 ORDER BY d.due_at, d.id`, campaigns, reasons, since)
	decided, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Decided])
	if err != nil {
		return fmt.Errorf("load withdrawn tasks: %w", err)
	}
	p.Decided = append(p.Decided, decided...)
	return nil
}

// withdrawal is the reason that the tasks have which a change withdrew, and from
// when on; empty: it withdraws none for good.
func withdrawal(s *Superseded) (reason string, since time.Time) {
	switch {
	case s.Action == "delete":
		return "campaign deleted", time.Time{}
	case s.Action == "cancel":
		return "campaign cancelled", s.ChangedAt
	case s.StrategyEnded:
		return fmt.Sprintf("replaced by revision %d", s.Before.Revision+1), time.Time{}
	case s.Action == "pause":
		return "campaign paused", s.ChangedAt
	}
	return "", time.Time{}
}
