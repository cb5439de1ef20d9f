package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A PendingTask is a scheduled task that counts against its app's limit.
type PendingTask struct {
	ID         int64
	Slot       int32
	CampaignID int64
	DueAt      time.Time
}

// A NewTask is an occurrence that is to become a pending task.
type NewTask struct {
	CampaignID int64
	Revision   int32
	Origin     string // scheduled, immediate or triggered
	Slot       int32  // 0: does not count
	DueAt      time.Time
}

// A PlanTx is the transaction in which one app is planned. It never waits for
// an author: rows that an author has locked are left for a later pass.
type PlanTx struct {
	tx    pgx.Tx
	AppNo int32
	Limit int        // the app's pending_limit
	Quiet QuietHours // the app's; zero: none
	Now   time.Time  // one instant for the whole pass
	// Decided holds the decisions of this transaction, and those of authors
	// that it took to be logged. They are valid only once the transaction has
	// committed.
	Decided []Decision
	Refused []Refused // likewise
}

// planWait is how long a plan waits for a lock that somebody else holds. The app
// is planned again later, and no other app waits meanwhile.
const planWait = "200ms"

// PlanApp runs plan for one app in a transaction of its own, unless another
// planner is at work on the app: then busy is true and plan does not run. An
// error for which IsBlocked is true means that somebody holds a lock that the
// plan needs.
func (s *Store) PlanApp(ctx context.Context, appNo int32, now time.Time, plan func(*PlanTx) error) (busy bool, err error) {
	err = s.asPlanner(ctx, func(tx pgx.Tx) error {
		p := &PlanTx{tx: tx, AppNo: appNo}
		locked, err := tryLockRow(ctx, tx, planLock, appNo)
		if err != nil || !locked {
			busy = err == nil
			return err
		}
		row := tx.QueryRow(ctx, `SELECT pending_limit, coalesce($2, clock_timestamp()), quiet_from, quiet_until, time_zone FROM scheduler.apps WHERE app_no = $1`, appNo, at(now))
		if err := row.Scan(&p.Limit, &p.Now, (*clockTime)(&p.Quiet.From), (*clockTime)(&p.Quiet.Until), &p.Quiet.Zone); err != nil {
			return err
		}
		return plan(p)
	})
	if err != nil {
		return false, fmt.Errorf("plan app %d: %w", appNo, err)
	}
	return busy, nil
}

// Pending returns the app's scheduled pending tasks, earliest first.
func (p *PlanTx) Pending(ctx context.Context) ([]PendingTask, error) {
	rows, _ := p.tx.Query(ctx, `
		SELECT id, slot, campaign_id, due_at FROM scheduler.pending_tasks
		 WHERE app_no = $1 AND slot IS NOT NULL ORDER BY due_at, id`, p.AppNo)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PendingTask])
	if err != nil {
		return nil, fmt.Errorf("load pending tasks: %w", err)
	}
	return out, nil
}

// Lock locks the campaigns against authors until the transaction ends. It
// returns the revisions of those that it could lock and that are still active.
func (p *PlanTx) Lock(ctx context.Context, ids []int64) (map[int64]int32, error) {
	rows, err := p.tx.Query(ctx, `
		SELECT id, revision FROM scheduler.campaigns WHERE id = ANY($1) AND status = 'active' FOR SHARE SKIP LOCKED`, ids)
	if err != nil {
		return nil, fmt.Errorf("lock campaigns: %w", err)
	}
	out := make(map[int64]int32, len(ids))
	var id int64
	var revision int32
	_, err = pgx.ForEachRow(rows, []any{&id, &revision}, func() error {
		out[id] = revision
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lock campaigns: %w", err)
	}
	return out, nil
}

// Displace takes pending tasks back and returns those it took. A task that
// somebody else is claiming or withdrawing is not among them.
func (p *PlanTx) Displace(ctx context.Context, ids []int64) ([]PendingTask, error) {
	rows, _ := p.tx.Query(ctx, `
		WITH mine AS MATERIALIZED (SELECT id FROM scheduler.pending_tasks WHERE id = ANY($1) FOR UPDATE SKIP LOCKED)
		DELETE FROM scheduler.pending_tasks p WHERE p.id = ANY(ARRAY(SELECT id FROM mine)) RETURNING p.id, p.slot, p.campaign_id, p.due_at`, ids)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PendingTask])
	if err != nil {
		return nil, fmt.Errorf("displace tasks: %w", err)
	}
	return out, nil
}

// Insert stores pending tasks and returns how many of them are pending now. An
// occurrence that is a task already, in whatever state, is left alone. An
// occurrence that a release skipped as overdue is missed.
func (p *PlanTx) Insert(ctx context.Context, tasks []NewTask) (stored int, err error) {
	n := len(tasks)
	campaigns, revisions, origins, slots, dues := make([]int64, n), make([]int32, n), make([]string, n), make([]*int32, n), make([]time.Time, n)
	for i, t := range tasks {
		campaigns[i], revisions[i], origins[i], dues[i] = t.CampaignID, t.Revision, t.Origin, t.DueAt
		if t.Slot != 0 {
			slots[i] = &t.Slot
		}
	}
	var skipped int64
	var raced bool
	err = p.tx.QueryRow(ctx, `
		WITH u AS MATERIALIZED (
			SELECT u.*, CASE WHEN u.due_at <= h.skip_before THEN (SELECT c.written_at FROM scheduler.campaigns c WHERE c.id = u.campaign_id) <= h.skip_before ELSE false END AS skipped,
			       (SELECT p.id FROM scheduler.pending_tasks p WHERE p.campaign_id = u.campaign_id AND p.due_at = u.due_at) IS NOT NULL AS pending
			  FROM unnest($2::bigint[], $3::integer[], $4::text[], $5::integer[], $6::timestamptz[]) AS u (campaign_id, revision, origin, slot, due_at),
			       scheduler.hold h
			 WHERE NOT EXISTS (SELECT FROM scheduler.decided_tasks d WHERE d.campaign_id = u.campaign_id AND d.due_at = u.due_at)
			   AND NOT EXISTS (SELECT FROM scheduler.running_tasks r WHERE r.campaign_id = u.campaign_id AND r.due_at = u.due_at)
			   AND (u.campaign_id, u.due_at) NOT IN (`+claimedKeys+`)
		), inserted AS (
			INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
			SELECT $1, u.slot, u.campaign_id, u.revision, u.origin::scheduler.task_origin, u.due_at, u.due_at FROM u WHERE NOT u.skipped
			    ON CONFLICT (campaign_id, due_at) DO NOTHING RETURNING id
		), ending AS (
			SELECT (nextval('scheduler.task_ids'), $1, u.campaign_id, u.revision, NULL, u.origin, 'missed', u.due_at, NULL, NULL,
			        0, 0, 0, 0, NULL, $7::text, NULL, NULL, NULL, NULL, NULL)::scheduler.ending AS e
			  FROM u WHERE u.skipped AND NOT u.pending
		)
		SELECT (SELECT count(*) FROM inserted),
		       CASE WHEN EXISTS (SELECT FROM ending) THEN (SELECT count(*) FROM scheduler.decide(ARRAY(SELECT e FROM ending), false)) ELSE 0 END,
		       (SELECT coalesce(bool_or(pending), false) FROM u)`,
		p.AppNo, campaigns, revisions, origins, slots, dues, skippedReason).Scan(&stored, &skipped, &raced)
	if err == nil && raced {
		var begun int
		begun, err = p.takeBack(ctx, campaigns, dues)
		stored -= begun
	}
	if err != nil {
		return 0, fmt.Errorf("insert pending tasks: %w", err)
	}
	if skipped == 0 {
		return stored, nil
	}
	return stored, p.takeUntold(ctx)
}

// takeBack deletes those pending tasks that have begun already, and returns how many.
// Insert may store such a task: its statement waits while a claim of the task commits,
// and then stores the task again. Only the next statement sees the claim.
func (p *PlanTx) takeBack(ctx context.Context, campaigns []int64, dues []time.Time) (int, error) {
	tag, err := p.tx.Exec(ctx, `
		DELETE FROM scheduler.pending_tasks p USING unnest($1::bigint[], $2::timestamptz[]) AS u (campaign_id, due_at)
		 WHERE p.campaign_id = u.campaign_id AND p.due_at = u.due_at
		   AND ((SELECT d.id FROM scheduler.decided_tasks d WHERE d.campaign_id = u.campaign_id AND d.due_at = u.due_at) IS NOT NULL
		     OR (SELECT r.id FROM scheduler.running_tasks r WHERE r.campaign_id = u.campaign_id AND r.due_at = u.due_at) IS NOT NULL
		     OR (u.campaign_id, u.due_at) IN (`+claimedKeys+`))`, campaigns, dues)
	return int(tag.RowsAffected()), err
}

// claimedKeys selects the tasks of all claims, including those that were decided since.
const claimedKeys = `SELECT t.campaign_id, t.due_at FROM scheduler.claims k CROSS JOIN LATERAL unnest(k.campaign_ids, k.due_ats) AS t (campaign_id, due_at)`

// Decide records decisions on occurrences that never become tasks. Occurrences
// that are tasks already, in whatever state, are left alone.
func (p *PlanTx) Decide(ctx context.Context, unplanned []Decision) error {
	n := len(unplanned)
	campaigns, revisions, channels := make([]int64, n), make([]int32, n), make([]string, n)
	dues, statuses, reasons := make([]time.Time, n), make([]string, n), make([]string, n)
	for i, u := range unplanned {
		campaigns[i], revisions[i], channels[i], dues[i], statuses[i], reasons[i] = u.CampaignID, u.Revision, u.Channel, u.DueAt, u.Status, u.Reason
	}
	rows, _ := p.tx.Query(ctx, `
		WITH ending AS (
			SELECT (nextval('scheduler.task_ids'), $1, u.campaign_id, u.revision, c.channel_no, 'scheduled', u.status, u.due_at, NULL, NULL,
			        0, 0, 0, 0, NULL, u.reason, NULL, NULL, NULL, NULL, NULL)::scheduler.ending AS e
			  FROM unnest($2::bigint[], $3::integer[], $4::text[], $5::timestamptz[], $6::text[], $7::text[]) AS u (campaign_id, revision, channel, due_at, status, reason)
			  JOIN scheduler.channels c ON c.channel = u.channel
			 WHERE NOT EXISTS (SELECT FROM scheduler.pending_tasks p WHERE p.campaign_id = u.campaign_id AND p.due_at = u.due_at)
			   AND NOT EXISTS (SELECT FROM scheduler.running_tasks r WHERE r.campaign_id = u.campaign_id AND r.due_at = u.due_at)
			   AND NOT EXISTS (SELECT FROM scheduler.decided_tasks d WHERE d.campaign_id = u.campaign_id AND d.due_at = u.due_at)
			   AND (u.campaign_id, u.due_at) NOT IN (`+claimedKeys+`)
		)`+decideSQL, p.AppNo, campaigns, revisions, channels, dues, statuses, reasons)
	decided, err := pgx.CollectRows(rows, scanDecision)
	if err != nil {
		return fmt.Errorf("decide occurrences: %w", err)
	}
	p.Decided = append(p.Decided, decided...)
	return nil
}

// Withdraw takes back a campaign's pending tasks and returns the earliest
// occurrence among them; zero: there was none.
func (p *PlanTx) Withdraw(ctx context.Context, campaignID int64) (time.Time, error) {
	var earliest *time.Time
	err := p.tx.QueryRow(ctx, `
		WITH w AS (DELETE FROM scheduler.pending_tasks WHERE campaign_id = $1 RETURNING due_at) SELECT min(due_at) FROM w`, campaignID).Scan(&earliest)
	if err != nil {
		return time.Time{}, fmt.Errorf("withdraw tasks: %w", err)
	}
	return orZero(earliest), nil
}

// Reject marks a campaign as one that cannot be pushed, with the reason.
func (p *PlanTx) Reject(ctx context.Context, campaignID int64, reason string) error {
	_, err := p.tx.Exec(ctx, `UPDATE scheduler.campaigns SET status = 'rejected', status_reason = $2 WHERE id = $1`, campaignID, reason)
	if err != nil {
		return fmt.Errorf("reject campaign %d: %w", campaignID, err)
	}
	return nil
}

// A Candidate is a campaign with an occurrence for which there is no task yet.
// Of the Campaign only the fields that decide its occurrences are read.
type Candidate struct {
	Campaign  Campaign
	NextDueAt time.Time
}

// candidateColumns are a Candidate's columns, of rows named k and c.
const candidateColumns = `k.next_due_at, c.id, c.revision, c.channel, c.strategy_type, c.strategy_content, c.time_zone,
	c.short_month_policy, c.dst_gap_policy, c.times, ` + calendarColumns + `, c.catch_up_window, ` + quietPolicy + `, c.written_at`

// Candidates returns the app's active campaigns with the earliest occurrences
// before the given instant, at most limit, earliest first.
func (p *PlanTx) Candidates(ctx context.Context, before time.Time, limit int) ([]Candidate, error) {
	rows, _ := p.tx.Query(ctx, `
		WITH k AS MATERIALIZED (
			SELECT campaign_id, revision, next_due_at FROM scheduler.campaign_cursors
			 WHERE app_no = $1 AND active AND next_due_at IS NOT NULL AND next_due_at < $2
			 ORDER BY next_due_at, campaign_id LIMIT $3
		)
		SELECT `+candidateColumns+`
		  FROM k JOIN scheduler.campaigns c ON c.id = k.campaign_id AND c.revision = k.revision AND c.status = 'active'
		 ORDER BY k.next_due_at, k.campaign_id`, p.AppNo, before, limit)
	return collectCandidates(rows)
}

// FreeCandidates is Candidates without the campaigns that authors hold. It locks
// those it returns until the transaction ends. In the worst case it looks at
// every campaign of the app, so it is called only when Lock could not lock all.
// The other campaigns then go on, however many an author holds.
func (p *PlanTx) FreeCandidates(ctx context.Context, before time.Time, limit int) ([]Candidate, error) {
	rows, _ := p.tx.Query(ctx, `
		SELECT `+candidateColumns+`
		  FROM scheduler.campaign_cursors k
		  JOIN scheduler.campaigns c ON c.id = k.campaign_id AND c.revision = k.revision AND c.status = 'active'
		 WHERE k.app_no = $1 AND k.active AND k.next_due_at IS NOT NULL AND k.next_due_at < $2
		 ORDER BY k.next_due_at, k.campaign_id LIMIT $3 FOR SHARE OF c SKIP LOCKED`, p.AppNo, before, limit)
	return collectCandidates(rows)
}

func collectCandidates(rows pgx.Rows) ([]Candidate, error) {
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Candidate, error) {
		var c Candidate
		m := &c.Campaign
		err := row.Scan(&c.NextDueAt, &m.ID, &m.Revision, &m.Channel, &m.StrategyType, &m.StrategyContent, &m.TimeZone,
			&m.ShortMonthPolicy, &m.DSTGapPolicy, &m.Times, &m.Calendar.Name, &m.Calendar.Policy, &m.Calendar.Closed, (*timeOrZero)(&m.Calendar.Since),
			(*interval)(&m.CatchUpWindow), &m.QuietPolicy, &m.WrittenAt)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("load candidates: %w", err)
	}
	return out, nil
}

// A Cursor says how far a campaign is planned.
type Cursor struct {
	CampaignID int64
	Revision   int32
	Active     bool
	NextDueAt  time.Time // zero: no occurrence is left to become a task
}

// SaveCursors stores how far campaigns are planned.
func (p *PlanTx) SaveCursors(ctx context.Context, cursors []Cursor) error {
	n := len(cursors)
	ids, revisions, active, next := make([]int64, n), make([]int32, n), make([]bool, n), make([]*time.Time, n)
	for i, c := range cursors {
		ids[i], revisions[i], active[i], next[i] = c.CampaignID, c.Revision, c.Active, at(c.NextDueAt)
	}
	_, err := p.tx.Exec(ctx, `
		INSERT INTO scheduler.campaign_cursors AS k (campaign_id, app_no, revision, active, next_due_at)
		SELECT u.id, $1, u.revision, u.active, u.next_due_at
		  FROM unnest($2::bigint[], $3::integer[], $4::boolean[], $5::timestamptz[]) AS u (id, revision, active, next_due_at)
		    ON CONFLICT (campaign_id) DO UPDATE SET revision = excluded.revision, active = excluded.active, next_due_at = excluded.next_due_at
		 WHERE (k.revision, k.active, k.next_due_at) IS DISTINCT FROM (excluded.revision, excluded.active, excluded.next_due_at)`,
		p.AppNo, ids, revisions, active, next)
	if err != nil {
		return fmt.Errorf("save cursors: %w", err)
	}
	return nil
}

// Rewind lowers the cursors of campaigns whose tasks were displaced.
func (p *PlanTx) Rewind(ctx context.Context, displaced []PendingTask) error {
	n := len(displaced)
	ids, dues := make([]int64, n), make([]time.Time, n)
	for i, t := range displaced {
		ids[i], dues[i] = t.CampaignID, t.DueAt
	}
	_, err := p.tx.Exec(ctx, `
		UPDATE scheduler.campaign_cursors k SET next_due_at = least(k.next_due_at, u.due_at)
		  FROM (SELECT id, min(due_at) AS due_at FROM unnest($1::bigint[], $2::timestamptz[]) AS x (id, due_at) GROUP BY id) u
		 WHERE k.campaign_id = u.id`, ids, dues)
	if err != nil {
		return fmt.Errorf("rewind cursors: %w", err)
	}
	return nil
}

// Forget drops the cursors of deleted campaigns.
func (p *PlanTx) Forget(ctx context.Context, ids []int64) error {
	if _, err := p.tx.Exec(ctx, `DELETE FROM scheduler.campaign_cursors WHERE campaign_id = ANY($1)`, ids); err != nil {
		return fmt.Errorf("forget cursors: %w", err)
	}
	return nil
}

// NextWaiting returns the earliest occurrence of the app's active campaigns for
// which there is no task yet; zero: there is none.
func (p *PlanTx) NextWaiting(ctx context.Context) (time.Time, error) {
	var next *time.Time
	err := p.tx.QueryRow(ctx, `
		SELECT min(next_due_at) FROM scheduler.campaign_cursors WHERE app_no = $1 AND active AND next_due_at IS NOT NULL`, p.AppNo).Scan(&next)
	if err != nil {
		return time.Time{}, fmt.Errorf("read what waits: %w", err)
	}
	return orZero(next), nil
}

// Rooms returns the apps that have room for pending tasks and occurrences that
// wait for it. It is the sweep that finds the room of lost hints.
func (s *Store) Rooms(ctx context.Context) ([]int32, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT x.app_no
		  FROM (SELECT a.app_no, a.pending_limit,
		               EXISTS (SELECT FROM scheduler.campaign_cursors k WHERE k.app_no = a.app_no AND k.active AND k.next_due_at IS NOT NULL) AS waiting
		          FROM scheduler.apps a OFFSET 0) x -- the dear count is only for those that something waits for
		 CROSS JOIN LATERAL (SELECT count(*) AS pending FROM scheduler.pending_tasks WHERE app_no = x.app_no AND slot IS NOT NULL) p
		 WHERE x.waiting AND p.pending < x.pending_limit`)
	out, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return nil, fmt.Errorf("list apps with room: %w", err)
	}
	return out, nil
}
