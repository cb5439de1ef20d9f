package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// What the pages of the console ask. Each read goes through the views and
// policies, so that an author may ask too, and has a time limit: a page that would
// take longer says how to narrow it.

// ErrReadTooLong says that a read was given up at its time limit.
var ErrReadTooLong = errors.New("this takes too long: narrow it by app, campaign or time")

// readLimit bounds one read of a page. It is far above what any page needs.
const readLimit = 3 * time.Second

var beginRead = fmt.Sprintf(`BEGIN READ ONLY; SET LOCAL statement_timeout = %d`, readLimit.Milliseconds())

// read runs f in a read-only transaction with the time limit of pages.
func (s *Store) read(ctx context.Context, what string, f func(tx pgx.Tx) error) error {
	read := func() error { return pgx.BeginTxFunc(ctx, s.db, pgx.TxOptions{BeginQuery: beginRead}, f) }
	var err error
	if s.pace == nil {
		err = read()
	} else {
		err = s.pace(read)
	}
	switch {
	case err == nil:
		return nil
	case sqlState(err) == "57014": // query_canceled
		return fmt.Errorf("%s: %w", what, ErrReadTooLong)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// readRows returns the rows of one query that read runs, each as scan makes it.
func readRows[T any](ctx context.Context, s *Store, what string, scan pgx.RowToFunc[T], sql string, args ...any) (out []T, err error) {
	err = s.read(ctx, what, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sql, args...) // its error is that of the rows
		out, err = pgx.CollectRows(rows, scan)
		return err
	})
	return out, err
}

// A State says whether anything may begin.
type State struct {
	Now        time.Time // the database's clock
	HeldSince  time.Time // zero: not held
	HeldReason string
	Daemons    int // with a lease
}

// State reads it.
func (s *Store) State(ctx context.Context) (State, error) {
	var st State
	var held *time.Time
	err := s.db.QueryRow(ctx, `SELECT now, held_since, coalesce(held_reason, ''), daemons FROM scheduler.state`).
		Scan(&st.Now, &held, &st.HeldReason, &st.Daemons)
	if err != nil {
		return State{}, fmt.Errorf("read state: %w", err)
	}
	st.HeldSince = orZero(held)
	return st, nil
}

// Rights are what the role may do beside reading.
type Rights struct {
	Role    string
	Actor   string // whom audits name for what the session does
	Write   bool   // insert and change campaigns
	Trigger bool
	Rule    bool
	Hold    bool
}

// Rights asks the database, which decides again at every deed.
func (s *Store) Rights(ctx context.Context) (Rights, error) {
	var r Rights
	err := s.db.QueryRow(ctx, `
		SELECT current_user, scheduler.actor(), has_column_privilege('scheduler.campaigns', 'name', 'INSERT'),
		       has_function_privilege('scheduler.trigger_campaign(bigint, text)', 'EXECUTE'),
		       has_function_privilege('scheduler.resolve_task(bigint, boolean, boolean, text, text)', 'EXECUTE'),
		       has_function_privilege('scheduler.hold_pushes(text, text)', 'EXECUTE')`).
		Scan(&r.Role, &r.Actor, &r.Write, &r.Trigger, &r.Rule, &r.Hold)
	if err != nil {
		return Rights{}, fmt.Errorf("read rights: %w", err)
	}
	return r, nil
}

// Attention is what waits for somebody. Counts stop at 1,000.
type Attention struct {
	Unknown  int64 // tasks that wait for a ruling
	Overdue  int64 // tasks ready for longer than a minute and not begun
	Failed   int64 // of the last 24 hours: failed or missed
	Rejected int64 // campaigns
}

// Attention counts for the first page.
func (s *Store) Attention(ctx context.Context) (Attention, error) {
	var a Attention
	err := s.read(ctx, "count what waits", func(tx pgx.Tx) error {
		some, err := seesSome(ctx, tx)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			SELECT (SELECT count(*) FROM (SELECT FROM scheduler.unresolved LIMIT 1000) x),
			       (`+countOverdue(some, 1000)+`),
			       (SELECT count(*) FROM (SELECT FROM scheduler.tasks t WHERE t.reason IS NOT NULL AND t.status IN ('failed', 'missed')
			                                AND t.due_at >= now() - interval '24 hours' LIMIT 1000) x),
			       (SELECT count(*) FROM (SELECT FROM scheduler.campaigns c WHERE c.status = 'rejected' LIMIT 1000) x)`).
			Scan(&a.Unknown, &a.Overdue, &a.Failed, &a.Rejected)
	})
	return a, err
}

// An UpcomingRow is a row of scheduler.upcoming.
type UpcomingRow struct {
	TaskID, CampaignID                                        int64
	Campaign, Channel, AppID, WorkspaceID, TimeZone, WaitsFor string
	DueAt                                                     time.Time
}

// ListUpcoming returns the next pending tasks, of the app that the filter names or of
// all, between its times.
func (s *Store) ListUpcoming(ctx context.Context, f Filter) (out []UpcomingRow, err error) {
	err = s.read(ctx, "list what is coming", func(tx pgx.Tx) error {
		some, err := seesSome(ctx, tx)
		if err != nil {
			return err
		}
		ids, args := f.pendingIDs(some, false)
		rows, _ := tx.Query(ctx, `
			SELECT u.task_id, u.campaign_id, u.campaign, u.channel, u.app_id, u.workspace_id, u.time_zone, coalesce(u.waits_for, ''), u.due_at
			  FROM scheduler.upcoming u WHERE u.task_id = ANY (ARRAY(`+ids+`)) ORDER BY u.due_at, u.task_id`, args...)
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[UpcomingRow])
		return err
	})
	return out, err
}

// A CampaignSummary is one line of a list of campaigns.
type CampaignSummary struct {
	ID                           int64
	Revision                     int32
	Name, AppID, WorkspaceID     string
	Channel, Status, Reason      string
	StrategyType                 int16
	StrategyContent              json.RawMessage
	TimeZone, ShortMonth, DSTGap string
	Times                        []string
	Calendar                     CalendarSays
	WrittenAt                    time.Time
	LastStatus                   string
	LastDueAt                    time.Time
}

// summaryColumns are those of campaigns c that a summary has, and columns where they go.
const summaryColumns = `c.id, c.revision, c.name, c.app_id, c.workspace_id, c.channel, c.status, coalesce(c.status_reason, ''), c.strategy_type, c.strategy_content,
	c.time_zone, c.short_month_policy, c.dst_gap_policy, c.times, ` + calendarColumns + `, c.written_at`

func (c *CampaignSummary) columns() []any {
	return []any{
		&c.ID, &c.Revision, &c.Name, &c.AppID, &c.WorkspaceID, &c.Channel, &c.Status, &c.Reason, &c.StrategyType, (*[]byte)(&c.StrategyContent),
		&c.TimeZone, &c.ShortMonth, &c.DSTGap, &c.Times,
		&c.Calendar.Name, &c.Calendar.Policy, &c.Calendar.Closed, (*timeOrZero)(&c.Calendar.Since), &c.WrittenAt,
	}
}

// maxLooked is how many campaigns a search looks through, the newest first.
const maxLooked = 100_000

// FindCampaigns returns the campaigns whose name contains the text, the newest
// first, with ids below before; zero: from the newest. A search by name or status
// looks through at most 100,000 of those of the app, or of all: down to the id that it
// returns, zero: through all.
func (s *Store) FindCampaigns(ctx context.Context, text string, f Filter, before int64) (out []CampaignSummary, downTo int64, err error) {
	err = s.read(ctx, "find campaigns", func(tx pgx.Tx) error {
		some, err := seesSome(ctx, tx)
		if err != nil {
			return err
		}
		byApp := f.ofApps(some)
		rejected := len(f.Statuses) == 1 && f.Statuses[0] == "rejected" && !byApp // has an index
		if text != "" || len(f.Statuses) > 0 && !rejected {
			if downTo, err = f.newestDownTo(ctx, tx, before, byApp, maxLooked); err != nil {
				return err
			}
		}
		where := Filter{Channel: f.Channel, Statuses: f.Statuses}.common("c")
		add(where, "c.id < ?", before)
		add(where, "c.id >= ?", downTo)
		add(where, "strpos(lower(c.name), lower(?)) > 0", text)
		sql, args := f.newest("", where, byApp, limitOf(f.Limit))
		rows, _ := tx.Query(ctx, `
			SELECT `+summaryColumns+`, coalesce(l.status, ''), l.due_at
			  FROM scheduler.campaigns c
			  LEFT JOIN LATERAL (SELECT t.status, t.due_at FROM scheduler.tasks t
			                      WHERE t.campaign_id = c.id AND t.decided_at IS NOT NULL ORDER BY t.due_at DESC LIMIT 1) l ON true
			 WHERE c.id = ANY (ARRAY(`+sql+`)) ORDER BY c.id DESC`, args...)
		out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c CampaignSummary, err error) {
			var last *time.Time
			err = row.Scan(append(c.columns(), &c.LastStatus, &last)...)
			c.LastDueAt = orZero(last)
			return c, err
		})
		return err
	})
	return out, downTo, err
}

// newest is the statement that chooses the ids of the newest campaigns c under
// conditions, so many, and more of their columns, as ", name". By app it asks each that the role may see and the filter names:
// the policy says the same of whom sees only some; but so that it is true for every
// row of those who see all, no index serves it.
func (f Filter) newest(more string, where *conditions, byApp bool, most int) (sql string, args []any) {
	campaigns := where.sql()
	if !byApp {
		return fmt.Sprintf(`SELECT c.id%s FROM scheduler.campaigns c WHERE %s ORDER BY c.id DESC LIMIT %d`, more, campaigns, most), where.args
	}
	where.where = nil
	add(where, "a.app_id = ?", f.AppID)
	add(where, "a.workspace_id = ?", f.WorkspaceID)
	return fmt.Sprintf(`
		SELECT c.* FROM scheduler.apps a CROSS JOIN LATERAL (
		  SELECT c.id%[4]s FROM scheduler.campaigns c WHERE c.app_no = a.app_no AND %[1]s ORDER BY c.id DESC LIMIT %[2]d) c
		 WHERE %[3]s ORDER BY c.id DESC LIMIT %[2]d`, campaigns, most, where.sql(), more), where.args
}

// newestDownTo is the id of the last of so many newest campaigns with ids below before;
// zero: there are fewer.
func (f Filter) newestDownTo(ctx context.Context, tx pgx.Tx, before int64, byApp bool, most int) (id int64, err error) {
	if !byApp { // the first and the last id may say so already, and cost nothing
		var few bool
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(c.id) - min(c.id) < $1, true) FROM scheduler.campaigns c`, most-1).Scan(&few); err != nil || few {
			return 0, err
		}
	}
	where := &conditions{}
	add(where, "c.id < ?", before)
	sql, args := f.newest("", where, byApp, most)
	// They come in the order of an index: else all that there are would be sorted.
	if _, err := tx.Exec(ctx, `SET LOCAL enable_sort = off`); err != nil {
		return 0, err
	}
	err = tx.QueryRow(ctx, fmt.Sprintf(`SELECT coalesce((SELECT x.id FROM (%s) x OFFSET %d LIMIT 1), 0)`, sql, most-1), args...).Scan(&id)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `SET LOCAL enable_sort = on`)
	return id, err
}

// seesSome says whether the role may see only some of the apps.
func seesSome(ctx context.Context, tx pgx.Tx) (some bool, err error) {
	err = tx.QueryRow(ctx, `SELECT scheduler.visible_apps() IS NOT NULL`).Scan(&some)
	return some, err
}

// A CampaignDetail is a whole campaign as its author may read it.
type CampaignDetail struct {
	CampaignSummary
	Request                     json.RawMessage
	AudienceView, MisfirePolicy string
	CatchUpWindow               time.Duration
	Spread                      time.Duration // zero: none
	ResendUnknown               bool
	QuietPolicy                 string // as it was written; empty: hold
	CreatedBy, UpdatedBy        string
	CreatedAt, UpdatedAt        time.Time
	Targets                     int64 // counted up to 10,001
}

// maxCountedTargets bounds the count of a campaign's targets.
const maxCountedTargets = 10_001

// CampaignDetail returns one campaign, or ErrNoCampaign: also for one that the
// role may not see.
func (s *Store) CampaignDetail(ctx context.Context, id int64) (CampaignDetail, error) {
	var c CampaignDetail
	err := s.read(ctx, fmt.Sprintf("read campaign %d", id), func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			SELECT `+summaryColumns+`, c.request, coalesce(c.audience_view, ''), c.misfire_policy, c.catch_up_window,
			       c.spread, c.resend_unknown, coalesce(c.quiet_policy, ''), c.created_by, c.updated_by, c.created_at, c.updated_at,
			       (SELECT count(*) FROM (SELECT FROM scheduler.campaign_targets t WHERE t.campaign_id = c.id LIMIT $2) x)
			  FROM scheduler.campaigns c WHERE c.id = $1`, id, maxCountedTargets).
			Scan(append(c.columns(), &c.Request, &c.AudienceView, &c.MisfirePolicy, (*interval)(&c.CatchUpWindow),
				(*interval)(&c.Spread), &c.ResendUnknown, &c.QuietPolicy, &c.CreatedBy, &c.UpdatedBy, &c.CreatedAt, &c.UpdatedAt, &c.Targets)...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return CampaignDetail{}, fmt.Errorf("campaign %d: %w", id, ErrNoCampaign)
	}
	return c, err
}

// A TaskCursor is where a page of tasks ends: behind a task or, where ID is zero, at a time.
type TaskCursor struct {
	DueAt time.Time
	ID    int64
}

// A TaskPage is one page of a list of tasks, the latest due first.
type TaskPage struct {
	Rows []TaskRow
	// DownTo is how far back tasks that were decided were looked for: to go on further
	// would have taken too long. Zero: all were.
	DownTo time.Time
}

// PageTasks returns the tasks that the filter chooses, the latest due first,
// from behind the cursor on; the zero cursor is before the first.
func (s *Store) PageTasks(ctx context.Context, f Filter, after TaskCursor) (page TaskPage, err error) {
	switch {
	case after.ID != 0:
		f.Until, f.behind = after.DueAt.Add(time.Microsecond), after
	case !after.DueAt.IsZero():
		f.Until = after.DueAt
	}
	f.patience = readLimit
	err = s.read(ctx, "list tasks", func(tx pgx.Tx) (err error) {
		page, err = f.page(ctx, tx)
		return err
	})
	return page, err
}

// A DayCount is how many tasks of one day have a status.
type DayCount struct {
	Day    int // counted from the first day asked for
	Status string
	Tasks  int64
	More   bool // there are more than were counted
}

// maxDayTasks bounds what is counted of one day.
const maxDayTasks = 1000

// maxUndecided bounds what is counted of tasks that are not decided yet.
const maxUndecided = 50_000

// CountDays counts tasks by status for stretches of time, which ascend and do
// not overlap: the first starts at bounds[0] and ends at bounds[1]. Of each
// stretch that has begun at most 1,000 decided tasks are counted, of all others at most
// 10,000, of an app at most 10,000 in all of its newest 5,000 campaigns, and of all that
// are not decided at most 50,000.
func (s *Store) CountDays(ctx context.Context, now time.Time, bounds []time.Time, f Filter) (out []DayCount, err error) {
	if len(bounds) < 2 {
		return nil, nil
	}
	f.patience = readLimit
	err = s.read(ctx, "count tasks by day", func(tx pgx.Tx) error {
		some, err := seesSome(ctx, tx)
		if err != nil {
			return err
		}
		by, err := f.byCampaign(ctx, tx, some)
		if err != nil {
			return err
		}
		if out, err = countDecided(ctx, tx, some, now, bounds, f, by); err != nil {
			return err
		}
		pending, err := countPending(ctx, tx, some, bounds, f, maxUndecided)
		if err != nil {
			return err
		}
		running, err := countTogether(ctx, tx, `scheduler.tasks t WHERE t.decided_at IS NULL AND t.status = 'running' AND `, f.ofTasks(), bounds, f, maxUndecided)
		out = append(append(out, pending...), running...)
		return err
	})
	return out, err
}

// countTogether counts tasks t by status for stretches of time in one pass, up to so many.
func countTogether(ctx context.Context, tx pgx.Tx, from string, where *conditions, bounds []time.Time, f Filter, most int) ([]DayCount, error) {
	last := len(bounds) - 1
	where.args = append(where.args, bounds[0], bounds[last], bounds[:last], most)
	n := len(where.args)
	tasks := f.upTo(from, fmt.Sprintf("$%d", n), "t.due_at, t.status", fmt.Sprintf("t.due_at >= $%d AND t.due_at < $%d AND %s", n-3, n-2, where.sql()), where)
	rows, _ := tx.Query(ctx, fmt.Sprintf(`
		SELECT width_bucket(x.due_at, $%d::timestamptz[]) - 1, x.status::text, count(*), sum(count(*)) OVER () >= $%d
		  FROM (%s) x GROUP BY 1, 2 ORDER BY 1, 2`, n-1, n, tasks), where.args...)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[DayCount])
}

// countDecided counts those of CountDays that are decided, by the campaigns where they
// were chosen: up to 10,000 in all.
func countDecided(ctx context.Context, tx pgx.Tx, some bool, now time.Time, bounds []time.Time, f, by Filter) ([]DayCount, error) {
	if by.campaigns != nil {
		out, err := countTogether(ctx, tx, decidedFor(some), by.ofDecided(some), bounds, by, appTasks+1)
		for i := range out {
			out[i].More = out[i].More || by.someOf
		}
		return out, err
	}
	// Of what is to come little is decided, and one look finds it.
	last, _ := slices.BinarySearchFunc(bounds[:len(bounds)-1], now, time.Time.Compare)
	var out []DayCount
	if last < len(bounds)-1 {
		var err error
		if out, err = countTogether(ctx, tx, decidedFor(some), f.ofDecided(some), bounds[last:], f, appTasks+1); err != nil {
			return nil, err
		}
		for i := range out {
			out[i].Day += last
		}
	}
	if last == 0 {
		return out, nil
	}
	where := f.ofDecided(some)
	where.args = append(where.args, bounds[:last], bounds[1:last+1], maxDayTasks)
	n := len(where.args)
	rows, _ := tx.Query(ctx, fmt.Sprintf(`
		SELECT (d.n - 1)::integer, x.status::text, count(*), sum(count(*)) OVER (PARTITION BY d.n) >= $%d
		  FROM unnest($%d::timestamptz[], $%d::timestamptz[]) WITH ORDINALITY AS d (since, until, n)
		 CROSS JOIN LATERAL (SELECT t.status FROM %st.due_at >= d.since AND t.due_at < d.until AND %s LIMIT $%d) x
		 GROUP BY d.n, x.status ORDER BY d.n, x.status`, n, n-2, n-1, decidedFor(some), where.sql(), n), where.args...)
	return pgx.AppendRows(out, rows, pgx.RowToStructByPos[DayCount])
}

// An AuditRow is a row of scheduler.audit.
type AuditRow struct {
	At                 time.Time
	Who, Deed          string
	CampaignID, TaskID int64 // zero: none
	AppID, WorkspaceID string
	Revision           int32
	Note               string
}

// An AuditFilter chooses rows of the audit; zero fields choose all.
type AuditFilter struct {
	Who, Deed      string // Deed is how the deed begins
	Campaign, Task int64
	Until          time.Time // left out
	Limit          int       // zero means 50
}

// ListAudit returns who did what, the newest first.
func (s *Store) ListAudit(ctx context.Context, f AuditFilter) (out []AuditRow, err error) {
	err = s.read(ctx, "read the audit", func(tx pgx.Tx) error {
		read := audit
		if f.Campaign == 0 && f.Task == 0 {
			read = wholeAudit
		}
		out, err = read(ctx, tx, f)
		return err
	})
	return out, err
}

const auditColumns = `a.at, a.who, a.deed, coalesce(a.campaign_id, 0), coalesce(a.task_id, 0), coalesce(a.app_id, ''), coalesce(a.workspace_id, ''),
		       coalesce(a.revision, 0), coalesce(a.note, '')`

// audit reads what concerns one campaign or task.
func audit(ctx context.Context, tx pgx.Tx, f AuditFilter) ([]AuditRow, error) {
	where := &conditions{}
	add(where, "a.who = ?", f.Who)
	add(where, "starts_with(a.deed, ?)", strings.TrimSpace(f.Deed))
	add(where, "a.campaign_id = ?", f.Campaign)
	add(where, "a.task_id = ?", f.Task)
	add(where, "a.at < ?", f.Until)
	limit := where.limit(f.Limit)
	rows, _ := tx.Query(ctx, `SELECT `+auditColumns+` FROM scheduler.audit a WHERE `+where.sql()+` ORDER BY a.at DESC LIMIT `+limit, where.args...)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[AuditRow])
}

// changes are the deeds that are kept in campaign_history, as its check has them.
var changes = []string{"update", "pause", "resume", "cancel", "finish", "reject", "delete"}

// wholeAudit reads of campaign_history, which has a row for each change of each
// campaign, the newest of each deed by an index, and the notes of what it shows.
// Whoever sees some apps asks for the changes of their campaigns, unless these are
// many: else it would look for a few among those of all. All else people do by hand.
func wholeAudit(ctx context.Context, tx pgx.Tx, f AuditFilter) ([]AuditRow, error) {
	some, err := seesSome(ctx, tx)
	if err != nil {
		return nil, err
	}
	by, err := Filter{patience: readLimit}.byCampaign(ctx, tx, some)
	if err != nil {
		return nil, err
	}
	if by.someOf {
		by.campaigns = nil
	}
	sql, args := wholeAuditSQL(f, by.campaigns)
	rows, _ := tx.Query(ctx, sql, args...)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[AuditRow])
}

// wholeAuditSQL is the statement of wholeAudit; without campaigns it is of all.
func wholeAuditSQL(f AuditFilter, campaigns []int64) (sql string, args []any) {
	deed := strings.TrimSpace(f.Deed)
	deeds := slices.DeleteFunc(slices.Clone(changes), func(d string) bool { return !strings.HasPrefix(d, deed) })
	where := &conditions{}
	add(where, "a.who = ?", f.Who)
	add(where, "a.at < ?", f.Until)
	change := strings.NewReplacer("a.who", "h.changed_by", "a.at", "h.changed_at").Replace(where.sql())
	add(where, "starts_with(a.deed, ?)", deed)
	limit := where.limit(f.Limit)
	where.args = append(where.args, deeds)
	n := len(where.args)
	const columns = `SELECT h.changed_at, h.changed_by, h.action, h.campaign_id, h.app_no, h.revision FROM scheduler.campaign_history h WHERE `
	// No index but those that begin with the deed is in this order.
	newest := fmt.Sprintf(`unnest($%d::text[]) AS d (deed) CROSS JOIN LATERAL (
		%sh.action >= d.deed AND h.action <= d.deed AND %s ORDER BY h.action DESC, h.changed_at DESC LIMIT %s) h`, n, columns, change, limit)
	if campaigns != nil { // OFFSET leaves no index but the campaign's
		where.args = append(where.args, campaigns)
		newest = fmt.Sprintf(`unnest($%d::bigint[]) AS k (id) CROSS JOIN LATERAL (%sh.campaign_id = k.id OFFSET 0) h WHERE h.action = ANY ($%d) AND %s`, n+1, columns, n, change)
	}
	// That the deeds are constants lets the planner leave campaign_history out of the second part.
	return fmt.Sprintf(`
		WITH newest AS (
		  SELECT h.* FROM %[1]s ORDER BY h.changed_at DESC LIMIT %[2]s)
		SELECT %[3]s FROM (
		  SELECT n.changed_at AS at, n.changed_by AS who, n.action AS deed, n.campaign_id, NULL::bigint AS task_id, p.app_id, p.workspace_id, n.revision,
		         (SELECT a.note FROM scheduler.audit a WHERE a.campaign_id = n.campaign_id AND a.revision = n.revision AND a.at = n.changed_at AND a.deed = n.action LIMIT 1) AS note
		    FROM newest n LEFT JOIN scheduler.apps p ON p.app_no = n.app_no
		  UNION ALL
		  (SELECT a.at, a.who, a.deed, a.campaign_id, a.task_id, a.app_id, a.workspace_id, a.revision, a.note
		     FROM scheduler.audit a WHERE a.deed <> ALL ('{%[4]s}'::text[]) AND %[5]s ORDER BY a.at DESC LIMIT %[2]s)
		) a ORDER BY a.at DESC LIMIT %[2]s`, newest, limit, auditColumns, strings.Join(changes, ","), where.sql()), where.args
}

// A LatenessStep is how late the pushes of a stretch of time began.
type LatenessStep struct {
	From          time.Time
	Tasks         int64
	P50, P95, P99 time.Duration
	Within        []int64 // tasks that began within each of LatenessBounds
}

// LatenessBounds are the bounds of a histogram of lateness.
var LatenessBounds = []time.Duration{
	time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond,
	time.Second, 10 * time.Second, time.Minute, 10 * time.Minute,
}

// latenessColumns are the columns of a LatenessStep but the first, of tasks x.
var latenessColumns = func() string {
	within := make([]string, len(LatenessBounds))
	for i, b := range LatenessBounds {
		within[i] = fmt.Sprintf("count(*) FILTER (WHERE x.lateness <= interval '%d ms')", b.Milliseconds())
	}
	return `count(*), percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY x.lateness), ARRAY[` + strings.Join(within, ", ") + `]`
}()

// sparseTasks is up to how many tasks are read in one pass, and appTasks of an app by its
// campaigns: those of a time stand together, and those of a campaign do not.
const (
	sparseTasks = 30_000
	appTasks    = 10_000
)

// Lateness returns the lateness of stretches of time, so many from since on; those without
// a push are left out. Where there are more than 30,000 tasks in all, only so many of each
// stretch are looked at, and of an app 10,000 of its newest 5,000 campaigns.
func (s *Store) Lateness(ctx context.Context, since time.Time, step time.Duration, steps, tasks int, f Filter) (out []LatenessStep, err error) {
	f.patience = readLimit
	err = s.read(ctx, "read lateness", func(tx pgx.Tx) error {
		some, err := seesSome(ctx, tx)
		if err != nil {
			return err
		}
		by, err := f.byCampaign(ctx, tx, some)
		if err != nil {
			return err
		}
		where := by.ofDecided(some)
		where.args = append(where.args, since, since.Add(time.Duration(steps)*step))
		n := len(where.args)
		most := sparseTasks
		if by.campaigns != nil {
			most = appTasks
		}
		chosen := by.upTo(begunFor(some), fmt.Sprint(most+1), "t.due_at, t.sent_at - t.due_at AS lateness", fmt.Sprintf(
			"t.due_at >= $%d AND t.due_at < $%d AND t.sent_at IS NOT NULL AND %s", n-1, n, where.sql()), where)
		dense := false
		if by.campaigns == nil { // to count costs a sixth of what follows
			if err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) > %d FROM (%s) x`, sparseTasks, chosen), where.args...).Scan(&dense); err != nil {
				return err
			}
		}
		if !dense {
			where.args = append(where.args, step)
			rows, _ := tx.Query(ctx, fmt.Sprintf(`SELECT date_bin($%d, x.due_at, $%d), %s FROM (%s) x GROUP BY 1 ORDER BY 1`, len(where.args), n-1, latenessColumns, chosen), where.args...)
			out, err = pgx.CollectRows(rows, scanLateness)
			return err
		}
		where = f.ofDecided(some)
		where.args = append(where.args, since, step, steps)
		n = len(where.args)
		sql := fmt.Sprintf(`
			SELECT h.at, %[6]s
			  FROM generate_series(0, $%[1]d - 1) g (n) CROSS JOIN LATERAL (SELECT $%[2]d::timestamptz + g.n * $%[3]d::interval) h (at)
			 CROSS JOIN LATERAL (SELECT t.sent_at - t.due_at AS lateness FROM %[7]st.due_at >= h.at AND t.due_at < h.at + $%[3]d::interval
			                        AND t.sent_at IS NOT NULL AND %[4]s LIMIT %[5]d) x
			 GROUP BY h.at ORDER BY h.at`, n, n-2, n-1, where.sql(), tasks, latenessColumns, begunFor(some))
		rows, _ := tx.Query(ctx, sql, where.args...)
		out, err = pgx.CollectRows(rows, scanLateness)
		return err
	})
	return out, err
}

// begunFor returns where the role may read tasks t whose first call may have begun, as
// decidedFor does those that are decided.
func begunFor(some bool) string {
	if some {
		return `scheduler.tasks t WHERE `
	}
	return `(SELECT d.due_at, d.sent_at, d.app_no, d.campaign_id FROM scheduler.decided_tasks d
		UNION ALL SELECT r.due_at, r.sent_at, r.app_no, r.campaign_id FROM scheduler.tasks r WHERE r.decided_at IS NULL) t WHERE `
}

func scanLateness(row pgx.CollectableRow) (h LatenessStep, err error) {
	var q []interval
	if err = row.Scan(&h.From, &h.Tasks, &q, &h.Within); err == nil && len(q) == 3 {
		h.P50, h.P95, h.P99 = time.Duration(q[0]), time.Duration(q[1]), time.Duration(q[2])
	}
	return h, err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// A CampaignDraft is what an author writes of a campaign.
type CampaignDraft struct {
	Name, AppID, WorkspaceID, Channel string
	StrategyType                      int16
	StrategyContent, Request          json.RawMessage // nil StrategyContent: none
	AudienceView, TimeZone            string          // empty: NULL
	MisfirePolicy                     string
	CatchUpWindow                     time.Duration
	Spread                            time.Duration // zero: NULL
	ShortMonth, DSTGap                string
	Times                             []string // of day; none: NULL
	QuietPolicy                       string   // empty: NULL
	Calendar, CalendarPolicy          string   // empty: NULL
	ResendUnknown                     bool
	Status                            string
	Targets                           []string // rows of campaign_targets
}

// draftColumns are a draft's columns in order, and values what goes there.
const draftColumns = `name, app_id, workspace_id, channel, strategy_type, strategy_content, request, audience_view, time_zone,
	misfire_policy, catch_up_window, short_month_policy, dst_gap_policy, resend_unknown, times, calendar, calendar_policy, quiet_policy, spread, status`

func (d *CampaignDraft) values() []any {
	return []any{
		d.Name, d.AppID, d.WorkspaceID, d.Channel, d.StrategyType, jsonText(d.StrategyContent), string(d.Request), orNull(d.AudienceView), orNull(d.TimeZone),
		d.MisfirePolicy, d.CatchUpWindow, d.ShortMonth, d.DSTGap, d.ResendUnknown, d.Times, orNull(d.Calendar), orNull(d.CalendarPolicy), orNull(d.QuietPolicy), orNone(d.Spread), d.Status,
	}
}

// orNone turns no length of time into NULL.
func orNone(d time.Duration) *time.Duration {
	if d == 0 {
		return nil
	}
	return &d
}

// InsertDraft stores a campaign with its targets in one transaction and
// returns its id. The error may be a Refusal.
func (s *Store) InsertDraft(ctx context.Context, d *CampaignDraft) (id int64, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			INSERT INTO scheduler.campaigns (`+draftColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) RETURNING id`, d.values()...).Scan(&id)
		if err != nil {
			return err
		}
		targets := make([]Target, len(d.Targets))
		for i, name := range d.Targets {
			targets[i].Target = name
		}
		return insertTargets(ctx, tx, id, targets)
	})
	if err != nil {
		return 0, fmt.Errorf("insert campaign: %w", refusal(err, ErrNoCampaign))
	}
	return id, nil
}

// ErrRevisionMoved says that somebody changed the campaign meanwhile.
var ErrRevisionMoved = errors.New("somebody changed the campaign meanwhile")

// UpdateCampaign writes a draft over the campaign's revision, with a note of
// why; its targets stay as they are. The error may be ErrNoCampaign,
// ErrRevisionMoved or a Refusal.
func (s *Store) UpdateCampaign(ctx context.Context, id int64, revision int32, d *CampaignDraft, note string) error {
	err := s.changeCampaign(ctx, id, revision, note, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE scheduler.campaigns SET (name, strategy_type, strategy_content, request, audience_view, time_zone,
			       misfire_policy, catch_up_window, short_month_policy, dst_gap_policy, resend_unknown, times, calendar, calendar_policy, quiet_policy, spread) =
			       ($2, $3, $4::jsonb, $5::jsonb, $6, coalesce($7, time_zone), $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) WHERE id = $1`,
			append([]any{id, d.Name}, d.values()[4:19]...)...)
		return err
	})
	if err != nil {
		return fmt.Errorf("change campaign %d: %w", id, err)
	}
	return nil
}

// ChangeStatus pauses, resumes (active) or cancels a campaign of that revision,
// with a note of why. Errors as UpdateCampaign's.
func (s *Store) ChangeStatus(ctx context.Context, id int64, revision int32, status, note string) error {
	err := s.changeCampaign(ctx, id, revision, note, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE scheduler.campaigns SET status = $2 WHERE id = $1`, id, status)
		return err
	})
	if err != nil {
		return fmt.Errorf("campaign %d: %w", id, err)
	}
	return nil
}

func (s *Store) changeCampaign(ctx context.Context, id int64, revision int32, note string, change func(tx pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		var now int32
		if err := tx.QueryRow(ctx, `SELECT revision FROM scheduler.campaigns WHERE id = $1 FOR NO KEY UPDATE`, id).Scan(&now); err != nil {
			return err
		}
		if now != revision {
			return ErrRevisionMoved
		}
		if err := change(tx); err != nil {
			return err
		}
		if note == "" {
			return nil
		}
		_, err := tx.Exec(ctx, `SELECT scheduler.note_campaign($1, $2, $3)`, id, revision, note)
		return err
	})
	return refusal(err, ErrNoCampaign)
}
