package store

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The kinds of Verify's findings.
const (
	FindingUndecided = "undecided" // an occurrence without a decision
	FindingTwice     = "twice"     // an occurrence that is two tasks
	FindingStray     = "stray"     // a task that is no occurrence of its campaign
	FindingForbidden = "forbidden" // a pending task whose campaign may not push
	FindingOverCap   = "over_cap"  // an app with more pending tasks than its limit
	FindingSlot      = "slot"      // a pending task in a wrong slot
	FindingOverQuota = "over_quota"
	FindingQuiet     = "in_quiet"  // a call that began within quiet hours
	FindingOwnerless = "ownerless" // a lease whose daemon is gone
)

// VerifyOptions say what Verify looks at.
type VerifyOptions struct {
	// Since leaves out tasks and occurrences that were due before; zero: none
	// is left out. Pruned decisions would be reported as missing, so Since
	// should not lie before the oldest decision that is kept.
	Since time.Time
	// Grace is how late the daemons may be.
	Grace time.Duration
	// Limit bounds the findings of each kind; zero means 100.
	Limit int
	// Timeout bounds each statement; zero means 10 min.
	Timeout time.Duration
	// Now is the instant for which the record is verified; zero: the database's clock.
	Now time.Time
}

// A Finding is a fact in the record that breaks a promise.
type Finding struct {
	Kind        string
	AppID       string
	WorkspaceID string
	CampaignID  int64 // 0: no campaign in particular
	Campaign    string
	TimeZone    string // of the campaign; empty: not known any more
	DueAt       time.Time
	TaskID      int64 // 0: none
	Detail      string
}

// A Verification is the result of Verify.
type Verification struct {
	At          time.Time
	HeldSince   time.Time // if not zero, nothing was decided since then, so that nothing counts as undecided
	Occurrences int64     // worked out
	Tasks       int64     // looked at
	Findings    []Finding
	Counts      map[string]int64 // findings by kind, including those beyond the limit
}

// Verify works every occurrence out anew from the campaigns and their history,
// with code of its own, and compares them with the record. It reads one
// snapshot and changes nothing, so a standby is enough.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) (Verification, error) {
	v := Verification{Counts: make(map[string]int64)}
	err := pgx.BeginTxFunc(ctx, s.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := prepareVerify(ctx, tx, o); err != nil {
			return err
		}
		var held *time.Time
		err := tx.QueryRow(ctx, `SELECT coalesce($1, clock_timestamp()), (SELECT held_since FROM scheduler.hold)`, at(o.Now)).Scan(&v.At, &held)
		if err != nil {
			return err
		}
		v.HeldSince = orZero(held)
		for _, check := range verifyChecks {
			if err := v.collect(ctx, tx, check, o); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Verification{}, fmt.Errorf("verify: %w", err)
	}
	return v, nil
}

// prepareVerify sets the session for a few statements that read everything.
func prepareVerify(ctx context.Context, tx pgx.Tx, o VerifyOptions) error {
	timeout := cmp.Or(o.Timeout, 10*time.Minute)
	_, err := tx.Exec(ctx, fmt.Sprintf(`
		SET LOCAL statement_timeout = %d; SET LOCAL work_mem = '128MB'; SET LOCAL TimeZone = 'UTC'`, timeout.Milliseconds()))
	return err
}

// collect runs one check and keeps its findings.
func (v *Verification) collect(ctx context.Context, tx pgx.Tx, check string, o VerifyOptions) error {
	rows, err := tx.Query(ctx, `
		WITH setting AS MATERIALIZED (
			SELECT $1::timestamptz AS now, coalesce($2::timestamptz, '-infinity') AS since, $3 * interval '1 microsecond' AS grace, $5::boolean AS held
		), `+check+`
		SELECT l.occurrences, l.tasks, n.total, coalesce(n.kind, ''), coalesce(a.app_id, ''), coalesce(a.workspace_id, ''),
		       coalesce(n.campaign_id, 0), coalesce(c.name, ''), coalesce(c.time_zone, ''), n.due_at, coalesce(n.task_id, 0), coalesce(n.detail, '')
		  FROM looked l
		  LEFT JOIN (
			SELECT f.*, count(*) OVER (PARTITION BY f.kind) AS total,
			       row_number() OVER (PARTITION BY f.kind ORDER BY f.due_at, f.campaign_id, f.task_id, f.app_no) AS n
			  FROM finding f) n ON n.n <= $4
		  LEFT JOIN scheduler.apps a ON a.app_no = n.app_no
		  LEFT JOIN scheduler.campaigns c ON c.id = n.campaign_id
		 ORDER BY n.kind, n.n`, v.At, at(o.Since), o.Grace.Microseconds(), cmp.Or(o.Limit, 100), !v.HeldSince.IsZero())
	if err != nil {
		return err
	}
	var occurrences, tasks int64
	var total *int64
	var due *time.Time
	var f Finding
	_, err = pgx.ForEachRow(rows, []any{
		&occurrences, &tasks, &total, &f.Kind, &f.AppID, &f.WorkspaceID, &f.CampaignID, &f.Campaign, &f.TimeZone, &due, &f.TaskID, &f.Detail,
	}, func() error {
		if total == nil {
			return nil // nothing was found
		}
		f.DueAt = time.Time{}
		if due != nil {
			f.DueAt = *due
		}
		v.Counts[f.Kind] = *total
		v.Findings = append(v.Findings, f)
		return nil
	})
	v.Occurrences, v.Tasks = v.Occurrences+occurrences, v.Tasks+tasks
	return err
}

// verifyChecks are the CTEs of one statement each: finding (kind, app_no,
// campaign_id, due_at, task_id, detail) and looked (occurrences, tasks). They
// read the CTE setting.
var verifyChecks = []string{verifyTasksSQL, verifyPendingSQL, verifyQuotaSQL, verifyQuietSQL, verifyLeasesSQL}

// verifyTasksSQL compares occurrences with tasks.
//
// A missing task is a finding from missing_from on: from when the occurrence is due, or
// from when its campaign was changed, since it may have been planned only then.
// Occurrences of a paused or rejected campaign are decided when their catch-up window
// closes. Occurrences that find their app full of earlier tasks may also wait until
// then. The planner decides the past occurrences of a version that ended.
//
// A version may be pushed for a moment after its end: the recorded end is the
// start of the author's statement, which may change many rows.
var verifyTasksSQL = `
	record AS MATERIALIZED (
		SELECT p.id, p.app_no, p.campaign_id, p.due_at, p.origin, 'pending' AS place, NULL::text AS status, NULL::timestamptz AS begun_at
		  FROM scheduler.pending_tasks p, setting s WHERE p.due_at >= s.since
		UNION ALL
		SELECT t.id, t.app_no, t.campaign_id, t.due_at, t.origin, 'claimed', NULL, c.claimed_at
		  FROM setting s, scheduler.claims c
		 CROSS JOIN LATERAL unnest(c.task_ids, c.app_nos, c.campaign_ids, c.origins, c.due_ats) AS t (id, app_no, campaign_id, origin, due_at)
		 WHERE t.due_at >= s.since
		UNION ALL
		SELECT r.id, r.app_no, r.campaign_id, r.due_at, r.origin, 'running', NULL, r.started_at
		  FROM scheduler.running_tasks r, setting s WHERE r.due_at >= s.since
		UNION ALL
		SELECT d.id, d.app_no, d.campaign_id, d.due_at, d.origin, 'decided', d.status::text, coalesce(d.started_at, d.decided_at)
		  FROM scheduler.decided_tasks d, setting s WHERE d.due_at >= s.since
	), latest AS (
		SELECT campaign_id, max(due_at) AS due_at FROM record GROUP BY campaign_id
	), version AS MATERIALIZED (
		SELECT v.*, (s.since AT TIME ZONE 'UTC')::date - 2 AS first_day, (greatest(s.now, l.due_at) AT TIME ZONE 'UTC')::date + 2 AS last_day
		  FROM (` + versionsSQL + `) v CROSS JOIN setting s LEFT JOIN latest l USING (campaign_id)
	), full_app AS (
		SELECT a.app_no, max(p.due_at) AS latest FROM scheduler.apps a JOIN scheduler.pending_tasks p ON p.app_no = a.app_no AND p.slot IS NOT NULL
		 GROUP BY a.app_no, a.pending_limit HAVING count(*) >= a.pending_limit
	), occurrence AS MATERIALIZED (
		SELECT o.campaign_id, min(o.app_no) AS app_no, o.due_at, max(coalesce(o.ended_at, 'infinity')) AS ended_at,
		       min(CASE WHEN o.ended_at IS NOT NULL THEN CASE WHEN o.due_at < o.ended_at THEN o.ended_at END
		                WHEN o.status IN ('paused', 'rejected') AND o.strategy_type = 0 THEN NULL -- its window has not begun
		                WHEN o.status IN ('paused', 'rejected') OR f.app_no IS NOT NULL THEN greatest(` + windowEnd("o.app_no", "o.campaign_id", "o.due_at", "o.catch_up_window") + `, o.updated_at)
		                ELSE greatest(o.due_at, o.updated_at) END + s.grace) AS missing_from
		  FROM (` + occurrencesSQL + `) o CROSS JOIN setting s LEFT JOIN full_app f ON f.app_no = o.app_no AND f.latest <= o.due_at
		 WHERE o.due_at >= s.since
		 GROUP BY o.campaign_id, o.due_at
	), doubled AS (
		SELECT campaign_id, due_at, min(app_no) AS app_no, min(id) AS id, string_agg(place || ' as task ' || id, ', ' ORDER BY place, id) AS places
		  FROM record GROUP BY campaign_id, due_at
		HAVING count(*) > 1 AND (count(DISTINCT id) > 1
		    OR count(*) FILTER (WHERE place <> 'claimed') > 1 -- a claim stands until all of its tasks have left it
		    OR (count(*) FILTER (WHERE place = 'claimed') > 1 AND count(*) FILTER (WHERE place IN ('decided', 'running')) = 0)
		    OR (count(*) FILTER (WHERE place = 'claimed') > 0 AND count(*) FILTER (WHERE place = 'pending') > 0))
	), finding AS (
		SELECT 'undecided' AS kind, o.app_no, o.campaign_id, o.due_at, NULL::bigint AS task_id,
		       CASE WHEN o.ended_at = 'infinity' THEN 'no task and no decision' ELSE 'no decision, though its campaign changed at ' || o.ended_at END AS detail
		  FROM occurrence o CROSS JOIN setting s
		 WHERE NOT s.held AND o.missing_from < s.now AND NOT EXISTS (SELECT FROM record r WHERE r.campaign_id = o.campaign_id AND r.due_at = o.due_at)
		UNION ALL
		SELECT 'twice', d.app_no, d.campaign_id, d.due_at, d.id, d.places FROM doubled d
		UNION ALL
		SELECT 'stray', r.app_no, r.campaign_id, r.due_at, r.id,
		       r.place || coalesce(' as ' || r.status, '') || CASE WHEN o.campaign_id IS NULL THEN ', but no occurrence of its campaign'
		         ELSE ', begun at ' || r.begun_at || ', but its strategy ended at ' || o.ended_at END
		  FROM record r LEFT JOIN occurrence o ON o.campaign_id = r.campaign_id AND o.due_at = r.due_at
		 WHERE r.origin <> 'triggered'
		   AND (o.campaign_id IS NULL
		     OR r.due_at >= o.ended_at AND r.status IS DISTINCT FROM 'cancelled' AND r.begun_at > o.ended_at + interval '5 minutes')
	), looked AS (
		SELECT (SELECT count(*) FROM occurrence o, setting s WHERE o.due_at <= s.now) AS occurrences, (SELECT count(*) FROM record) AS tasks
	)`

// verifyPendingSQL checks the cap, and looks for tasks that should not wait any more.
var verifyPendingSQL = `
	finding AS (
		SELECT 'over_cap' AS kind, a.app_no, NULL::bigint AS campaign_id, NULL::timestamptz AS due_at, NULL::bigint AS task_id,
		       format('%s tasks pending, the limit is %s', count(*), a.pending_limit) AS detail
		  FROM scheduler.pending_tasks p JOIN scheduler.apps a USING (app_no)
		 WHERE p.origin = 'scheduled' GROUP BY a.app_no, a.pending_limit HAVING count(*) > a.pending_limit
		UNION ALL
		SELECT 'slot', p.app_no, p.campaign_id, p.due_at, p.id,
		       CASE WHEN p.slot > a.pending_limit THEN format('slot %s, the limit is %s', p.slot, a.pending_limit)
		            WHEN p.slot IS NULL THEN 'a scheduled task without a slot'
		            WHEN c.app_no <> p.app_no THEN 'counted for another app than its campaign''s' ELSE 'holds a slot though it does not count' END
		  FROM scheduler.pending_tasks p
		  LEFT JOIN scheduler.apps a USING (app_no) LEFT JOIN scheduler.campaigns c ON c.id = p.campaign_id
		 WHERE p.slot > a.pending_limit OR a.app_no IS NULL OR c.app_no <> p.app_no OR (p.origin = 'scheduled') <> (p.slot IS NOT NULL)
		UNION ALL
		SELECT 'forbidden', p.app_no, p.campaign_id, p.due_at, p.id,
		       CASE WHEN c.id IS NULL THEN 'pending, but its campaign is gone' ELSE 'pending, but its campaign is ' || c.status END
		  FROM scheduler.pending_tasks p LEFT JOIN scheduler.campaigns c ON c.id = p.campaign_id
		 WHERE c.status IS DISTINCT FROM 'active' AND (c.status = 'finished' AND p.origin = 'triggered') IS NOT TRUE
		UNION ALL
		SELECT 'undecided', p.app_no, p.campaign_id, p.due_at, p.id, 'still pending, though its catch-up window closed at ' || ` + pendingEnd + `
		  FROM setting s, scheduler.pending_tasks p JOIN scheduler.campaigns c ON c.id = p.campaign_id
		 WHERE NOT s.held AND p.due_at >= s.since AND ` + pendingEnd + ` + s.grace < s.now
		UNION ALL
		SELECT 'undecided', r.app_no, r.campaign_id, r.due_at, r.id, 'running without a delivery that could still end'
		  FROM setting s, scheduler.running_tasks r LEFT JOIN scheduler.campaigns c ON c.id = r.campaign_id
		 WHERE NOT s.held AND r.started_at + s.grace < s.now AND NOT EXISTS (
			SELECT FROM scheduler.slices x WHERE x.task_id = r.id
			   AND (x.finished_at IS NULL AND (x.status = 'running' OR coalesce(` + runningEnd + `, s.now) + s.grace >= s.now) OR x.finished_at + s.grace >= s.now))
	), looked AS (
		SELECT 0::bigint AS occurrences, 0::bigint AS tasks
	)`

// verifyQuotaSQL looks for a week that holds more calls than the highest quota
// under which one of them was booked. So a quota that is lowered later makes no
// earlier week wrong. The window does not include its first instant; nor does
// the booking's.
const verifyQuotaSQL = `
	used AS (
		SELECT u.app_no, u.channel, u.used_at, count(*) OVER w AS n, max(u.weekly_quota) OVER w AS quota
		  FROM scheduler.quota_uses u
		WINDOW w AS (PARTITION BY u.app_no, u.channel ORDER BY u.used_at RANGE BETWEEN interval '167:59:59.999999' PRECEDING AND CURRENT ROW)
	), finding AS (
		SELECT 'over_quota' AS kind, u.app_no, NULL::bigint AS campaign_id, NULL::timestamptz AS due_at, NULL::bigint AS task_id,
		       format('%s calls on %s in the 7 days up to %s, booked under a quota of %s', max(u.n), u.channel, max(u.used_at), u.quota) AS detail
		  FROM setting s, used u
		 WHERE u.n > u.quota AND u.used_at >= s.since
		 GROUP BY u.app_no, u.channel, u.quota
	), looked AS (
		SELECT 0::bigint AS occurrences, 0::bigint AS tasks
	)`

// verifyQuietSQL looks for calls that began within quiet hours, by the quiet hours,
// policy and exemptions of that time. Quiet hours bind the claim alone, so a call may
// begin up to ten seconds after it, and a claim under way does not wait for a change.
// Of a delivery only the last attempt is known. The local time is compared first,
// which decides all days except those around a clock change.
const verifyQuietSQL = `
	hours AS MATERIALIZED (
		SELECT q.app_no, q.quiet_from, q.quiet_until, q.time_zone, q.since, lead(q.since) OVER (PARTITION BY q.app_no ORDER BY q.since, q.id) AS until
		  FROM scheduler.quiet_changes q
	), begun AS (
		SELECT d.app_no, d.campaign_id, d.due_at, d.id AS task_id, d.sent_at AS at
		  FROM setting s, scheduler.decided_tasks d WHERE d.sent_at IS NOT NULL AND d.due_at >= s.since AND d.app_no IN (SELECT app_no FROM hours)
		UNION
		SELECT x.app_no, x.campaign_id, coalesce(r.due_at, d.due_at), x.task_id, x.sent_at
		  FROM setting s, scheduler.slices x LEFT JOIN scheduler.running_tasks r ON r.id = x.task_id LEFT JOIN scheduler.decided_tasks d ON d.id = x.task_id
		 WHERE x.sent_at IS NOT NULL AND coalesce(r.due_at, d.due_at) >= s.since AND x.app_no IN (SELECT app_no FROM hours)
	), heard AS MATERIALIZED (
		SELECT b.*, h.quiet_from, h.quiet_until, h.time_zone
		  FROM begun b JOIN hours h ON h.app_no = b.app_no AND h.quiet_from IS NOT NULL AND h.since <= b.at - interval '10 seconds' AND coalesce(h.until, 'infinity') > b.at
		 CROSS JOIN LATERAL (SELECT b.at AT TIME ZONE h.time_zone AS wall) w
		 WHERE (CASE WHEN h.quiet_from < h.quiet_until THEN w.wall::time >= h.quiet_from AND w.wall::time < h.quiet_until ELSE w.wall::time >= h.quiet_from OR w.wall::time < h.quiet_until END
		     OR (b.at - interval '50 hours') AT TIME ZONE h.time_zone <> w.wall - interval '50 hours' OR (b.at + interval '50 hours') AT TIME ZONE h.time_zone <> w.wall + interval '50 hours')
		   AND scheduler.quiet_end(h.quiet_from, h.quiet_until, h.time_zone, b.at) IS NOT NULL
		   AND scheduler.quiet_end(h.quiet_from, h.quiet_until, h.time_zone, b.at - interval '10 seconds') IS NOT NULL
	), finding AS (
		SELECT 'in_quiet' AS kind, b.app_no, b.campaign_id, b.due_at, b.task_id,
		       format('a call began at %s, within the quiet hours from %s until %s in %s', b.at, b.quiet_from, b.quiet_until, b.time_zone) AS detail
		  FROM heard b LEFT JOIN scheduler.campaigns c ON c.id = b.campaign_id
		 CROSS JOIN LATERAL (SELECT coalesce((
			SELECT h.before FROM scheduler.campaign_history h WHERE h.campaign_id = b.campaign_id AND h.changed_at > b.at - interval '10 seconds' ORDER BY h.id LIMIT 1), to_jsonb(c)) AS row) v
		 WHERE (v.row ->> 'quiet_policy' = 'ignore' AND EXISTS (
			SELECT FROM scheduler.quiet_exemptions e
			 WHERE e.app_no = b.app_no AND coalesce(e.channel = v.row ->> 'channel', true) AND coalesce(e.name = v.row ->> 'name', true)
			   AND e.created_at <= b.at AND coalesce(e.revoked_at + interval '10 seconds', 'infinity') > b.at)) IS NOT TRUE
	), looked AS (
		SELECT 0::bigint AS occurrences, 0::bigint AS tasks
	)`

// verifyLeasesSQL looks for claims and deliveries of daemons that are gone.
const verifyLeasesSQL = `
	owner AS (
		SELECT d.id, d.name, coalesce(d.ended_at, d.leased_until) AS until FROM scheduler.daemons d
	), lease AS (
		SELECT t.app_no, t.campaign_id, t.due_at, t.id AS task_id, t.daemon_id, 'claim ' || t.claim_id AS what FROM scheduler.claimed_tasks t
		UNION ALL
		SELECT x.app_no, x.campaign_id, r.due_at, x.task_id, x.daemon_id, 'delivery ' || x.slice_no
		  FROM scheduler.slices x LEFT JOIN scheduler.running_tasks r ON r.id = x.task_id WHERE x.status = 'running'
	), finding AS (
		SELECT 'ownerless' AS kind, l.app_no, l.campaign_id, l.due_at, l.task_id,
		       l.what || CASE WHEN o.id IS NULL THEN ' of a daemon that is not known, ' || l.daemon_id
		                      ELSE ' of daemon ' || o.id || ' (' || o.name || '), gone since ' || o.until END AS detail
		  FROM setting s, lease l LEFT JOIN owner o ON o.id = l.daemon_id
		 WHERE o.id IS NULL OR o.until + s.grace < s.now
		UNION ALL
		SELECT 'ownerless', x.app_no, x.campaign_id, NULL, x.task_id, 'delivery ' || x.slice_no || ' is ' || x.status || ', but its task is not running'
		  FROM scheduler.slices x
		 WHERE x.finished_at IS NULL AND NOT EXISTS (SELECT FROM scheduler.running_tasks r WHERE r.id = x.task_id)
	), looked AS (
		SELECT 0::bigint AS occurrences, 0::bigint AS tasks
	)`

// The SQL below works occurrences out anew for Verify. It walks local days with
// generate_series and uses PostgreSQL's own time zones. It shares no code with
// package strategy. Of the functions that judge a strategy in SQL it uses only
// scheduler.open_occurrences, for campaigns with a calendar.

// versionsSQL lists every strategy that a campaign ever had, with the interval
// in which it was valid: from written_at to ended_at, which is NULL for the
// current one. A cancelled campaign's strategy ended with the change that
// cancelled the campaign, so the campaign's row is left out.
const versionsSQL = `
	SELECT c.id AS campaign_id, c.app_no, c.strategy_type, c.strategy_content AS content, c.time_zone AS zone, c.short_month_policy,
	       c.dst_gap_policy, c.times, c.calendar_policy, c.calendar_closed, c.calendar_since, c.written_at, NULL::timestamptz AS ended_at, c.updated_at, c.status, c.catch_up_window
	  FROM scheduler.campaigns c WHERE c.status <> 'cancelled'
	UNION ALL
	SELECT h.campaign_id, h.app_no, (h.before ->> 'strategy_type')::smallint, h.before -> 'strategy_content', h.before ->> 'time_zone',
	       h.before ->> 'short_month_policy', h.before ->> 'dst_gap_policy',
	       CASE WHEN jsonb_typeof(h.before -> 'times') = 'array' THEN ARRAY(SELECT x FROM jsonb_array_elements_text(h.before -> 'times') x) END,
	       h.before ->> 'calendar_policy', CASE WHEN jsonb_typeof(h.before -> 'calendar_closed') = 'array' THEN ARRAY(SELECT x::timestamptz FROM jsonb_array_elements_text(h.before -> 'calendar_closed') x) END,
	       (h.before ->> 'calendar_since')::timestamptz, (h.before ->> 'written_at')::timestamptz, h.changed_at, h.changed_at, 'over',
	       (h.before ->> 'catch_up_window')::interval
	  FROM scheduler.campaign_history h WHERE h.strategy_ended AND h.before ->> 'status' <> 'cancelled'`

// occurrencesSQL expands the rows of a CTE named version. That CTE has the
// columns of versionsSQL, and first_day and last_day, which bound the walk. The
// result has the columns of version and due_at.
//
// The offsets 26 hours before and after a local time are those on either side
// of any clock change it could meet, since no offset is further from UTC than
// 15 hours. Where the local time is repeated, both lead to it, and the earlier
// instant counts. Where it is skipped, neither does, and the offset before
// moves it forward by the gap.
const occurrencesSQL = `
	SELECT v.*, v.written_at AS due_at FROM version v WHERE v.strategy_type = 0
	UNION ALL
	SELECT v.*, to_timestamp(trunc((v.content ->> 'fixedTime')::numeric / 1000)::double precision) FROM version v WHERE v.strategy_type = 1 AND v.calendar_closed IS NULL
	UNION ALL
	SELECT v.*, i.due_at
	  FROM version v
	 CROSS JOIN LATERAL (
		SELECT (to_timestamp((v.content ->> 'startTime')::numeric::double precision / 1000) AT TIME ZONE v.zone)::date AS first,
		       (to_timestamp((v.content ->> 'endTime')::numeric::double precision / 1000) AT TIME ZONE v.zone)::date AS last,
		       (v.content ->> 'circleType')::numeric AS kind,
		       CASE WHEN (v.content ->> 'circleType')::numeric > 1
		            THEN ARRAY(SELECT x::numeric FROM jsonb_array_elements_text(v.content -> 'circleValue') x) END AS chosen
	 ) l
	 CROSS JOIN LATERAL unnest(coalesce(v.times, ARRAY[v.content ->> 'time'])) AS c (clock)
	 CROSS JOIN LATERAL generate_series(greatest(l.first, v.first_day)::timestamp, least(l.last, v.last_day)::timestamp, '1 day') AS g (day)
	 CROSS JOIN LATERAL (
		SELECT g.day + c.clock::time AS wall, (g.day + c.clock::time) AT TIME ZONE 'UTC' AS utc
	 ) w
	 CROSS JOIN LATERAL (
		SELECT w.utc - (((w.utc - interval '26 hours') AT TIME ZONE v.zone) - (w.wall - interval '26 hours')) AS before,
		       w.utc - (((w.utc + interval '26 hours') AT TIME ZONE v.zone) - (w.wall + interval '26 hours')) AS after
	 ) o
	 CROSS JOIN LATERAL (
		SELECT coalesce(least(CASE WHEN o.before AT TIME ZONE v.zone = w.wall THEN o.before END,
		                      CASE WHEN o.after AT TIME ZONE v.zone = w.wall THEN o.after END),
		                CASE WHEN v.dst_gap_policy = 'shift' THEN o.before END) AS due_at
	 ) i
	 WHERE v.strategy_type = 2 AND v.calendar_closed IS NULL AND i.due_at >= v.written_at
	   AND CASE l.kind WHEN 1 THEN true
	       WHEN 2 THEN extract(isodow FROM g.day) = ANY (l.chosen)
	       ELSE extract(day FROM g.day) = ANY (l.chosen)
	         OR v.short_month_policy = 'last_day' AND extract(day FROM g.day + interval '1 day') = 1
	            AND extract(day FROM g.day) < (SELECT max(x) FROM unnest(l.chosen) x)
	       END
	UNION ALL
	SELECT v.*, p.due_at
	  FROM version v
	 CROSS JOIN LATERAL scheduler.open_occurrences(v.strategy_type, v.content, v.zone, v.short_month_policy, v.dst_gap_policy, v.times,
		v.written_at, v.calendar_policy, v.calendar_closed, v.calendar_since) AS p (due_at)
	 WHERE v.calendar_closed IS NOT NULL`
