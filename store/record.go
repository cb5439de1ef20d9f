package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Decision is how a claimed task ended.
type Decision struct {
	ClaimID    int64
	TaskID     int64
	AppNo      int32
	CampaignID int64
	Revision   int32
	Channel    string
	Origin     string
	Status     string // succeeded, failed, missed or unknown
	Reason     string // empty only for succeeded
	DueAt      time.Time
	StartedAt  time.Time
	SentAt     time.Time // zero: nothing was sent
	Targets    []string
	Code       string
	Message    string
	RequestID  string
	MessageID  string
}

// Record writes decisions of claimed tasks in one transaction and drops the
// claims in done, whose tasks are all decided with it. It returns the tasks it
// recorded: a decision whose claim is gone is fenced and does not count.
func (s *Store) Record(ctx context.Context, daemonID int64, decisions []*Decision, done []int64) (recorded map[int64]bool, err error) {
	recorded, err = s.record(ctx, daemonID, decisions, done)
	if sqlState(err) == uniqueViolation {
		recorded, err = s.recordApart(ctx, daemonID, decisions)
		if err == nil {
			_, err = s.record(ctx, daemonID, nil, done)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("record decisions: %w", err)
	}
	return recorded, s.recognise(ctx, daemonID, decisions, recorded)
}

// record is one attempt at all of them together.
func (s *Store) record(ctx context.Context, daemonID int64, decisions []*Decision, done []int64) (map[int64]bool, error) {
	channels, err := s.channelNos(ctx)
	if err != nil {
		return nil, err
	}
	recorded := make(map[int64]bool, len(decisions))
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		held, now, err := holdClaims(ctx, tx, daemonID, decisions, done)
		if err != nil {
			return err
		}
		rows := newCopyBuffer(256 * len(decisions))
		for _, d := range decisions {
			if held[d.ClaimID] {
				d.write(rows, daemonID, channels[d.Channel], now)
				recorded[d.TaskID] = true
			}
		}
		if len(recorded) > 0 {
			_, err = tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(rows.end()), copyDecided)
		}
		return err
	})
	return recorded, err
}

// holdClaims locks those of the decisions' claims that still stand, deleting the
// ones in done, and returns them and the database's clock. This is the fence: the
// reaper deletes a dead daemon's claims, and either waits for this transaction or
// is seen by it.
func holdClaims(ctx context.Context, tx pgx.Tx, daemonID int64, decisions []*Decision, done []int64) (held map[int64]bool, now time.Time, err error) {
	held = make(map[int64]bool)
	for _, id := range done {
		held[id] = false
	}
	var open []int64
	for _, d := range decisions {
		if _, seen := held[d.ClaimID]; !seen {
			held[d.ClaimID] = false
			open = append(open, d.ClaimID)
		}
	}
	rows, _ := tx.Query(ctx, `
		WITH over AS (
			DELETE FROM scheduler.claims WHERE id = ANY($1) AND daemon_id = $3 RETURNING id
		), held AS (
			SELECT id FROM scheduler.claims WHERE id = ANY($2) AND daemon_id = $3 FOR UPDATE
		)
		SELECT id, clock_timestamp() FROM over UNION ALL SELECT id, clock_timestamp() FROM held`, orEmpty(done), orEmpty(open), daemonID)
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&id, &now}, func() error { held[id] = true; return nil })
	return held, now, err
}

// decided_at is given, since COPY writes one row at a time into a table with a
// default that may differ from row to row.
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
	c.int32(1) // attempts
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

// recordApart records in halves what could not be recorded together, down to
// those decisions whose task has one already. That cannot happen while everybody
// keeps to the rules; if it does, the first decision stands and the others of the
// batch are not lost with it.
func (s *Store) recordApart(ctx context.Context, daemonID int64, decisions []*Decision) (map[int64]bool, error) {
	recorded := make(map[int64]bool, len(decisions))
	if len(decisions) == 1 {
		return recorded, nil
	}
	for half := range slices.Chunk(decisions, (len(decisions)+1)/2) {
		some, err := s.record(ctx, daemonID, half, nil)
		if sqlState(err) == uniqueViolation {
			some, err = s.recordApart(ctx, daemonID, half)
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(recorded, some)
	}
	return recorded, nil
}

// recognise adds decisions that this daemon has recorded before: an attempt
// whose answer was lost may have committed.
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
	rows, _ := s.pool.Query(ctx, `SELECT id FROM scheduler.decided_tasks WHERE id = ANY($1) AND daemon_id = $2`, missing, daemonID)
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
	rows, _ := s.pool.Query(ctx, `SELECT channel, channel_no FROM scheduler.channels`)
	known := make(map[string]int16)
	var name string
	var no int16
	if _, err := pgx.ForEachRow(rows, []any{&name, &no}, func() error { known[name] = no; return nil }); err != nil {
		return nil, fmt.Errorf("read channels: %w", err)
	}
	s.channels.Store(&known)
	return known, nil
}
