package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Decision says how an occurrence ended: pushed, missed, cancelled, or with
// unknown outcome. A field that is zero is not known or does not apply.
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

// decisionColumns are the columns of a decision, of decided_tasks d and
// channels ch. scanDecision reads them.
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
// how tasks ended. It records the endings by the database's function, and
// returns those it recorded. The function keeps refused ones for takeUntold.
const decideSQL = `
	SELECT ` + decisionColumns + `
	  FROM scheduler.decide(ARRAY(SELECT e FROM ending), true) d JOIN scheduler.channels ch ON ch.channel_no = d.channel_no
	 ORDER BY d.due_at, d.id`

// A Refused is a second decision on an occurrence. The first one stands.
type Refused struct {
	TaskID     int64
	CampaignID int64
	DueAt      time.Time
	Status     string // the status of the refused decision
}

// takeUntold takes the app's decisions that no daemon has logged yet: those that
// were written outside a daemon, as by an author's cancel or by release
// --skip-overdue, and those that were refused. Each is taken once.
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
		case status != nil: // the decision was not pruned or ruled on since
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

// A copyBuffer builds the binary form of COPY. COPY is the cheapest way to store
// many rows, since PostgreSQL neither parses nor plans per row, and writes whole
// pages. A field is its length and its binary form, as described in PostgreSQL's
// documents of COPY and by each type's receive function.
type copyBuffer struct{ b []byte }

func newCopyBuffer(size int) *copyBuffer {
	c := &copyBuffer{b: make([]byte, 0, size)}
	c.b = append(c.b, "PGCOPY\n\xff\r\n\x00"...)
	c.b = append(c.b, 0, 0, 0, 0, 0, 0, 0, 0) // no flags, no header extension
	return c
}

// row begins a row.
func (c *copyBuffer) row(fields int16) { c.b = binary.BigEndian.AppendUint16(c.b, uint16(fields)) }

// end completes the buffer.
func (c *copyBuffer) end() []byte { return append(c.b, 0xff, 0xff) }

func (c *copyBuffer) null() { c.b = append(c.b, 0xff, 0xff, 0xff, 0xff) }

func (c *copyBuffer) int64(v int64) {
	c.b = binary.BigEndian.AppendUint32(c.b, 8)
	c.b = binary.BigEndian.AppendUint64(c.b, uint64(v))
}

func (c *copyBuffer) int32(v int32) {
	c.b = binary.BigEndian.AppendUint32(c.b, 4)
	c.b = binary.BigEndian.AppendUint32(c.b, uint32(v))
}

func (c *copyBuffer) int16(v int16) {
	c.b = binary.BigEndian.AppendUint32(c.b, 2)
	c.b = binary.BigEndian.AppendUint16(c.b, uint16(v))
}

// text writes a text or a label of an enum.
func (c *copyBuffer) text(v string) {
	c.b = binary.BigEndian.AppendUint32(c.b, uint32(len(v)))
	c.b = append(c.b, v...)
}

// textOrNull writes NULL for an empty text.
func (c *copyBuffer) textOrNull(v string) {
	if v == "" {
		c.null()
		return
	}
	c.text(v)
}

// epoch is the zero of PostgreSQL's timestamps, which count microseconds.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (c *copyBuffer) time(t time.Time) { c.int64(t.UnixMicro() - epoch.UnixMicro()) }

// timeOrNull writes NULL for the zero time.
func (c *copyBuffer) timeOrNull(t time.Time) {
	if t.IsZero() {
		c.null()
		return
	}
	c.time(t)
}

const textOID = 25

// texts writes a text[].
func (c *copyBuffer) texts(list []string) {
	at := len(c.b)
	c.b = append(c.b, 0, 0, 0, 0) // room for the length
	dimensions := min(len(list), 1)
	for _, v := range []uint32{uint32(dimensions), 0, textOID} {
		c.b = binary.BigEndian.AppendUint32(c.b, v)
	}
	if dimensions > 0 {
		c.b = binary.BigEndian.AppendUint32(c.b, uint32(len(list)))
		c.b = binary.BigEndian.AppendUint32(c.b, 1) // the lower bound
	}
	for _, v := range list {
		c.text(v)
	}
	binary.BigEndian.PutUint32(c.b[at:], uint32(len(c.b)-at-4))
}
