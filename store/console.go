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
// policies, so that an author may ask too, is planned for its own values, and
// has a time limit: a page that would take longer says how to narrow it.

// ErrReadTooLong says that a read was given up at its time limit.
var ErrReadTooLong = errors.New("this takes too long: narrow it by app, campaign or time")

// readLimit bounds one read of a page. It is far above what any page needs.
const readLimit = 3 * time.Second

// read runs f in a read-only transaction with the time limit of pages.
func (s *Store) read(ctx context.Context, what string, f func(tx pgx.Tx) error) error {
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := planForValues(ctx, tx, readLimit); err != nil {
			return err
		}
		return f(tx)
	})
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
	err := s.pool.QueryRow(ctx, `SELECT now, held_since, coalesce(held_reason, ''), daemons FROM scheduler.state`).
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
	err := s.pool.QueryRow(ctx, `
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
		return tx.QueryRow(ctx, `
			SELECT (SELECT count(*) FROM (SELECT FROM scheduler.unresolved LIMIT 1000) x),
			       (SELECT count(*) FROM (SELECT FROM scheduler.tasks t WHERE `+pending+` AND t.reason IS NULL
			                                AND t.due_at < now() - interval '1 minute' LIMIT 1000) x),
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

// pending chooses the pending tasks of scheduler.tasks, whose reason is then what they
// wait for. The first condition leaves decided_tasks out.
const pending = `t.decided_at IS NULL AND t.status = 'pending'`

// ListUpcoming returns the next pending tasks that the filter chooses. No index has
// those of all apps by their time: it would cost every task. So they are looked through,
// and only those that are returned are joined with what the list tells of them.
func (s *Store) ListUpcoming(ctx context.Context, f Filter) (out []UpcomingRow, err error) {
	f.patience = readLimit
	err = s.read(ctx, "list what is coming", func(tx pgx.Tx) error {
		f, err := f.byCampaign(ctx, tx)
		if err != nil {
			return err
		}
		where := f.common("t")
		add(where, "t.campaign_id = ?", f.Campaign)
		if f.campaigns != nil {
			where.args = append(where.args, f.campaigns)
			where.where = append(where.where, fmt.Sprintf("t.campaign_id = ANY ($%d)", len(where.args)))
		}
		add(where, "t.due_at >= ?", f.Since)
		add(where, "t.due_at < ?", f.Until)
		limit := where.limit(f.Limit)
		rows, _ := tx.Query(ctx, `
			SELECT u.task_id, u.campaign_id, u.campaign, u.channel, u.app_id, u.workspace_id, u.time_zone, coalesce(u.waits_for, ''), u.due_at
			  FROM scheduler.upcoming u
			 WHERE u.task_id = ANY (ARRAY(SELECT t.id FROM scheduler.tasks t WHERE `+pending+` AND `+where.sql()+` ORDER BY t.due_at, t.id LIMIT `+limit+`))
			 ORDER BY u.due_at, u.task_id`, where.args...)
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
	WrittenAt                    time.Time
	LastStatus                   string
	LastDueAt                    time.Time
}

// summaryColumns are those of campaigns c that a summary has, and columns where they go.
const summaryColumns = `c.id, c.revision, c.name, c.app_id, c.workspace_id, c.channel, c.status, coalesce(c.status_reason, ''), c.strategy_type, c.strategy_content,
	c.time_zone, c.short_month_policy, c.dst_gap_policy, c.times, c.written_at`

func (c *CampaignSummary) columns() []any {
	return []any{
		&c.ID, &c.Revision, &c.Name, &c.AppID, &c.WorkspaceID, &c.Channel, &c.Status, &c.Reason, &c.StrategyType, &c.StrategyContent,
		&c.TimeZone, &c.ShortMonth, &c.DSTGap, &c.Times, &c.WrittenAt,
	}
}

// maxNames is up to how many campaigns a search by name looks through.
const maxNames = 100_000

// FindCampaigns returns the campaigns whose name contains the text, the newest
// first, with ids below before; zero: from the newest. A search by name looks through
// at most 100,000 of them, unless it names an app: down to the id that it returns, zero:
// through all.
func (s *Store) FindCampaigns(ctx context.Context, text string, f Filter, before int64) (out []CampaignSummary, downTo int64, err error) {
	where := f.common("c")
	add(where, "c.id < ?", before)
	add(where, "strpos(lower(c.name), lower(?)) > 0", text)
	err = s.read(ctx, "find campaigns", func(tx pgx.Tx) error {
		some, err := seesSome(ctx, tx)
		switch {
		case err != nil:
			return err
		case some:
			where.where = append(where.where, ofVisibleApps)
		case text != "" && f.AppID == "":
			// The ids alone are in the index, where they are read in no time.
			err := tx.QueryRow(ctx, `
				SELECT coalesce((SELECT c.id FROM scheduler.campaigns c WHERE $1 = 0 OR c.id < $1 ORDER BY c.id DESC OFFSET $2 LIMIT 1), 0)`,
				before, maxNames-1).Scan(&downTo)
			if err != nil {
				return err
			}
			add(where, "c.id >= ?", downTo)
		}
		limit := where.limit(f.Limit)
		rows, _ := tx.Query(ctx, `
			SELECT `+summaryColumns+`, coalesce(l.status, ''), l.due_at
			  FROM (SELECT c.* FROM scheduler.campaigns c WHERE `+where.sql()+` ORDER BY c.id DESC LIMIT `+limit+`) c
			  LEFT JOIN LATERAL (SELECT t.status, t.due_at FROM scheduler.tasks t
			                      WHERE t.campaign_id = c.id AND t.decided_at IS NOT NULL ORDER BY t.due_at DESC LIMIT 1) l ON true
			 ORDER BY c.id DESC`, where.args...)
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

// seesSome says whether the role may see only some of the apps.
func seesSome(ctx context.Context, tx pgx.Tx) (some bool, err error) {
	err = tx.QueryRow(ctx, `SELECT scheduler.visible_apps() IS NOT NULL`).Scan(&some)
	return some, err
}

// ofVisibleApps chooses the campaigns c of the apps that the role may see. The policy
// says the same; but so that it is true for every row of those who see all, no index
// serves it.
const ofVisibleApps = `c.app_no = ANY (ARRAY(SELECT a.app_no FROM scheduler.apps a))`

// A CampaignDetail is a whole campaign as its author may read it.
type CampaignDetail struct {
	CampaignSummary
	Request                     json.RawMessage
	AudienceView, MisfirePolicy string
	CatchUpWindow               time.Duration
	Spread                      time.Duration // zero: none
	ResendUnknown               bool
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
			       c.spread, c.resend_unknown, c.created_by, c.updated_by, c.created_at, c.updated_at,
			       (SELECT count(*) FROM (SELECT FROM scheduler.campaign_targets t WHERE t.campaign_id = c.id LIMIT $2) x)
			  FROM scheduler.campaigns c WHERE c.id = $1`, id, maxCountedTargets).
			Scan(append(c.columns(), &c.Request, &c.AudienceView, &c.MisfirePolicy, (*interval)(&c.CatchUpWindow),
				(*interval)(&c.Spread), &c.ResendUnknown, &c.CreatedBy, &c.UpdatedBy, &c.CreatedAt, &c.UpdatedAt, &c.Targets)...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return CampaignDetail{}, fmt.Errorf("campaign %d: %w", id, ErrNoCampaign)
	}
	return c, err
}

// A TaskCursor is where a page of tasks ends.
type TaskCursor struct {
	DueAt time.Time
	ID    int64
}

// PageTasks returns the tasks that the filter chooses, the latest due first,
// from behind the cursor on; the zero cursor is before the first.
func (s *Store) PageTasks(ctx context.Context, f Filter, after TaskCursor) ([]TaskRow, error) {
	if !after.DueAt.IsZero() {
		f.Until = after.DueAt.Add(time.Microsecond)
		f.behind = after
	}
	f.patience = readLimit
	out, err := s.ListTasks(ctx, f)
	if sqlState(err) == "57014" {
		return nil, ErrReadTooLong
	}
	return out, err
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
const maxUndecided = 100_000

// CountDays counts tasks by status for stretches of time, which ascend and do
// not overlap: the first starts at bounds[0] and ends at bounds[1]. Of each
// stretch at most 1,000 decided tasks are counted, and of all that are not
// decided at most 100,000. Those of an app with few campaigns are all counted
// where they are no more than 30,000.
func (s *Store) CountDays(ctx context.Context, bounds []time.Time, f Filter) (out []DayCount, err error) {
	if len(bounds) < 2 {
		return nil, nil
	}
	f.patience = readLimit
	err = s.read(ctx, "count tasks by day", func(tx pgx.Tx) error {
		by, err := f.byCampaign(ctx, tx)
		if err != nil {
			return err
		}
		if out, err = countDecided(ctx, tx, bounds, f, by); err != nil {
			return err
		}
		// The others have no order of time: they are looked through once for all stretches.
		undecided, err := countTogether(ctx, tx, bounds, by, "t.decided_at IS NULL", maxUndecided)
		out = append(out, undecided...)
		return err
	})
	return out, err
}

// countTogether counts tasks by status for stretches of time in one pass, up to so many.
func countTogether(ctx context.Context, tx pgx.Tx, bounds []time.Time, f Filter, which string, most int) ([]DayCount, error) {
	where, last := f.common("t"), len(bounds)-1
	add(where, "t.campaign_id = ?", f.Campaign)
	where.args = append(where.args, bounds[0], bounds[last], bounds[:last], most)
	n := len(where.args)
	tasks := f.upTo(fmt.Sprintf("$%d", n), "t.due_at, t.status", fmt.Sprintf("t.due_at >= $%d AND t.due_at < $%d AND %s AND %s", n-3, n-2, which, where.sql()), where)
	rows, _ := tx.Query(ctx, fmt.Sprintf(`
		SELECT width_bucket(x.due_at, $%d::timestamptz[]) - 1, x.status, count(*), sum(count(*)) OVER () >= $%d
		  FROM (%s) x GROUP BY 1, 2 ORDER BY 1, 2`, n-1, n, tasks), where.args...)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[DayCount])
}

// countDecided counts those of CountDays that are decided, by the campaigns where they
// were chosen.
func countDecided(ctx context.Context, tx pgx.Tx, bounds []time.Time, f, by Filter) ([]DayCount, error) {
	if by.campaigns != nil {
		out, err := countTogether(ctx, tx, bounds, by, "t.decided_at IS NOT NULL", sparseTasks+1)
		total := int64(0)
		for _, d := range out {
			total += d.Tasks
		}
		if err != nil || total <= sparseTasks {
			return out, err
		}
	}
	last := len(bounds) - 1
	// What is decided is found by the blocks of each stretch's time.
	where := f.common("t")
	add(where, "t.campaign_id = ?", f.Campaign)
	where.args = append(where.args, bounds[:last], bounds[1:], maxDayTasks)
	n := len(where.args)
	rows, _ := tx.Query(ctx, fmt.Sprintf(`
		SELECT (d.n - 1)::integer, x.status, count(*), sum(count(*)) OVER (PARTITION BY d.n) >= $%d
		  FROM unnest($%d::timestamptz[], $%d::timestamptz[]) WITH ORDINALITY AS d (since, until, n)
		 CROSS JOIN LATERAL (SELECT t.status FROM scheduler.tasks t
		                      WHERE t.due_at >= d.since AND t.due_at < d.until AND t.decided_at IS NOT NULL AND %s LIMIT $%d) x
		 GROUP BY d.n, x.status ORDER BY d.n, x.status`, n, n-2, n-1, where.sql(), n), where.args...)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[DayCount])
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
// All else people do by hand.
func wholeAudit(ctx context.Context, tx pgx.Tx, f AuditFilter) ([]AuditRow, error) {
	sql, args := wholeAuditSQL(f)
	rows, _ := tx.Query(ctx, sql, args...)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[AuditRow])
}

func wholeAuditSQL(f AuditFilter) (sql string, args []any) {
	deed := strings.TrimSpace(f.Deed)
	deeds := slices.DeleteFunc(slices.Clone(changes), func(d string) bool { return !strings.HasPrefix(d, deed) })
	where := &conditions{}
	add(where, "a.who = ?", f.Who)
	add(where, "a.at < ?", f.Until)
	change := strings.NewReplacer("a.who", "h.changed_by", "a.at", "h.changed_at").Replace(where.sql())
	add(where, "starts_with(a.deed, ?)", deed)
	limit := where.limit(f.Limit)
	where.args = append(where.args, deeds)
	// That the deeds are constants lets the planner leave campaign_history out of the second part.
	return fmt.Sprintf(`
		WITH newest AS (
		  SELECT h.* FROM unnest($%[1]d::text[]) AS d (deed)
		   CROSS JOIN LATERAL (SELECT h.changed_at, h.changed_by, h.action, h.campaign_id, h.app_no, h.revision FROM scheduler.campaign_history h
		                        WHERE h.action = d.deed AND %[2]s ORDER BY h.changed_at DESC LIMIT %[3]s) h
		   ORDER BY h.changed_at DESC LIMIT %[3]s)
		SELECT %[4]s FROM (
		  SELECT n.changed_at AS at, n.changed_by AS who, n.action AS deed, n.campaign_id, NULL::bigint AS task_id, p.app_id, p.workspace_id, n.revision,
		         (SELECT a.note FROM scheduler.audit a WHERE a.campaign_id = n.campaign_id AND a.revision = n.revision AND a.at = n.changed_at AND a.deed = n.action LIMIT 1) AS note
		    FROM newest n LEFT JOIN scheduler.apps p ON p.app_no = n.app_no
		  UNION ALL
		  (SELECT a.at, a.who, a.deed, a.campaign_id, a.task_id, a.app_id, a.workspace_id, a.revision, a.note
		     FROM scheduler.audit a WHERE a.deed <> ALL ('{%[5]s}'::text[]) AND %[6]s ORDER BY a.at DESC LIMIT %[3]s)
		) a ORDER BY a.at DESC LIMIT %[3]s`, len(where.args), change, limit, auditColumns, strings.Join(changes, ","), where.sql()), where.args
}

// A LatenessHour is how late the pushes of one hour began.
type LatenessHour struct {
	Hour          time.Time
	Tasks         int64
	P50, P95, P99 time.Duration
}

// sparseTasks is up to how many tasks are read in one pass.
const sparseTasks = 30_000

// LatenessByHour returns the lateness of the hours since then; hours without a push
// are left out. Where there are more than 30,000 tasks in all, only so many of each
// hour are looked at.
func (s *Store) LatenessByHour(ctx context.Context, since time.Time, hours, tasks int, f Filter) (out []LatenessHour, err error) {
	f.patience = readLimit
	err = s.read(ctx, "read lateness", func(tx pgx.Tx) error {
		by, err := f.byCampaign(ctx, tx)
		if err != nil {
			return err
		}
		// The blocks of one hour are those of many hours where little is pushed: to
		// look for each hour by itself would read them again and again.
		where := by.common("t")
		where.args = append(where.args, since, hours)
		n := len(where.args)
		chosen := by.upTo(fmt.Sprint(sparseTasks+1), "t.due_at, t.lateness", fmt.Sprintf(
			"t.due_at >= $%[1]d AND t.due_at < $%[1]d::timestamptz + $%[2]d * interval '1 hour' AND t.lateness IS NOT NULL AND %[3]s", n-1, n, where.sql()), where)
		sql := fmt.Sprintf(`
			SELECT date_bin('1 hour', x.due_at, $%d), count(*), percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM x.lateness)::float8)
			  FROM (%s) x GROUP BY 1 ORDER BY 1`, n-1, chosen)
		rows, _ := tx.Query(ctx, sql, where.args...)
		if out, err = pgx.CollectRows(rows, scanLateness); err != nil {
			return err
		}
		total := int64(0)
		for _, h := range out {
			total += h.Tasks
		}
		if total <= sparseTasks {
			return nil
		}
		where = f.common("t")
		where.args = append(where.args, since, hours)
		n = len(where.args)
		sql = fmt.Sprintf(`
			SELECT h.at, count(*), percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM x.lateness)::float8)
			  FROM generate_series(0, $%[2]d - 1) g (n) CROSS JOIN LATERAL (SELECT $%[1]d::timestamptz + g.n * interval '1 hour') h (at)
			 CROSS JOIN LATERAL (SELECT t.lateness FROM scheduler.tasks t
			                      WHERE t.due_at >= h.at AND t.due_at < h.at + interval '1 hour' AND t.lateness IS NOT NULL AND %[3]s LIMIT %[4]d) x
			 GROUP BY h.at ORDER BY h.at`, n-1, n, where.sql(), tasks)
		rows, _ = tx.Query(ctx, sql, where.args...)
		out, err = pgx.CollectRows(rows, scanLateness)
		return err
	})
	return out, err
}

func scanLateness(row pgx.CollectableRow) (h LatenessHour, err error) {
	var q []float64
	if err = row.Scan(&h.Hour, &h.Tasks, &q); err == nil && len(q) == 3 {
		h.P50, h.P95, h.P99 = seconds(q[0]), seconds(q[1]), seconds(q[2])
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
	ResendUnknown                     bool
	Status                            string
	Targets                           []string // rows of campaign_targets
}

// draftColumns are a draft's columns in order, and values what goes there.
const draftColumns = `name, app_id, workspace_id, channel, strategy_type, strategy_content, request, audience_view, time_zone,
	misfire_policy, catch_up_window, short_month_policy, dst_gap_policy, resend_unknown, times, spread, status`

func (d *CampaignDraft) values() []any {
	return []any{
		d.Name, d.AppID, d.WorkspaceID, d.Channel, d.StrategyType, jsonText(d.StrategyContent), string(d.Request), orNull(d.AudienceView), orNull(d.TimeZone),
		d.MisfirePolicy, d.CatchUpWindow, d.ShortMonth, d.DSTGap, d.ResendUnknown, d.Times, orNone(d.Spread), d.Status,
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
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			INSERT INTO scheduler.campaigns (`+draftColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) RETURNING id`, d.values()...).Scan(&id)
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
			       misfire_policy, catch_up_window, short_month_policy, dst_gap_policy, resend_unknown, times, spread) =
			       ($2, $3, $4::jsonb, $5::jsonb, $6, coalesce($7, time_zone), $8, $9, $10, $11, $12, $13, $14) WHERE id = $1`,
			append([]any{id, d.Name}, d.values()[4:16]...)...)
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
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
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

// AppFills returns how full the apps' pending limits are, the fullest first.
func (s *Store) AppFills(ctx context.Context, limit int) ([]AppFill, error) {
	return readRows(ctx, s, "read how full apps are", pgx.RowToStructByPos[AppFill], appFillsSQL, limit)
}
