package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrLeaseLost says that the daemon's lease ran out or was ended by another:
// it must begin nothing and take a new one.
var ErrLeaseLost = errors.New("the daemon's lease is lost")

// A ClaimedTask is a task whose push may begin now.
type ClaimedTask struct {
	ID       int64
	Revision int32 // the campaign's, which may have changed since it was read
	Listed   bool  // its campaign has rows in campaign_targets; only of ClaimListed
	// Names are the names of the call's targets, which the claim keeps. Empty with
	// Listed: there are more than one call may carry.
	Names []string
}

// Claim makes the intent to push durable. Those of the tasks that are ready,
// and that nobody else is claiming or withdrawing at this moment, leave
// pending_tasks for one claim of this daemon. When Claim has returned without
// an error, the pushes may begin. The claim's id is the fencing token for
// Record.
//
// No task begins within quiet hours that hold it. apps are the tasks' apps, so that
// the quiet hours of other apps are not read.
func (s *Store) Claim(ctx context.Context, daemonID int64, now time.Time, ids []int64, apps ...int32) (claim int64, tasks []ClaimedTask, err error) {
	return s.claimTasks(ctx, claimBegun, daemonID, now, ids, apps)
}

// ClaimListed is Claim for tasks of which some may take their targets from
// campaign_targets. It reads each call's targets, and keeps their names with the
// claim.
func (s *Store) ClaimListed(ctx context.Context, daemonID int64, now time.Time, ids []int64, apps ...int32) (claim int64, tasks []ClaimedTask, err error) {
	return s.claimTasks(ctx, claimListed, daemonID, now, ids, apps)
}

func (s *Store) claimTasks(ctx context.Context, insert string, daemonID int64, now time.Time, ids []int64, apps []int32) (claim int64, tasks []ClaimedTask, err error) {
	claim, tasks, err = s.claim(ctx, claimAtOnce+insert, daemonID, now, ids, apps)
	if IsBlocked(err) {
		claim, tasks, err = s.claim(ctx, claimAround+insert, daemonID, now, ids, apps)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("claim tasks: %w", err)
	}
	return claim, tasks, nil
}

func (s *Store) claim(ctx context.Context, sql string, daemonID int64, now time.Time, ids []int64, apps []int32) (claim int64, tasks []ClaimedTask, err error) {
	rows, _ := s.db.Query(ctx, sql, daemonID, at(now), ids, apps)
	var taskIDs []int64
	var revisions []int32
	var names map[int64][]string
	_, err = pgx.ForEachRow(rows, []any{&claim, &taskIDs, &revisions, &names}, func() error {
		tasks = make([]ClaimedTask, len(taskIDs))
		for i := range taskIDs {
			t := ClaimedTask{ID: taskIDs[i], Revision: revisions[i]}
			t.Names, t.Listed = names[t.ID]
			tasks[i] = t
		}
		return nil
	})
	return claim, tasks, err
}

// The ids are read from the key's index one by one, so that the cost of a claim
// does not depend on the rows around them, alive or dead.
var claimable = `p.id = ANY($3) AND p.ready_at <= coalesce($2, clock_timestamp())
	AND EXISTS (SELECT FROM scheduler.daemons d WHERE d.id = $1 AND d.ended_at IS NULL AND d.leased_until > clock_timestamp()) AND ` + notHeld + `
	AND ` + outsideQuiet("p.app_no", "p.campaign_id", "coalesce($2, clock_timestamp())", "$4::integer[]")

// claimAtOnce waits a moment where somebody holds one of the rows, then gives
// up. Rows are hardly ever held. To lock them first, in order to skip those that
// are held, would make a claim cost one and a half times as much.
var claimAtOnce = `
	WITH begun AS (
		DELETE FROM scheduler.pending_tasks p
		 WHERE (SELECT set_config('lock_timeout', '2ms', true)) IS NOT NULL AND ` + claimable + `
		RETURNING p.id, p.app_no, p.campaign_id, p.revision, p.origin, p.due_at
	)`

// claimAround skips the rows that somebody holds. An author may hold them for long.
var claimAround = `
	WITH mine AS MATERIALIZED (
		SELECT p.id FROM scheduler.pending_tasks p WHERE ` + claimable + ` FOR UPDATE OF p SKIP LOCKED
	), begun AS (
		DELETE FROM scheduler.pending_tasks p WHERE p.id = ANY(ARRAY(SELECT id FROM mine))
		RETURNING p.id, p.app_no, p.campaign_id, p.revision, p.origin, p.due_at
	)`

const claimBegun = `
	INSERT INTO scheduler.claims (daemon_id, task_ids, app_nos, campaign_ids, revisions, origins, due_ats)
	SELECT $1, array_agg(id), array_agg(app_no), array_agg(campaign_id), array_agg(revision), array_agg(origin), array_agg(due_at)
	  FROM begun HAVING count(*) > 0
	RETURNING id, task_ids, revisions, names`

// claimListed keeps no names where the audience needs several calls, since it
// is cut before any of them begins.
const claimListed = `, listed AS MATERIALIZED (
		SELECT b.id, CASE WHEN x.n <= k.max_targets THEN x.names ELSE '[]' END AS names
		  FROM begun b
		 CROSS JOIN LATERAL (
			SELECT jsonb_agg(t.target) AS names, count(*) AS n
			  FROM (SELECT y.target FROM scheduler.campaign_targets y WHERE y.campaign_id = b.campaign_id ORDER BY y.target LIMIT 101) t) x
		  JOIN scheduler.campaigns c ON c.id = b.campaign_id
		  JOIN scheduler.channels k ON k.channel = c.channel
		 WHERE x.n > 0
	)
	INSERT INTO scheduler.claims (daemon_id, task_ids, app_nos, campaign_ids, revisions, origins, due_ats, names)
	SELECT $1, array_agg(id), array_agg(app_no), array_agg(campaign_id), array_agg(revision), array_agg(origin), array_agg(due_at),
	       (SELECT jsonb_object_agg(l.id, l.names) FROM listed l)
	  FROM begun HAVING count(*) > 0
	RETURNING id, task_ids, revisions, names`

// KeepNames adds to a claim the names of the targets of its calls where
// ClaimListed kept none, since the campaigns were changed after they were read.
func (s *Store) KeepNames(ctx context.Context, daemonID, claim int64, names map[int64][]string) error {
	_, err := s.db.Exec(ctx, `
		UPDATE scheduler.claims SET names = coalesce(names, '{}') || $3::jsonb WHERE id = $1 AND daemon_id = $2`, claim, daemonID, names)
	if err != nil {
		return fmt.Errorf("keep names of targets: %w", err)
	}
	return nil
}

// nameInline adds to claims the names of targets that a request names. Claims do
// not keep these names when they are made, since the request of the claimed
// revision has them: it is in the campaign's row or in the audit. inline returns
// the targets that a request names, at most as many as one call carries. It gets
// the campaign with everything that compiling needs, except rows of
// campaign_targets. The claims must be locked.
func nameInline(ctx context.Context, tx pgx.Tx, claims []int64, inline func(*Campaign) []string) error {
	if len(claims) == 0 || inline == nil {
		return nil
	}
	rows, _ := tx.Query(ctx, `
		SELECT t.claim_id, t.id, t.campaign_id, t.app_no, t.revision, v.name, v.channel, v.strategy_type, v.request
		  FROM scheduler.claimed_tasks t
		  JOIN scheduler.claims k ON k.id = t.claim_id
		 CROSS JOIN LATERAL (
			SELECT c.name, c.channel, c.strategy_type, c.request, c.audience_view
			  FROM scheduler.campaigns c WHERE c.id = t.campaign_id AND c.revision = t.revision
			UNION ALL
			(SELECT h.before ->> 'name', h.before ->> 'channel', (h.before ->> 'strategy_type')::smallint, h.before -> 'request', h.before ->> 'audience_view'
			   FROM scheduler.campaign_history h WHERE h.campaign_id = t.campaign_id AND h.revision = t.revision ORDER BY h.id LIMIT 1)
			LIMIT 1) v
		  JOIN scheduler.channels ch ON ch.channel = v.channel AND ch.max_targets > 0
		 WHERE t.claim_id = ANY($1) AND (k.names ? t.id::text) IS NOT TRUE AND v.audience_view IS NULL AND octet_length(v.request::text) <= $2`,
		claims, MaxCampaignBytes)
	names := make(map[int64]map[int64][]string)
	var claim, task int64
	var c Campaign
	_, err := pgx.ForEachRow(rows, []any{&claim, &task, &c.ID, &c.AppNo, &c.Revision, &c.Name, &c.Channel, &c.StrategyType, &c.Request}, func() error {
		if named := inline(&c); len(named) > 0 {
			if names[claim] == nil {
				names[claim] = make(map[int64][]string)
			}
			names[claim][task] = named
		}
		c.Request = nil // the next revision has another
		return nil
	})
	if err == nil && len(names) > 0 {
		_, err = tx.Exec(ctx, `
			UPDATE scheduler.claims k SET names = coalesce(k.names, '{}') || u.value FROM jsonb_each($1) u WHERE k.id = u.key::bigint`, names)
	}
	if err != nil {
		return fmt.Errorf("name targets of requests: %w", err)
	}
	return nil
}

// StoredTargets returns up to limit targets of each of the campaigns, in order
// of campaign and target. Call it after the claim, so that a target that was
// deleted before the push began is not pushed to.
func (s *Store) StoredTargets(ctx context.Context, campaignIDs []int64, limit int) (map[int64][]Target, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT `+targetColumns+`
		  FROM (SELECT DISTINCT id FROM unnest($1::bigint[]) AS x (id)) u
		 CROSS JOIN LATERAL (
			SELECT * FROM scheduler.campaign_targets x WHERE x.campaign_id = u.id ORDER BY x.target LIMIT $2) t`, campaignIDs, limit)
	out := make(map[int64][]Target)
	var t Target
	_, err := pgx.ForEachRow(rows, []any{&t.CampaignID, &t.Target, &t.MsgKey, &t.TemplateKeyValue, &t.ExtendedParams}, func() error {
		out[t.CampaignID] = append(out[t.CampaignID], t)
		t.TemplateKeyValue, t.ExtendedParams = nil, nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load targets: %w", err)
	}
	return out, nil
}
