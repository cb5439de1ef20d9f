package store

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Record writes decisions of claimed tasks in one transaction and drops the
// claims in done, whose tasks are all decided with it. It returns the tasks it
// recorded. A decision whose claim is gone is fenced, and is not among them.
func (s *Store) Record(ctx context.Context, daemonID int64, decisions []*Decision, done []int64) (recorded map[int64]bool, err error) {
	if _, err := s.channelNos(ctx); err != nil { // before the transaction, which uses another connection
		return nil, err
	}
	recorded, err = s.record(ctx, daemonID, decisions, done, s.copyDecisions)
	if sqlState(err) == uniqueViolation {
		recorded, err = s.record(ctx, daemonID, decisions, done, decideClaimed)
	}
	if err != nil {
		return nil, fmt.Errorf("record decisions: %w", err)
	}
	return recorded, s.recognise(ctx, daemonID, decisions, recorded)
}

// record writes those decisions whose claims stand, by the given function.
func (s *Store) record(ctx context.Context, daemonID int64, decisions []*Decision, done []int64,
	write func(ctx context.Context, tx pgx.Tx, daemonID int64, now time.Time, decisions []*Decision) (map[int64]bool, error),
) (recorded map[int64]bool, err error) {
	claims := make([]int64, len(decisions))
	for i, d := range decisions {
		claims[i] = d.ClaimID
	}
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		held, now, err := holdClaims(ctx, tx, daemonID, claims, done)
		if err != nil {
			return err
		}
		stand := make([]*Decision, 0, len(decisions))
		for _, d := range decisions {
			if held[d.ClaimID] {
				stand = append(stand, d)
			}
		}
		recorded, err = write(ctx, tx, daemonID, now, stand)
		return err
	})
	return recorded, err
}

// holdClaims locks those of the claims that still stand, and deletes those in
// done. It returns the claims it holds and the database's clock. This is the
// fence: the reaper, which deletes a dead daemon's claims, either waits for this
// transaction or is seen by it. Two transactions of one daemon do not wait for
// each other.
func holdClaims(ctx context.Context, tx pgx.Tx, daemonID int64, claims, done []int64) (held map[int64]bool, now time.Time, err error) {
	held = make(map[int64]bool)
	for _, id := range done {
		held[id] = false
	}
	var open []int64
	for _, id := range claims {
		if _, seen := held[id]; !seen {
			held[id] = false
			open = append(open, id)
		}
	}
	rows, _ := tx.Query(ctx, `
		WITH over AS (
			DELETE FROM scheduler.claims WHERE id = ANY($1) AND daemon_id = $3 RETURNING id
		), held AS (
			SELECT id FROM scheduler.claims WHERE id = ANY($2) AND daemon_id = $3 FOR SHARE
		)
		SELECT id, clock_timestamp() FROM over UNION ALL SELECT id, clock_timestamp() FROM held`, orEmpty(done), orEmpty(open), daemonID)
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&id, &now}, func() error { held[id] = true; return nil })
	return held, now, err
}

// copyDecisions is the fast way: it takes all or none.
func (s *Store) copyDecisions(ctx context.Context, tx pgx.Tx, daemonID int64, now time.Time, decisions []*Decision) (map[int64]bool, error) {
	recorded := make(map[int64]bool, len(decisions))
	if len(decisions) == 0 {
		return recorded, nil
	}
	channels, err := s.channelNos(ctx)
	if err != nil {
		return nil, err
	}
	rows := newCopyBuffer(256 * len(decisions))
	for _, d := range decisions {
		d.write(rows, daemonID, channels[d.Channel], now)
		recorded[d.TaskID] = true
	}
	_, err = tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(rows.end()), copyDecided)
	return recorded, err
}

// decideClaimed records decisions some of which may be second decisions. The
// others are recorded all the same.
func decideClaimed(ctx context.Context, tx pgx.Tx, daemonID int64, _ time.Time, decisions []*Decision) (map[int64]bool, error) {
	rows, _ := tx.Query(ctx, `
		WITH ending AS (
			SELECT (u.task_id, u.app_no, u.campaign_id, u.revision, k.channel_no, u.origin, u.status, u.due_at, u.started_at, u.sent_at,
			        u.attempts, 1, (u.status = 'succeeded')::integer, cardinality(u.targets), $1::bigint, u.reason, u.code, u.message,
			        u.request_id, u.message_id, u.targets)::scheduler.ending AS e
			  FROM jsonb_to_recordset($2) AS u (task_id bigint, app_no integer, campaign_id bigint, revision integer, channel text, origin text, status text,
			       due_at timestamptz, started_at timestamptz, sent_at timestamptz, attempts integer, targets text[], reason text, code text, message text,
			       request_id text, message_id text)
			  JOIN scheduler.channels k ON k.channel = u.channel
		)`+decideSQL, daemonID, jsonRows(decisions, func(d *Decision) map[string]any {
		return map[string]any{
			"task_id": d.TaskID, "app_no": d.AppNo, "campaign_id": d.CampaignID, "revision": d.Revision, "channel": d.Channel, "origin": d.Origin,
			"status": d.Status, "due_at": micros(d.DueAt), "started_at": micros(d.StartedAt), "sent_at": micros(d.SentAt), "attempts": d.attempts(),
			"targets": orEmpty(d.Targets), "reason": orNull(d.Reason), "code": orNull(d.Code), "message": orNull(d.Message),
			"request_id": orNull(d.RequestID), "message_id": orNull(d.MessageID),
		}
	}))
	decided, err := pgx.CollectRows(rows, scanDecision)
	recorded := make(map[int64]bool, len(decided))
	for i := range decided {
		recorded[decided[i].TaskID] = true
	}
	return recorded, err
}

// attempts returns how many calls were made for the decision of a claimed task.
func (d *Decision) attempts() int32 {
	if d.SentAt.IsZero() {
		return 0
	}
	return 1
}

// decided_at is given: COPY writes row by row where a column has a default that
// may differ from row to row.
const copyDecided = `COPY scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, started_at, sent_at, decided_at,
	attempts, slices, accepted, target_count, daemon_id, reason, code, message, request_id, message_id, targets) FROM STDIN BINARY`

// write appends the decision as a row of copyDecided.
func (d *Decision) write(c *copyBuffer, daemonID int64, channel int16, now time.Time) {
	accepted := int32(0)
	if d.Status == "succeeded" {
		accepted = 1
	}
	c.row(22)
	c.int64(d.TaskID)
	c.int32(d.AppNo)
	c.int64(d.CampaignID)
	c.int32(d.Revision)
	c.int16(channel)
	c.text(d.Origin)
	c.text(d.Status)
	c.time(d.DueAt)
	c.time(d.StartedAt)
	c.timeOrNull(d.SentAt)
	c.time(now)
	c.int32(d.attempts())
	c.int32(1) // slices
	c.int32(accepted)
	c.int64(int64(len(d.Targets)))
	c.int64(daemonID)
	c.textOrNull(d.Reason)
	c.textOrNull(d.Code)
	c.textOrNull(d.Message)
	c.textOrNull(d.RequestID)
	c.textOrNull(d.MessageID)
	c.texts(d.Targets)
}

// uniqueViolation is the SQLSTATE of a second row for one key.
const uniqueViolation = "23505"

// recognise adds to recorded the decisions that this daemon has recorded
// before: an earlier transaction may have committed though its answer was lost.
func (s *Store) recognise(ctx context.Context, daemonID int64, decisions []*Decision, recorded map[int64]bool) error {
	var missing []int64
	for _, d := range decisions {
		if !recorded[d.TaskID] {
			missing = append(missing, d.TaskID)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	rows, _ := s.db.Query(ctx, `SELECT id FROM scheduler.decided_tasks WHERE id = ANY($1) AND daemon_id = $2`, missing, daemonID)
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { recorded[id] = true; return nil }); err != nil {
		return fmt.Errorf("recognise decisions: %w", err)
	}
	return nil
}

// channelNos returns the channels' short keys, read once: they never change.
func (s *Store) channelNos(ctx context.Context) (map[string]int16, error) {
	if known := s.channels.Load(); known != nil {
		return *known, nil
	}
	rows, _ := s.db.Query(ctx, `SELECT channel, channel_no FROM scheduler.channels`)
	known := make(map[string]int16)
	var name string
	var no int16
	if _, err := pgx.ForEachRow(rows, []any{&name, &no}, func() error { known[name] = no; return nil }); err != nil {
		return nil, fmt.Errorf("read channels: %w", err)
	}
	s.channels.Store(&known)
	return known, nil
}
