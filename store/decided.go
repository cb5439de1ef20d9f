package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Decision is how an occurrence ended, by whatever way: pushed, missed,
// cancelled, or of unknown outcome. What is zero is not known or does not apply.
type Decision struct {
	ClaimID     int64 // the fence of a claimed task, whose outcome Record writes; else 0
	TaskID      int64 // 0: the occurrence never became a task
	AppNo       int32
	CampaignID  int64
	Revision    int32
	Channel     string
	Origin      string // scheduled, immediate or triggered
	Status      string // succeeded, failed, missed, cancelled or unknown
	Reason      string // empty only for succeeded
	DueAt       time.Time
	StartedAt   time.Time // zero: its push never began
	SentAt      time.Time // when the first call began; zero: nothing was sent
	Targets     []string  // of a task with one delivery
	TargetCount int64     // of all deliveries
	Code        string
	Message     string
	RequestID   string
	MessageID   string
}

// decisionColumns are what is told of a decision, of decided_tasks d and
// channels ch; scanDecision reads them.
const decisionColumns = `d.id, d.app_no, d.campaign_id, d.revision, ch.channel, d.origin::text, d.status::text, coalesce(d.reason, ''),
	d.due_at, d.started_at, d.sent_at, d.target_count, coalesce(d.request_id, ''), coalesce(d.message_id, '')`

func scanDecision(row pgx.CollectableRow) (Decision, error) {
	var d Decision
	var started, sent *time.Time
	err := row.Scan(&d.TaskID, &d.AppNo, &d.CampaignID, &d.Revision, &d.Channel, &d.Origin, &d.Status, &d.Reason,
		&d.DueAt, &started, &sent, &d.TargetCount, &d.RequestID, &d.MessageID)
	d.StartedAt, d.SentAt = orZero(started), orZero(sent)
	return d, err
}

// decideSQL is the end of a statement whose CTE ending (e scheduler.ending) says
// how tasks ended: it records them by the database's function, and returns those
// it recorded. What it refused, the function keeps for takeUntold.
const decideSQL = `
	SELECT ` + decisionColumns + `
	  FROM scheduler.decide(ARRAY(SELECT e FROM ending), true) d JOIN scheduler.channels ch ON ch.channel_no = d.channel_no
	 ORDER BY d.due_at, d.id`

// A Refused decision was one too many: its occurrence had one already, which
// stands.
type Refused struct {
	TaskID     int64
	CampaignID int64
	DueAt      time.Time
	Status     string // what it would have been
}

// takeUntold takes the app's decisions that were written where no daemon could
// tell of them, as by an author's cancel or by release --skip-overdue, and those
// that were refused. Each is taken once.
func (p *PlanTx) takeUntold(ctx context.Context) error {
	rows, _ := p.tx.Query(ctx, `
		WITH taken AS (
			DELETE FROM scheduler.untold_decisions WHERE app_no = $1 RETURNING task_id, campaign_id, due_at, refused
		)
		SELECT t.refused::text, t.task_id, t.campaign_id, t.due_at, d.revision, ch.channel, d.origin::text, d.status::text, d.reason, d.started_at, d.sent_at, d.target_count
		  FROM taken t
		  LEFT JOIN scheduler.decided_tasks d ON d.campaign_id = t.campaign_id AND d.due_at = t.due_at AND d.id = t.task_id AND t.refused IS NULL
		  LEFT JOIN scheduler.channels ch ON ch.channel_no = d.channel_no
		 ORDER BY t.due_at, t.task_id`, p.AppNo)
	var refused, channel, origin, status, reason *string
	var id, campaign int64
	var due time.Time
	var revision *int32
	var started, sent *time.Time
	var targets *int64
	_, err := pgx.ForEachRow(rows, []any{&refused, &id, &campaign, &due, &revision, &channel, &origin, &status, &reason, &started, &sent, &targets}, func() error {
		switch {
		case refused != nil:
			p.Refused = append(p.Refused, Refused{TaskID: id, CampaignID: campaign, DueAt: due, Status: *refused})
		case status != nil: // not pruned or ruled on since
			p.Decided = append(p.Decided, Decision{
				TaskID: id, AppNo: p.AppNo, CampaignID: campaign, Revision: *revision, Channel: orZero(channel), Origin: *origin, Status: *status,
				Reason: orZero(reason), DueAt: due, StartedAt: orZero(started), SentAt: orZero(sent), TargetCount: *targets,
			})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("take untold decisions: %w", err)
	}
	return nil
}
