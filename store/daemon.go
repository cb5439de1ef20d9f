package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// EndOthers ends every other daemon's lease, for a daemon that knows to be alone
// on its database.
func (s *Store) EndOthers(ctx context.Context, daemonID int64) error {
	_, err := s.pool.Exec(ctx, `UPDATE scheduler.daemons SET ended_at = clock_timestamp() WHERE ended_at IS NULL AND id <> $1`, daemonID)
	if err != nil {
		return fmt.Errorf("end other daemons: %w", err)
	}
	return nil
}

// A Heartbeat is the answer to Renew.
type Heartbeat struct {
	Now    time.Time // the database's clock
	Peers  []Peer    // daemons that nobody has ended, this one too, in the order of their ids
	Beats  int64     // heartbeats this daemon has written
	Held   bool      // nothing may begin until an operator releases it
	Left   bool      // ended daemons left calls behind: Reap has something to do
	Stored bool      // there are stored deliveries: Settle and ClaimSlices may have something to do
}

// A Peer is a daemon as another sees it. It lives while its beats grow: how long
// they stand still is for the observer's own clock to say, since the database's
// may be set.
type Peer struct {
	ID     int64
	Beats  int64
	Lease  time.Duration // how long it may be silent, as it has said
	Lapsed bool          // by the database's clock its lease has run out
}

// Renew prolongs the daemon's lease and says who else is there. beats is the
// Beats of the last answer. ErrLeaseLost: another daemon has ended the lease, or
// the database was set back to before that answer.
func (s *Store) Renew(ctx context.Context, daemonID int64, lease time.Duration, beats int64) (Heartbeat, error) {
	var h Heartbeat
	var renewed bool
	var ids, counts, leases []int64
	var lapsed []bool
	err := s.pool.QueryRow(ctx, `
		WITH me AS (
			UPDATE scheduler.daemons
			   SET seen_at = clock_timestamp(), leased_until = clock_timestamp() + $2 * interval '1 microsecond', beats = beats + 1
			 WHERE id = $1 AND ended_at IS NULL AND beats >= $3 RETURNING beats
		)
		SELECT clock_timestamp(), EXISTS (SELECT FROM me), coalesce((SELECT beats FROM me), 0), NOT (`+notHeld+`),
		       p.ids, p.beats, p.leases, p.lapsed,
		       EXISTS (SELECT FROM scheduler.claims c
		                   WHERE (SELECT d.ended_at FROM scheduler.daemons d WHERE d.id = c.daemon_id) IS NOT NULL)
		       OR EXISTS (SELECT FROM scheduler.slices s
		                   WHERE s.status = 'running' AND (SELECT d.ended_at FROM scheduler.daemons d WHERE d.id = s.daemon_id) IS NOT NULL),
		       EXISTS (SELECT FROM scheduler.running_tasks)
		  FROM (SELECT coalesce(array_agg(id ORDER BY id), '{}') AS ids, coalesce(array_agg(beats ORDER BY id), '{}') AS beats,
		               coalesce(array_agg((extract(epoch FROM leased_until - seen_at) * 1000000)::bigint ORDER BY id), '{}') AS leases,
		               coalesce(array_agg(leased_until < clock_timestamp() ORDER BY id), '{}') AS lapsed
		          FROM scheduler.daemons WHERE ended_at IS NULL) p`,
		daemonID, lease.Microseconds(), beats).Scan(&h.Now, &renewed, &h.Beats, &h.Held, &ids, &counts, &leases, &lapsed, &h.Left, &h.Stored)
	if err != nil {
		return Heartbeat{}, fmt.Errorf("renew lease: %w", err)
	}
	for i, id := range ids {
		h.Peers = append(h.Peers, Peer{ID: id, Beats: counts[i], Lease: time.Duration(leases[i]) * time.Microsecond, Lapsed: lapsed[i]})
	}
	if !renewed {
		return h, ErrLeaseLost
	}
	return h, nil
}

// Probe writes to the daemon's own row, and so says whether the database takes
// writes.
func (s *Store) Probe(ctx context.Context, daemonID int64) error {
	if _, err := s.pool.Exec(ctx, `UPDATE scheduler.daemons SET seen_at = seen_at WHERE id = $1`, daemonID); err != nil {
		return fmt.Errorf("write probe: %w", err)
	}
	return nil
}

// Retire ends the daemon's own lease, so that others take over at once.
func (s *Store) Retire(ctx context.Context, daemonID int64) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE scheduler.daemons SET ended_at = clock_timestamp(), leased_until = least(leased_until, clock_timestamp()) WHERE id = $1 AND ended_at IS NULL`, daemonID)
	if err != nil {
		return fmt.Errorf("retire daemon: %w", err)
	}
	return nil
}

// Reaped says what Reap did.
type Reaped struct {
	Daemons []int64   // found dead
	Unknown int64     // calls that were under way and whose outcome nobody knows
	Resent  int64     // of those, calls that will be made again because their author chose so
	Decided []Decided // tasks that became unknown; those with stored deliveries are settled later
}

// Reap ends the daemons that were found dead, unless they have written a heartbeat
// since, and rules on what they and daemons that stopped had begun: their calls may have been made, so each becomes
// unknown, or is tried again where the campaign says resend_unknown.
func (s *Store) Reap(ctx context.Context, dead ...Peer) (Reaped, error) {
	var out Reaped
	ids, beats := make([]int64, len(dead)), make([]int64, len(dead))
	for i, d := range dead {
		ids[i], beats[i] = d.ID, d.Beats
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
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
		// A transaction of the dead that still holds a claim finishes first: the
		// lock waits for it, and the next statement sees what it decided.
		rows, _ = tx.Query(ctx, `
			SELECT c.id FROM scheduler.claims c
			 WHERE c.daemon_id IN (SELECT x.daemon_id FROM scheduler.claims x JOIN scheduler.daemons d ON d.id = x.daemon_id WHERE d.ended_at IS NOT NULL)
			 ORDER BY c.id FOR UPDATE`)
		orphans, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
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

// reapClaims rules on claimed tasks. Whether a call may be made again is looked
// at once more when it begins (ClaimSlices), so that nobody is waited for here.
func reapClaims(ctx context.Context, tx pgx.Tx, claims []int64, out *Reaped) error {
	if len(claims) == 0 {
		return nil
	}
	rows, _ := tx.Query(ctx, `
		WITH lost AS MATERIALIZED (
			SELECT t.*, k.resend_unknown AND k.status <> 'cancelled' AND t.due_at + k.catch_up_window > clock_timestamp() AS again,
			       t.due_at + k.catch_up_window AS expires_at,
			       coalesce(k.channel, (SELECT h.before ->> 'channel' FROM scheduler.campaign_history h
			                             WHERE h.campaign_id = t.campaign_id ORDER BY h.id DESC LIMIT 1)) AS channel
			  FROM scheduler.claimed_tasks t LEFT JOIN scheduler.campaigns k ON k.id = t.campaign_id
			 WHERE t.claim_id = ANY($1)
		), decided AS (
			INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, started_at, decided_at,
			       attempts, slices, accepted, target_count, reason)
			SELECT l.id, l.app_no, l.campaign_id, l.revision, ch.channel_no, l.origin, 'unknown', l.due_at, l.claimed_at, clock_timestamp(), 1, 1, 0, 0, $2
			  FROM lost l JOIN scheduler.channels ch ON ch.channel = l.channel WHERE l.again IS NOT TRUE
			RETURNING *
		), running AS (
			INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, expires_at, started_at, slices, targets)
			SELECT l.id, l.app_no, l.campaign_id, l.revision, l.origin, l.due_at, l.expires_at, l.claimed_at, 1, 0 FROM lost l WHERE l.again
			RETURNING id
		), slices AS (
			INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at, attempts, maybe_sent, reason)
			SELECT l.id, 1, l.app_no, l.campaign_id, clock_timestamp(), 1, true, $2 FROM lost l WHERE l.again
		), dropped AS (
			DELETE FROM scheduler.claims WHERE id = ANY($1)
		)
		SELECT `+decidedColumns+` FROM decided d JOIN scheduler.channels ch ON ch.channel_no = d.channel_no
		 UNION ALL
		SELECT l.id, l.app_no, l.campaign_id, l.channel, l.due_at, 'running', '' FROM running r JOIN lost l ON l.id = r.id
		 ORDER BY due_at, id`, claims, lostReason)
	ruled, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Decided])
	if err != nil {
		return fmt.Errorf("rule on claims: %w", err)
	}
	var again []int64
	for _, t := range ruled {
		if t.Status == "running" {
			again = append(again, t.CampaignID)
			continue
		}
		out.Unknown++
		out.Decided = append(out.Decided, t)
	}
	out.Resent += int64(len(again))
	return placeWaiting(ctx, tx, again)
}

func reapSlices(ctx context.Context, tx pgx.Tx, out *Reaped) error {
	var unknown int64
	var lost, again []int64
	err := tx.QueryRow(ctx, `
		WITH lost AS MATERIALIZED (
			SELECT s.id, s.campaign_id, c.resend_unknown AND c.status <> 'cancelled' AND r.expires_at > clock_timestamp() AS again
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
			  FROM lost l WHERE s.id = l.id RETURNING s.id, l.again, l.campaign_id
		)
		SELECT count(*) FILTER (WHERE again IS NOT TRUE), array_agg(campaign_id) FILTER (WHERE again), array_agg(id) FROM ruled`, lostReason).
		Scan(&unknown, &again, &lost)
	if err != nil {
		return fmt.Errorf("rule on deliveries: %w", err)
	}
	// A call that may have been made counts against its quota from now: it cannot
	// have been made later. Another attempt is another call and books its own.
	_, err = tx.Exec(ctx, `
		UPDATE scheduler.quota_uses q SET used_at = clock_timestamp(), slice_id = CASE WHEN s.finished_at IS NOT NULL THEN q.slice_id END
		  FROM scheduler.slices s WHERE s.id = q.slice_id AND s.id = ANY($1)`, lost)
	if err != nil {
		return fmt.Errorf("keep quota: %w", err)
	}
	out.Unknown, out.Resent = out.Unknown+unknown, out.Resent+int64(len(again))
	return placeWaiting(ctx, tx, again)
}
