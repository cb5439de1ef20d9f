package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Keys are the parts of an installation's keys for messages.
type Keys struct {
	Installation     string
	Campaigns, Tasks int64 // up to these numbers the keys are without the installation
	Range            int   // which range the ids of campaigns, tasks and deliveries are of
}

// Keys reads how the installation names its messages. The first daemon makes the
// installation's row, when it enlists.
func (s *Store) Keys(ctx context.Context) (Keys, error) {
	var k Keys
	err := s.db.QueryRow(ctx, `SELECT key, keyed_campaigns, keyed_tasks, id_range FROM scheduler.installation`).Scan(&k.Installation, &k.Campaigns, &k.Tasks, &k.Range)
	if err != nil {
		return Keys{}, fmt.Errorf("read the installation's keys: %w", err)
	}
	return k, nil
}

// EndOthers ends every other daemon's lease. It is for a daemon that knows that
// no other uses its database.
func (s *Store) EndOthers(ctx context.Context, daemonID int64) error {
	_, err := s.db.Exec(ctx, `UPDATE scheduler.daemons SET ended_at = clock_timestamp() WHERE ended_at IS NULL AND id <> $1`, daemonID)
	if err != nil {
		return fmt.Errorf("end other daemons: %w", err)
	}
	return nil
}

// A Heartbeat is the answer to Renew.
type Heartbeat struct {
	Now    time.Time // the database's clock
	Peers  []Peer    // daemons that nobody has ended, including this one, in the order of their ids
	Beats  int64     // heartbeats this daemon has written
	Held   bool      // nothing may begin until an operator releases it
	Left   bool      // ended daemons left calls behind: Reap has something to do
	Stored bool      // there are stored deliveries: deliveries may begin or end
	Paced  []Pace    // apps with a ceiling of targets per second
}

// A Pace is an app's ceiling of targets per second.
type Pace struct {
	AppNo            int32
	TargetsPerSecond float64
}

// A Peer is a daemon as another daemon sees it. It lives while its beats grow.
// For how long they have not grown, the observer measures by its own clock,
// since the database's clock may be set.
type Peer struct {
	ID     int64
	Beats  int64
	Lease  time.Duration // how long it may be silent, by its own setting
	Lacks  []int32       // apps for which it has no credentials, as far as it has noticed
	Lapsed bool          // by the database's clock its lease has run out
}

// Renew prolongs the daemon's lease, stores for which apps the daemon has no
// credentials, and returns which other daemons there are. beats is the Beats of the
// last answer. The error may be ErrLeaseLost: another daemon has ended the lease, or
// the database was set back to before that answer.
func (s *Store) Renew(ctx context.Context, daemonID int64, lease time.Duration, beats int64, lacks ...int32) (Heartbeat, error) {
	var h Heartbeat
	var renewed bool
	var ids, counts, leases []int64
	var lapsed []bool
	var without []string
	var paced []int32
	var rates []float64
	err := s.db.QueryRow(ctx, `
		WITH me AS (
			UPDATE scheduler.daemons
			   SET seen_at = clock_timestamp(), leased_until = clock_timestamp() + $2 * interval '1 microsecond', beats = beats + 1, lacks = $4
			 WHERE id = $1 AND ended_at IS NULL AND beats >= $3 RETURNING beats
		)
		SELECT clock_timestamp(), EXISTS (SELECT FROM me), coalesce((SELECT beats FROM me), 0), NOT (`+released+`),
		       p.ids, p.beats, p.leases, p.lapsed, p.lacks,
		       EXISTS (SELECT FROM scheduler.claims c
		                   WHERE (SELECT d.ended_at FROM scheduler.daemons d WHERE d.id = c.daemon_id) IS NOT NULL)
		       OR EXISTS (SELECT FROM scheduler.slices s
		                   WHERE s.status = 'running' AND (SELECT d.ended_at FROM scheduler.daemons d WHERE d.id = s.daemon_id) IS NOT NULL),
		       EXISTS (SELECT FROM scheduler.running_tasks), a.apps, a.rates
		  FROM (SELECT coalesce(array_agg(app_no), '{}') AS apps, coalesce(array_agg(targets_per_second), '{}') AS rates
		          FROM scheduler.apps WHERE targets_per_second IS NOT NULL) a,
		       (SELECT coalesce(array_agg(id ORDER BY id), '{}') AS ids, coalesce(array_agg(beats ORDER BY id), '{}') AS beats,
		               coalesce(array_agg((extract(epoch FROM leased_until - seen_at) * 1000000)::bigint ORDER BY id), '{}') AS leases,
		               coalesce(array_agg(leased_until < clock_timestamp() ORDER BY id), '{}') AS lapsed,
		               coalesce(array_agg(array_to_string(lacks, ',') ORDER BY id), '{}') AS lacks
		          FROM scheduler.daemons WHERE ended_at IS NULL) p`,
		daemonID, lease.Microseconds(), beats, orEmpty(lacks)).Scan(&h.Now, &renewed, &h.Beats, &h.Held, &ids, &counts, &leases, &lapsed, &without, &h.Left, &h.Stored, &paced, &rates)
	if err != nil {
		return Heartbeat{}, fmt.Errorf("renew lease: %w", err)
	}
	for i, id := range ids {
		h.Peers = append(h.Peers, Peer{ID: id, Beats: counts[i], Lease: time.Duration(leases[i]) * time.Microsecond, Lapsed: lapsed[i], Lacks: numbers(without[i])})
	}
	for i, no := range paced {
		h.Paced = append(h.Paced, Pace{no, rates[i]})
	}
	if !renewed {
		return h, ErrLeaseLost
	}
	return h, nil
}

// numbers reads a list of app numbers.
func numbers(list string) []int32 {
	var out []int32
	for word := range strings.SplitSeq(list, ",") {
		if n, err := strconv.ParseInt(word, 10, 32); err == nil {
			out = append(out, int32(n))
		}
	}
	return out
}

// Retire ends the daemon's own lease, so that others take over at once.
func (s *Store) Retire(ctx context.Context, daemonID int64) error {
	_, err := s.db.Exec(ctx, `
		UPDATE scheduler.daemons SET ended_at = clock_timestamp(), leased_until = least(leased_until, clock_timestamp()) WHERE id = $1 AND ended_at IS NULL`, daemonID)
	if err != nil {
		return fmt.Errorf("retire daemon: %w", err)
	}
	return nil
}

// Reaped says what Reap did.
type Reaped struct {
	Daemons []int64    // found dead
	Unknown int64      // calls that were under way and whose outcome nobody knows
	Resent  int64      // of those, calls that will be made again because their author chose so
	Decided []Decision // tasks that became unknown; those with stored deliveries are settled later
}

// Reap ends the daemons that were found dead, unless they have written a heartbeat
// since. It rules on the calls that they, and daemons that stopped, had begun. A call
// may have been made, so it becomes unknown, or is tried again where the campaign has
// resend_unknown. inline returns the targets that a campaign's request names (see
// nameInline); nil: such names are not looked up.
func (s *Store) Reap(ctx context.Context, inline func(*Campaign) []string, dead ...Peer) (Reaped, error) {
	var out Reaped
	ids, beats := make([]int64, len(dead)), make([]int64, len(dead))
	for i, d := range dead {
		ids[i], beats[i] = d.ID, d.Beats
	}
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			WITH dead AS MATERIALIZED (
				SELECT d.id FROM scheduler.daemons d JOIN unnest($1::bigint[], $2::bigint[]) AS u (id, beats) ON u.id = d.id AND u.beats = d.beats
				 WHERE d.ended_at IS NULL FOR UPDATE OF d SKIP LOCKED
			)
			UPDATE scheduler.daemons d SET ended_at = clock_timestamp() FROM dead WHERE d.id = dead.id RETURNING d.id`, ids, beats)
		var err error
		if out.Daemons, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
			return err
		}
		// A dead daemon's transaction that still holds a claim finishes first:
		// the lock waits for it, and the next statement sees its decisions.
		rows, _ = tx.Query(ctx, `
			SELECT c.id FROM scheduler.claims c
			 WHERE c.daemon_id IN (SELECT x.daemon_id FROM scheduler.claims x JOIN scheduler.daemons d ON d.id = x.daemon_id WHERE d.ended_at IS NOT NULL)
			 ORDER BY c.id FOR UPDATE`)
		orphans, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		if err := nameInline(ctx, tx, orphans, inline); err != nil {
			return err
		}
		if err := reapClaims(ctx, tx, orphans, &out); err != nil {
			return err
		}
		return reapSlices(ctx, tx, &out)
	})
	if err != nil {
		return Reaped{}, fmt.Errorf("reap daemons: %w", err)
	}
	return out, nil
}

const lostReason = "the daemon was lost while the call was under way"

// reapClaims rules on claimed tasks. ClaimDeliveries checks again whether a call
// may be repeated, so this statement waits for no author.
func reapClaims(ctx context.Context, tx pgx.Tx, claims []int64, out *Reaped) error {
	if len(claims) == 0 {
		return nil
	}
	rows, _ := tx.Query(ctx, `
		WITH lost AS MATERIALIZED (
			SELECT t.*, n.targets, nextval('scheduler.slices_id_seq') AS slice_id
			  FROM scheduler.claimed_tasks t
			  JOIN scheduler.campaigns k ON k.id = t.campaign_id
			  LEFT JOIN `+claimNames+` ON true
			 WHERE t.claim_id = ANY($1) AND k.resend_unknown AND k.status <> 'cancelled'
			   AND `+windowOpen("t.app_no", "t.campaign_id", "t.due_at", "k.catch_up_window", "clock_timestamp()")+`
		), running AS (
			INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
			SELECT l.id, l.app_no, l.campaign_id, l.revision, l.origin, l.due_at, l.claimed_at, 1, coalesce(cardinality(l.targets), 0) FROM lost l
		), slices AS (
			INSERT INTO scheduler.slices (id, task_id, slice_no, app_no, campaign_id, ready_at, attempts, maybe_sent, reason) OVERRIDING SYSTEM VALUE
			SELECT l.slice_id, l.id, 1, l.app_no, l.campaign_id, clock_timestamp(), 1, true, $2 FROM lost l
		), named AS (
			INSERT INTO scheduler.slice_targets (slice_id, targets) SELECT l.slice_id, l.targets FROM lost l WHERE l.targets <> '{}'
		)
		SELECT id FROM lost`, claims, lostReason)
	again, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("repeat lost calls: %w", err)
	}
	rows, _ = tx.Query(ctx, `
		WITH ending AS ( -- claimed_tasks leaves out what runs again by now
			SELECT (t.id, t.app_no, t.campaign_id, t.revision, NULL, t.origin, 'unknown', t.due_at, t.claimed_at, NULL,
			        1, 1, 0, coalesce(cardinality(n.targets), 0), NULL, $2::text, NULL, NULL, NULL, NULL, n.targets)::scheduler.ending AS e
			  FROM scheduler.claimed_tasks t LEFT JOIN `+claimNames+` ON true
			 WHERE t.claim_id = ANY($1)
		)`+decideSQL, claims, lostReason)
	decided, err := pgx.CollectRows(rows, scanDecision)
	if err != nil {
		return fmt.Errorf("rule on claims: %w", err)
	}
	if _, err := tx.Exec(ctx, `DELETE FROM scheduler.claims WHERE id = ANY($1)`, claims); err != nil {
		return fmt.Errorf("drop claims: %w", err)
	}
	out.Unknown, out.Resent = out.Unknown+int64(len(decided)), out.Resent+int64(len(again))
	out.Decided = append(out.Decided, decided...)
	return nil
}

// claimNames joins the names of the targets of a claimed task t as n.targets,
// which is NULL where the claim keeps none.
const claimNames = `LATERAL (
	SELECT ARRAY(SELECT jsonb_array_elements_text(k.names -> t.id::text)) AS targets FROM scheduler.claims k WHERE k.id = t.claim_id AND k.names ? t.id::text) n`

func reapSlices(ctx context.Context, tx pgx.Tx, out *Reaped) error {
	var unknown, again int64
	var lost []int64
	err := tx.QueryRow(ctx, `
		WITH lost AS MATERIALIZED (
			SELECT s.id, c.resend_unknown AND c.status <> 'cancelled' AND `+runningOpen("clock_timestamp()")+` AS again
			  FROM scheduler.slices s
			  JOIN scheduler.daemons d ON d.id = s.daemon_id AND d.ended_at IS NOT NULL
			  JOIN scheduler.running_tasks r ON r.id = s.task_id
			  LEFT JOIN scheduler.campaigns c ON c.id = s.campaign_id
			 WHERE s.status = 'running' FOR UPDATE OF s SKIP LOCKED
		), ruled AS (
			UPDATE scheduler.slices s
			   SET status = CASE WHEN l.again THEN 'waiting' ELSE 'unknown' END::scheduler.slice_status,
			       daemon_id = NULL, maybe_sent = true, ready_at = clock_timestamp(), reason = $1,
			       finished_at = CASE WHEN l.again THEN NULL ELSE clock_timestamp() END
			  FROM lost l WHERE s.id = l.id RETURNING s.id, l.again
		)
		SELECT count(*) FILTER (WHERE again IS NOT TRUE), count(*) FILTER (WHERE again), array_agg(id) FROM ruled`, lostReason).
		Scan(&unknown, &again, &lost)
	if err != nil {
		return fmt.Errorf("rule on deliveries: %w", err)
	}
	// A call that may have been made counts against its quota from now, since it
	// cannot have been made later. Another attempt is another call and books its
	// own.
	_, err = tx.Exec(ctx, `
		UPDATE scheduler.quota_uses q SET used_at = clock_timestamp(), slice_id = CASE WHEN s.finished_at IS NOT NULL THEN q.slice_id END
		  FROM scheduler.slices s WHERE s.id = q.slice_id AND s.id = ANY($1)`, lost)
	if err != nil {
		return fmt.Errorf("keep quota: %w", err)
	}
	out.Unknown, out.Resent = out.Unknown+unknown, out.Resent+again
	return nil
}
