package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrUnrecognised says that a statement met a database that crashed, failed
// over or was restored, and that not all daemons have recognised since. Nothing
// was done. The statement may be tried again once Recognise has succeeded.
var ErrUnrecognised = errors.New("the daemons have not recognised this database yet")

// errStandby says that a standby answers, where a primary is wanted.
var errStandby = errors.New("the server is a standby, which takes no writes; no primary answers at this address")

// Classes of the program's own SQLSTATEs.
const (
	unrecognised = "SR001"
	sessionLost  = "SR002"
)

// IsUnrecognised says whether err means ErrUnrecognised.
func IsUnrecognised(err error) bool {
	return errors.Is(err, ErrUnrecognised) || sqlState(err) == unrecognised
}

// anySeal is the seal of the sessions of commands, which begin no pushes.
const anySeal = "any"

// knownSeal returns the seal that the daemon's sessions carry.
func (s *Store) knownSeal() string {
	if known := s.seal.Load(); known != nil {
		return *known
	}
	return anySeal
}

// connected prepares a new connection with the program's settings.
func (s *Store) connected(ctx context.Context, c *pgx.Conn) error {
	known := s.knownSeal()
	if err := s.session.start(ctx, c, "scheduler.seal", known); err != nil {
		return err
	}
	c.PgConn().CustomData()["seal"] = known
	return nil
}

// prepare gives a connection that is about to be used the seal that the daemon
// knows by now.
func (s *Store) prepare(ctx context.Context, c *pgx.Conn) (bool, error) {
	known := s.knownSeal()
	if c.PgConn().CustomData()["seal"] == known {
		return true, nil
	}
	if _, err := c.Exec(ctx, `SELECT set_config('scheduler.seal', $1, false)`, pgx.QueryExecModeExec, known); err != nil {
		return false, nil //nolint:nilerr // another connection is tried
	}
	c.PgConn().CustomData()["seal"] = known
	return true, nil
}

// An Intent is a claimed task as the daemon that claimed it remembers it.
type Intent struct {
	ClaimID    int64
	TaskID     int64
	AppNo      int32
	CampaignID int64
	Revision   int32
	Origin     string
	DueAt      time.Time
}

// An Attempt is a call of a stored delivery as the daemon that made it remembers it.
type Attempt struct {
	SliceID    int64
	TaskID     int64
	SliceNo    int32
	AppNo      int32
	CampaignID int64
	DueAt      time.Time
	Number     int32 // the fencing token
	Unsent     bool  // certainly no call was made
}

// A Known holds what a daemon remembers of its database.
type Known struct {
	Daemon        int64
	Name, Version string
	Lease         time.Duration
	Run           bool    // as in Newcomer
	Mark          Mark    // its last heartbeat
	Since         int64   // the heartbeat since which it remembers everything that it did; 0: its first
	Peers         []int64 // daemons it has seen
	Origin        uint32  // of the database; it changes when a dump is restored
	Intents       []Intent
	Attempts      []Attempt
}

// A Recognition is the result of Recognise.
type Recognition struct {
	Seal        string
	Complete    bool // all daemons have looked through the database: pushes may begin
	Ended       bool // the daemon's lease was ended meanwhile
	Foreign     bool // another installation answers: the daemon has to enlist anew
	Origin      uint32
	GuardReason string
	Lost        []int64        // tasks whose claim was lost and is written again
	Open        map[int64]bool // tasks that are claimed and not decided: if the daemon recorded one, the record was lost
	Running     map[int64]bool // stored deliveries whose attempt is under way: if the daemon recorded an outcome, it was lost
	Unknown     int            // tasks that became unknown, since the start of their deliveries was lost
	SetBack     int64          // heartbeats that were lost
}

// Seal returns the seal of the database that answers, and whether pushes may
// begin on it. Empty: no daemon has met the database yet.
func (s *Store) Seal(ctx context.Context) (seal string, complete bool, err error) {
	var standby bool
	err = s.db.QueryRow(ctx, `
		WITH sealed AS MATERIALIZED (
			SELECT CASE WHEN NOT pg_is_in_recovery() THEN scheduler.seal() END AS seal -- a standby has no unlogged tables
		)
		SELECT pg_is_in_recovery(), coalesce(seal, ''), EXISTS (SELECT FROM scheduler.recognitions r WHERE r.seal = s.seal AND r.complete_at IS NOT NULL)
		  FROM sealed s`).Scan(&standby, &seal, &complete)
	if err == nil && standby {
		err = errStandby
	}
	if err != nil {
		return "", false, fmt.Errorf("read the database's seal: %w", err)
	}
	return seal, complete, nil
}

// Recognise compares the database with what the daemon remembers that it began
// and recorded. Recognise writes lost claims and attempts again, before
// anything may begin. Lost records are returned, and the caller has to record
// them again. Where more is lost than the daemon remembers, or the database is
// a copy, everything is held.
func (s *Store) Recognise(ctx context.Context, k Known) (Recognition, error) {
	out := Recognition{Open: make(map[int64]bool), Running: make(map[int64]bool)}
	err := s.asAny(ctx, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT scheduler.meet($1 * interval '1 microsecond', $2)`, k.Lease.Microseconds(), orEmpty(k.Peers)).Scan(&out.Seal); err != nil {
			return err
		}
		f, err := readFacts(ctx, tx, nil)
		if err != nil {
			return err
		}
		var beats int64
		if out.Origin, out.Foreign = f.origin, f.installation != k.Mark.Installation; !out.Foreign {
			if beats, err = k.row(ctx, tx, &out); err != nil {
				return err
			}
			out.SetBack = max(0, k.Mark.Beats-beats)
		}
		if out.GuardReason = k.guardReason(f, s.Address(), beats); out.GuardReason != "" && !k.Run {
			if err := holdFor(ctx, tx, out.GuardReason); err != nil {
				return err
			}
		}
		if out.Foreign {
			return nil
		}
		if err := k.restoreIntents(ctx, tx, &out); err != nil {
			return err
		}
		if err := k.restoreAttempts(ctx, tx, &out); err != nil {
			return err
		}
		if beats < k.Since {
			if err := k.disown(ctx, tx); err != nil {
				return err
			}
		}
		return k.conclude(ctx, tx, &out)
	})
	if err != nil {
		return Recognition{}, fmt.Errorf("recognise the database: %w", err)
	}
	return out, nil
}

// asAny runs f in a transaction that may write before the database is
// recognised.
func (s *Store) asAny(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('scheduler.seal', $1, true)`, anySeal); err != nil {
			return err
		}
		return f(tx)
	})
}

// row finds the daemon's own row, or writes it again when it was lost, and
// returns the number of heartbeats in it.
func (k *Known) row(ctx context.Context, tx pgx.Tx, out *Recognition) (beats int64, err error) {
	err = tx.QueryRow(ctx, `SELECT beats, ended_at IS NOT NULL FROM scheduler.daemons WHERE id = $1 FOR UPDATE`, k.Daemon).Scan(&beats, &out.Ended)
	if !errors.Is(err, pgx.ErrNoRows) {
		return beats, err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO scheduler.daemons (id, name, version, leased_until) OVERRIDING SYSTEM VALUE
		VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 microsecond')`, k.Daemon, k.Name, k.Version, k.Lease.Microseconds())
	return 0, err
}

// guardReason returns why the database may be a copy, or may have lost more than
// the daemon remembers. Empty: neither, or there is nothing to push.
func (k *Known) guardReason(f facts, address string, beats int64) string {
	if !f.work {
		return ""
	}
	switch {
	case k.Mark.SeenAt.Before(f.releasedAt):
		return "" // an operator has ruled on everything before the release
	case f.installation != k.Mark.Installation:
		return fmt.Sprintf("another database answers at %s, or its schema was made anew: installation %s, not %s", address, f.installation, k.Mark.Installation)
	case f.moved() != "":
		return f.moved()
	case k.Origin != 0 && f.origin != k.Origin:
		return "the database was restored from a dump while daemons ran"
	case beats < k.Since:
		return setBack(k.Mark, beats)
	}
	return ""
}

// restoreIntents looks up the claimed tasks, and writes lost claims again.
func (k *Known) restoreIntents(ctx context.Context, tx pgx.Tx, out *Recognition) error {
	n := len(k.Intents)
	if n == 0 {
		return nil
	}
	claims, tasks, apps, campaigns := make([]int64, n), make([]int64, n), make([]int32, n), make([]int64, n)
	revisions, origins, dues := make([]int32, n), make([]string, n), make([]time.Time, n)
	for i, t := range k.Intents {
		claims[i], tasks[i], apps[i], campaigns[i], revisions[i], origins[i], dues[i] = t.ClaimID, t.TaskID, t.AppNo, t.CampaignID, t.Revision, t.Origin, t.DueAt
	}
	rows, _ := tx.Query(ctx, `
		WITH known AS MATERIALIZED (
			SELECT * FROM unnest($2::bigint[], $3::bigint[], $4::integer[], $5::bigint[], $6::integer[], $7::text[], $8::timestamptz[])
			  AS u (claim_id, task_id, app_no, campaign_id, revision, origin, due_at)
		), open AS MATERIALIZED (
			SELECT * FROM known u
			 WHERE NOT EXISTS (SELECT FROM scheduler.decided_tasks d WHERE d.campaign_id = u.campaign_id AND d.due_at = u.due_at)
			   AND NOT EXISTS (SELECT FROM scheduler.running_tasks r WHERE r.campaign_id = u.campaign_id AND r.due_at = u.due_at)
		), lost AS MATERIALIZED (
			SELECT * FROM open u WHERE NOT EXISTS (SELECT FROM scheduler.claims c WHERE c.id = u.claim_id)
		), begun AS (
			DELETE FROM scheduler.pending_tasks p USING lost l WHERE p.campaign_id = l.campaign_id AND p.due_at = l.due_at
		), claim AS (
			INSERT INTO scheduler.claims (id, daemon_id, task_ids, app_nos, campaign_ids, revisions, origins, due_ats) OVERRIDING SYSTEM VALUE
			SELECT claim_id, $1, array_agg(task_id), array_agg(app_no), array_agg(campaign_id), array_agg(revision),
			       array_agg(origin::scheduler.task_origin), array_agg(due_at)
			  FROM lost GROUP BY claim_id
		)
		SELECT o.task_id, EXISTS (SELECT FROM lost l WHERE l.task_id = o.task_id) FROM open o`,
		k.Daemon, claims, tasks, apps, campaigns, revisions, origins, dues)
	var task int64
	var lost bool
	_, err := pgx.ForEachRow(rows, []any{&task, &lost}, func() error {
		out.Open[task] = true
		if lost {
			out.Lost = append(out.Lost, task)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for claims: %w", err)
	}
	return nil
}

// lostBegin is the reason recorded for a task whose deliveries were called, and
// whose start the database lost.
const lostBegin = "the database lost the begin of its deliveries, of which some were made"

// restoreAttempts looks up the attempts of stored deliveries, and writes lost
// attempts again. A delivery is found by its task and number, since its id
// changes when the task begins again.
func (k *Known) restoreAttempts(ctx context.Context, tx pgx.Tx, out *Recognition) error {
	n := len(k.Attempts)
	if n == 0 {
		return nil
	}
	tasks, numbers, attempts := make([]int64, n), make([]int32, n), make([]int32, n)
	for i, a := range k.Attempts {
		tasks[i], numbers[i], attempts[i] = a.TaskID, a.SliceNo, a.Number
	}
	rows, _ := tx.Query(ctx, `
		SELECT u.n - 1, coalesce(s.id, 0), coalesce(s.attempts, 0), coalesce(s.status::text, ''), coalesce(s.daemon_id = $4, false)
		  FROM unnest($1::bigint[], $2::integer[], $3::integer[]) WITH ORDINALITY AS u (task_id, slice_no, attempts, n)
		  LEFT JOIN scheduler.slices s ON s.task_id = u.task_id AND s.slice_no = u.slice_no
		 WHERE s.id IS NULL OR s.attempts <= u.attempts`, tasks, numbers, attempts, k.Daemon)
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[foundSlice])
	if err != nil {
		return fmt.Errorf("look for deliveries: %w", err)
	}
	for _, f := range found {
		if err := k.restoreAttempt(ctx, tx, k.Attempts[f.N], f, out); err != nil {
			return fmt.Errorf("write deliveries again: %w", err)
		}
	}
	return nil
}

// A foundSlice is an attempt's delivery as the database has it.
type foundSlice struct {
	N        int
	ID       int64 // 0: there is no such delivery
	Attempts int32
	Status   string
	Mine     bool
}

func (k *Known) restoreAttempt(ctx context.Context, tx pgx.Tx, a Attempt, f foundSlice, out *Recognition) error {
	switch {
	case f.ID == 0:
		return k.endBegun(ctx, tx, a, out)
	case f.ID == a.SliceID && f.Attempts == a.Number && f.Status == "running" && f.Mine:
		out.Running[a.SliceID] = true
		return nil
	case f.ID == a.SliceID && f.Attempts == a.Number || a.Unsent || f.Status == "running" || f.Status == "accepted":
		return nil // the outcome is there, or another call is, or there is nothing to restore
	}
	out.Lost = append(out.Lost, a.TaskID)
	if f.ID != a.SliceID || f.Status != "waiting" && f.Status != "held" { // the task was begun anew, or the delivery was ended without a call, since the loss
		_, err := tx.Exec(ctx, `
			UPDATE scheduler.slices SET status = 'unknown', finished_at = coalesce(finished_at, clock_timestamp()), daemon_id = NULL,
			       attempts = greatest(attempts, 1), maybe_sent = true, reason = $2 WHERE id = $1`, f.ID, lostBegin)
		return err
	}
	out.Running[a.SliceID] = true
	_, err := tx.Exec(ctx, `
		UPDATE scheduler.slices SET status = 'running', daemon_id = $2, attempts = $3, sent_at = coalesce(sent_at, clock_timestamp()) WHERE id = $1`,
		f.ID, k.Daemon, a.Number)
	if err != nil {
		return err
	}
	return bookAgain(ctx, tx, a, &f.ID)
}

// endBegun decides a task as unknown whose deliveries were called and are not
// there any more. If the task began again, some of its targets would be pushed
// to twice.
func (k *Known) endBegun(ctx context.Context, tx pgx.Tx, a Attempt, out *Recognition) error {
	if a.Unsent {
		return nil
	}
	tag, err := tx.Exec(ctx, `
		WITH pending AS (
			DELETE FROM scheduler.pending_tasks p WHERE p.campaign_id = $3 AND p.due_at = $4 RETURNING p.revision, p.origin
		), running AS (
			DELETE FROM scheduler.running_tasks r WHERE r.campaign_id = $3 AND r.due_at = $4 RETURNING r.id, r.revision, r.origin
		), slices AS (
			DELETE FROM scheduler.slices s WHERE s.task_id IN (SELECT id FROM running) RETURNING s.id
		), targets AS (
			DELETE FROM scheduler.slice_targets x WHERE x.slice_id IN (SELECT id FROM slices)
		)
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, started_at, decided_at,
		       attempts, slices, accepted, target_count, daemon_id, reason)
		SELECT $1, $2, $3, coalesce((SELECT revision FROM pending), (SELECT revision FROM running), 1),
		       coalesce((SELECT ch.channel_no FROM scheduler.channels ch JOIN scheduler.campaigns c ON c.channel = ch.channel WHERE c.id = $3),
		                (SELECT min(channel_no) FROM scheduler.channels)),
		       coalesce((SELECT origin FROM pending), (SELECT origin FROM running), 'scheduled'), 'unknown', $4, clock_timestamp(), clock_timestamp(),
		       1, 0, 0, 0, $5, $6
		    ON CONFLICT DO NOTHING`, a.TaskID, a.AppNo, a.CampaignID, a.DueAt, k.Daemon, lostBegin)
	if err != nil {
		return err
	}
	if tag.RowsAffected() > 0 {
		out.Unknown++
		return bookAgain(ctx, tx, a, nil)
	}
	return nil
}

// bookAgain books the call of an attempt whose booking was lost.
func bookAgain(ctx context.Context, tx pgx.Tx, a Attempt, slice *int64) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota, slice_id)
		SELECT $1, ch.channel, clock_timestamp(), coalesce(q.weekly_quota, ch.weekly_quota), $3
		  FROM scheduler.campaigns c JOIN scheduler.channels ch ON ch.channel = c.channel
		  LEFT JOIN scheduler.app_quotas q ON q.app_no = $1 AND q.channel = ch.channel
		 WHERE c.id = $2 AND coalesce(q.weekly_quota, ch.weekly_quota) > 0
		   AND NOT EXISTS (SELECT FROM scheduler.quota_uses u WHERE u.slice_id = $3)`, a.AppNo, a.CampaignID, slice)
	return err
}

// disown hands claims and attempts of this daemon that it does not remember to a
// daemon that has ended, so that Reap rules on them. Where more is lost than the
// daemon remembers, such a claim has two explanations: its answer was lost and no
// call was made, or the record of its call was lost. Nobody can tell which.
func (k *Known) disown(ctx context.Context, tx pgx.Tx) error {
	tasks := make([]int64, len(k.Intents))
	for i, t := range k.Intents {
		tasks[i] = t.TaskID
	}
	deliveries, attempts := make([]int64, len(k.Attempts)), make([]int32, len(k.Attempts))
	for i, a := range k.Attempts {
		deliveries[i], attempts[i] = a.SliceID, a.Number
	}
	_, err := tx.Exec(ctx, `
		WITH claim AS MATERIALIZED (
			SELECT c.id FROM scheduler.claims c WHERE c.daemon_id = $1 AND NOT c.task_ids <@ $2::bigint[]
		), slice AS MATERIALIZED (
			SELECT s.id FROM scheduler.slices s
			 WHERE s.daemon_id = $1 AND s.status = 'running'
			   AND NOT EXISTS (SELECT FROM unnest($3::bigint[], $4::integer[]) AS u (id, attempts) WHERE u.id = s.id AND u.attempts = s.attempts)
		), ended AS (
			INSERT INTO scheduler.daemons (name, version, leased_until, ended_at)
			SELECT $5, $6, clock_timestamp(), clock_timestamp() WHERE EXISTS (SELECT FROM claim) OR EXISTS (SELECT FROM slice)
			RETURNING id
		), claims AS (
			UPDATE scheduler.claims c SET daemon_id = e.id FROM ended e WHERE c.id IN (SELECT id FROM claim)
		)
		UPDATE scheduler.slices s SET daemon_id = e.id FROM ended e WHERE s.id IN (SELECT id FROM slice)`,
		k.Daemon, tasks, deliveries, attempts, k.Name, k.Version)
	if err != nil {
		return fmt.Errorf("give up what is not remembered: %w", err)
	}
	return nil
}

// conclude notes that the daemon has looked through the database.
func (k *Known) conclude(ctx context.Context, tx pgx.Tx, out *Recognition) error {
	if n := len(out.Lost) + out.Unknown; n > 0 || out.SetBack > 0 {
		_, err := tx.Exec(ctx, `UPDATE scheduler.recognitions SET lost = coalesce(lost, $2) WHERE seal = $1`,
			out.Seal, fmt.Sprintf("of daemon %d %d heartbeats and %d calls begun", k.Daemon, out.SetBack, n))
		if err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `
		UPDATE scheduler.daemons SET recognised = $2, beats = greatest(beats, $3), seen_at = clock_timestamp(),
		       leased_until = CASE WHEN ended_at IS NULL THEN clock_timestamp() + $4 * interval '1 microsecond' ELSE leased_until END
		 WHERE id = $1`, k.Daemon, out.Seal, k.Mark.Beats, k.Lease.Microseconds())
	if err != nil {
		return err
	}
	return tx.QueryRow(ctx, `SELECT scheduler.complete_recognition($1)`, out.Seal).Scan(&out.Complete)
}

// CompleteRecognition says whether all daemons have looked through the database
// with this seal, or are given up, so that pushes may begin on it.
func (s *Store) CompleteRecognition(ctx context.Context, seal string) (complete bool, err error) {
	if err := s.db.QueryRow(ctx, `SELECT scheduler.complete_recognition($1)`, seal).Scan(&complete); err != nil {
		return false, fmt.Errorf("complete the recognition: %w", err)
	}
	return complete, nil
}

// Adopt has every connection carry the seal from now on, and drops those that
// may lead to another server.
func (s *Store) Adopt(seal string) {
	if s.knownSeal() == seal {
		return
	}
	s.seal.Store(&seal)
	s.pool.Reset()
}

// holdFor lets nothing begin until an operator releases the hold. Where there
// is a hold already, the reason is added to it, so that the operator knows.
func holdFor(ctx context.Context, tx pgx.Tx, reason string) error {
	_, err := tx.Exec(ctx, `
		UPDATE scheduler.hold SET held_since = coalesce(held_since, clock_timestamp()),
		       reason = CASE WHEN held_since IS NULL THEN $1 WHEN position($1 IN reason) > 0 THEN reason ELSE reason || '; ' || $1 END`, reason)
	return err
}
