package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A TaskRow is a row of scheduler.tasks for people to look at. Times that are
// not known are zero.
type TaskRow struct {
	ID             int64
	CampaignID     int64
	Campaign       string // empty: deleted
	TimeZone       string // the campaign's, or its last one where it was deleted
	AppID          string
	WorkspaceID    string
	Channel        string
	DueAt          time.Time
	Status         string
	Reason         string
	Origin         string
	Revision       int32
	Attempts       int32
	StartedAt      time.Time
	SentAt         time.Time
	DecidedAt      time.Time
	Deliveries     int32 // zero: the task has not begun
	DeliveriesDone int32 // of a running task those that ended, of a decided one those that were accepted
	Targets        int64
	Code           string
	Message        string
	RequestID      string
	MessageID      string
}

// A claimed or pending task's channel is its campaign's.
const taskSQL = `
	SELECT t.id, t.campaign_id, coalesce(t.campaign, ''), coalesce(c.time_zone, h.time_zone, 'UTC'), coalesce(t.app_id, ''), coalesce(t.workspace_id, ''),
	       coalesce(t.channel, c.channel, ''), t.due_at, t.status, coalesce(t.reason, ''), t.origin, t.revision, coalesce(t.attempts, 0),
	       t.started_at, t.sent_at, t.decided_at, coalesce(t.deliveries, 0), coalesce(t.deliveries_done, 0), coalesce(t.targets, 0),
	       coalesce(t.code, ''), coalesce(t.message, ''), coalesce(t.request_id, ''), coalesce(t.message_id, '')
	  FROM scheduler.tasks t
	  LEFT JOIN scheduler.campaigns c ON c.id = t.campaign_id
	  LEFT JOIN LATERAL (
		SELECT h.before ->> 'time_zone' AS time_zone FROM scheduler.campaign_history h
		 WHERE c.id IS NULL AND h.campaign_id = t.campaign_id ORDER BY h.id DESC LIMIT 1) h ON true`

func scanTask(row pgx.CollectableRow) (TaskRow, error) {
	var t TaskRow
	var started, sent, decided *time.Time
	err := row.Scan(&t.ID, &t.CampaignID, &t.Campaign, &t.TimeZone, &t.AppID, &t.WorkspaceID, &t.Channel, &t.DueAt, &t.Status, &t.Reason, &t.Origin,
		&t.Revision, &t.Attempts, &started, &sent, &decided, &t.Deliveries, &t.DeliveriesDone, &t.Targets, &t.Code, &t.Message, &t.RequestID, &t.MessageID)
	t.StartedAt, t.SentAt, t.DecidedAt = orZero(started), orZero(sent), orZero(decided)
	return t, err
}

// ListTasks returns the tasks that the filter chooses, the latest due first.
func (s *Store) ListTasks(ctx context.Context, f Filter) ([]TaskRow, error) {
	var page TaskPage
	err := pgx.BeginTxFunc(ctx, s.db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		page, err = f.page(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	return page.Rows, nil
}

// page reads the tasks that the filter chooses.
func (f Filter) page(ctx context.Context, tx pgx.Tx) (page TaskPage, err error) {
	// The ids are chosen first, from as few columns as the filter needs. The view's
	// joins, which the other columns need, are then made for these rows only.
	var ids []int64
	page.DownTo, err = f.pageIDs(ctx, tx, func(sql string, args []any) (int, error) {
		rows, _ := tx.Query(ctx, sql, args...)
		found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		ids = append(ids, found...)
		return len(found), err
	})
	if err != nil {
		return page, err
	}
	rows, _ := tx.Query(ctx, taskSQL+` WHERE t.id = ANY ($1) ORDER BY t.due_at DESC, t.id DESC LIMIT $2`, ids, limitOf(f.Limit))
	page.Rows, err = pgx.CollectRows(rows, scanTask)
	// What has not ended was found however far back it is: it comes in its place.
	page.Rows = slices.DeleteFunc(page.Rows, func(t TaskRow) bool { return t.DueAt.Before(page.DownTo) })
	if len(page.Rows) >= limitOf(f.Limit) {
		page.DownTo = time.Time{}
	}
	return page, err
}

// pageIDs calls step with statements that together choose the ids of a page, and more
// ids; step returns how many its statement found. pageIDs returns how far back it
// looked for decided tasks, or zero. Tasks that have not ended have statements of their
// own: these are few, and need no search among decided tasks.
func (f Filter) pageIDs(ctx context.Context, tx pgx.Tx, step func(sql string, args []any) (found int, err error)) (downTo time.Time, err error) {
	if f.onlyUnknown() {
		_, err := step(f.unresolvedIDs())
		return time.Time{}, err
	}
	some, err := seesSome(ctx, tx)
	if err != nil {
		return time.Time{}, err
	}
	undecided, decided := f, f
	decided.Statuses = slices.DeleteFunc(slices.Clone(f.Statuses), hasNotEnded)
	undecided.Statuses = slices.DeleteFunc(slices.Clone(f.Statuses), func(s string) bool { return !hasNotEnded(s) })
	if len(f.Statuses) == 0 {
		undecided.Statuses = []string{"pending", "running"}
	}
	if i := slices.Index(undecided.Statuses, "pending"); i >= 0 && f.Campaign == 0 && f.Channel == "" {
		undecided.Statuses = slices.Delete(undecided.Statuses, i, i+1)
		if _, err := step(f.pendingIDs(some, true)); err != nil {
			return time.Time{}, err
		}
	}
	if len(undecided.Statuses) > 0 {
		if _, err := step(undecided.undecidedIDs()); err != nil {
			return time.Time{}, err
		}
	}
	if len(f.Statuses) > 0 && len(decided.Statuses) == 0 {
		return time.Time{}, nil
	}
	return decided.decidedIDs(ctx, tx, some, step)
}

func hasNotEnded(status string) bool { return status == "pending" || status == "running" }

// How a page looks back for decided tasks where no index has just those: further and
// further, and each look at the time before the last one's. The short looks cost little
// in any case. While a longer one is quick, the next is longer by lookBackGrows. One that
// is not quick is given up, and from there each look is slowLookGrows times as long. In
// the end the page shows what was found.
const (
	firstLookBack     = 2 * time.Second
	shortLookBack     = 2 * time.Minute      // after it, an app's tasks are looked for by its campaigns
	lastLookBack      = 100 * 24 * time.Hour // after it, all tasks are looked at
	lookBackGrows     = 60
	slowLookGrows     = 4
	quickLookPatience = 100 // a quick look takes at most this part of the page's patience,
	looksPatience     = 20  // and the longer looks together this part
)

// decidedIDs calls step with the statements of pageIDs for decided tasks.
func (f Filter) decidedIDs(ctx context.Context, tx pgx.Tx, some bool, step func(sql string, args []any) (found int, err error)) (downTo time.Time, err error) {
	inOrder := !some && len(f.Statuses) == 0 && f.AppID == "" && f.WorkspaceID == "" && f.Channel == ""
	if inOrder || f.Campaign != 0 { // an index has them in this order, or those of the campaign
		_, err := step(f.decidedSQL(some, f.Since))
		return time.Time{}, err
	}
	from, err := f.latest(ctx, tx)
	if err != nil {
		return time.Time{}, err
	}
	found := 0
	look := func(since time.Time) error {
		n, err := step(f.decidedSQL(some, since))
		found += n
		return err
	}
	back := firstLookBack
	for ; back <= shortLookBack; back *= lookBackGrows {
		since, last := f.lookBack(from, back)
		if err := look(since); err != nil || last || found >= limitOf(f.Limit) {
			return time.Time{}, err
		}
		f.Until, downTo = since, since
	}
	by, err := f.byCampaign(ctx, tx, some)
	if err != nil {
		return time.Time{}, err
	}
	grows, limit := lookBackGrows, f.patience/quickLookPatience
	if by.campaigns != nil && !by.someOf { // the latest tasks of each campaign are found by the key
		f, back, grows, limit = by, lastLookBack, slowLookGrows, f.patience/looksPatience
	}
	effort, end := ctx, func() {}
	if f.patience > 0 {
		effort, end = context.WithTimeout(ctx, f.patience/looksPatience)
	}
	defer end()
	for effort.Err() == nil {
		since, last := f.lookBack(from, back)
		done, err := tryFor(ctx, tx, limit, func() error { return look(since) })
		switch {
		case err != nil:
			return time.Time{}, err
		case !done && grows == slowLookGrows:
			return downTo, nil
		case !done:
			grows, limit = slowLookGrows, f.patience/looksPatience
			back = back / lookBackGrows * slowLookGrows
		case last || found >= limitOf(f.Limit):
			return time.Time{}, nil
		default:
			f.Until, downTo, back = since, since, back*time.Duration(grows)
		}
	}
	return downTo, nil
}

// latest returns the time from which a list of tasks looks back.
func (f Filter) latest(ctx context.Context, tx pgx.Tx) (from time.Time, err error) {
	err = tx.QueryRow(ctx, `SELECT least(now(), $1)`, at(f.Until)).Scan(&from)
	return from, err
}

// lookBack returns the time since which a list looks at tasks when it looks so far
// back, and whether this is its last look.
func (f Filter) lookBack(from time.Time, back time.Duration) (since time.Time, last bool) {
	since = from.Add(-back)
	if back >= lastLookBack || since.Before(f.Since) {
		return f.Since, true
	}
	return since, false
}

// tryFor runs statements of a reading transaction, each with the time limit if that is
// not zero, and says whether they were done in time.
func tryFor(ctx context.Context, tx pgx.Tx, limit time.Duration, f func() error) (done bool, err error) {
	if limit == 0 {
		return true, f()
	}
	if _, err := tx.Exec(ctx, fmt.Sprintf(`SAVEPOINT look; SET LOCAL statement_timeout = %d`, limit.Milliseconds())); err != nil {
		return false, err
	}
	err = f()
	if _, failed := tx.Exec(ctx, `ROLLBACK TO SAVEPOINT look; RELEASE SAVEPOINT look`); failed != nil { // it also ends the limit
		return false, failed
	}
	if sqlState(err) == "57014" { // query_canceled
		return false, nil
	}
	return err == nil, err
}

// onlyUnknown says whether the filter chooses tasks that wait for a ruling, and no others.
func (f Filter) onlyUnknown() bool { return len(f.Statuses) == 1 && f.Statuses[0] == "unknown" }

// undecidedIDs returns the statement that chooses the ids of tasks that have not ended.
func (f Filter) undecidedIDs() (sql string, args []any) {
	where := f.ofTasks()
	where.where = append(where.where, "t.decided_at IS NULL") // leaves decided_tasks out
	f.within(where, "t.id")
	limit := where.limit(f.Limit)
	return `SELECT t.id FROM scheduler.tasks t WHERE ` + where.sql() + ` ORDER BY t.due_at DESC, t.id DESC LIMIT ` + limit, where.args
}

// unresolvedIDs returns the statement that chooses the ids of tasks that wait for a
// ruling. The view reads them by an index of their own.
func (f Filter) unresolvedIDs() (sql string, args []any) {
	f.Statuses = nil
	where := f.common("t")
	add(where, "t.campaign_id = ?", f.Campaign)
	f.within(where, "t.task_id")
	limit := where.limit(f.Limit)
	return `SELECT t.task_id FROM scheduler.unresolved t WHERE ` + where.sql() + ` ORDER BY t.due_at DESC, t.task_id DESC LIMIT ` + limit, where.args
}

// decidedFor returns where the role may read decided tasks t, and begins the condition:
// the table, which has the order of its index, or scheduler.tasks for a role that sees
// only some apps.
func decidedFor(some bool) string {
	if some {
		return `scheduler.tasks t WHERE t.decided_at IS NOT NULL AND ` // leaves out tasks that are not decided
	}
	return `scheduler.decided_tasks t WHERE `
}

// decidedSQL returns the statement that chooses the ids of decided tasks due since a time.
func (f Filter) decidedSQL(some bool, since time.Time) (sql string, args []any) {
	f.Since = since
	where := f.ofDecided(some)
	f.within(where, "t.id")
	if len(f.Statuses) > 0 && !slices.Contains(f.Statuses, "succeeded") {
		where.where = append(where.where, "t.reason IS NOT NULL") // the condition of the index decided_tasks_reason
	}
	limit := where.limit(f.Limit)
	const latest = ` ORDER BY t.due_at DESC, t.id DESC LIMIT `
	from := decidedFor(some)
	if f.campaigns == nil {
		return `SELECT t.id FROM ` + from + where.sql() + latest + limit, where.args
	}
	where.args = append(where.args, f.campaigns)
	of := `SELECT t.id, t.due_at FROM ` + from + `t.campaign_id = k.id AND ` + where.sql() + latest
	// The latest tasks are among those of the campaigns that have the latest ones.
	return fmt.Sprintf(`
		WITH latest AS MATERIALIZED (
		  SELECT k.id FROM unnest($%[1]d::bigint[]) AS k (id) CROSS JOIN LATERAL (%[2]s1) x ORDER BY x.due_at DESC, x.id DESC LIMIT %[3]s)
		SELECT x.id FROM latest k CROSS JOIN LATERAL (%[2]s%[3]s) x ORDER BY x.due_at DESC, x.id DESC LIMIT %[3]s`, len(where.args), of, limit), where.args
}

// within adds the conditions on the time of tasks t, and on their place behind the cursor.
func (f Filter) within(where *conditions, id string) {
	add(where, "t.due_at >= ?", f.Since)
	add(where, "t.due_at < ?", f.Until)
	f.behindCursor(where, id)
}

// behindCursor leaves out the tasks that come before the cursor in a list.
func (f Filter) behindCursor(where *conditions, id string) {
	if f.behind.ID == 0 {
		return
	}
	where.args = append(where.args, f.behind.DueAt, f.behind.ID)
	where.where = append(where.where, fmt.Sprintf("(t.due_at, %s) < ($%d, $%d)", id, len(where.args)-1, len(where.args)))
}

// maxAppCampaigns is the largest number of an app's campaigns whose tasks a page
// reads campaign by campaign. The latest tasks of an app with more campaigns are
// found by their time.
const maxAppCampaigns = 5000

// upTo selects columns of tasks t, from one of decidedFor and others, under a condition:
// at most most rows. Where byCampaign chose campaigns, it selects only their tasks. The
// inner limit makes PostgreSQL read one campaign after the other.
func (f Filter) upTo(from, most, columns, condition string, where *conditions) string {
	if f.campaigns == nil {
		return `SELECT ` + columns + ` FROM ` + from + condition + ` LIMIT ` + most
	}
	where.args = append(where.args, f.campaigns)
	return fmt.Sprintf(`SELECT k.* FROM unnest($%d::bigint[]) AS c (id)
		CROSS JOIN LATERAL (SELECT %s FROM %st.campaign_id = c.id AND %s LIMIT %s) k LIMIT %s`, len(where.args), columns, from, condition, most, most)
}

// byCampaign has a page's filter choose campaigns instead of the app that it names, or
// instead of the apps that an author may see. Deleted campaigns are among them. No
// index has decided tasks by their app, since it would cost something at every
// decision, and the search for one app's tasks among all takes longer the more others
// there are. Where there are more than maxAppCampaigns, it chooses the newest.
func (f Filter) byCampaign(ctx context.Context, tx pgx.Tx, some bool) (Filter, error) {
	if f.patience == 0 || f.Campaign != 0 || f.onlyUnknown() || f.AppID == "" && !some {
		return f, nil
	}
	rows, _ := tx.Query(ctx, `
		WITH app AS (SELECT a.app_no FROM scheduler.apps a WHERE $1 IN ('', a.app_id) AND $2 IN ('', a.workspace_id))
		SELECT DISTINCT x.id
		  FROM app CROSS JOIN LATERAL (
			(SELECT c.id FROM scheduler.campaigns c WHERE c.app_no = app.app_no ORDER BY c.id DESC LIMIT $3)
			UNION ALL
			(SELECT h.campaign_id FROM scheduler.campaign_history h WHERE h.app_no = app.app_no AND h.action = 'delete' ORDER BY h.campaign_id DESC LIMIT $3)) x
		 ORDER BY x.id DESC LIMIT $3`, f.AppID, f.WorkspaceID, maxAppCampaigns+1)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return f, err
	}
	f.AppID, f.WorkspaceID = "", "" // a campaign's app never changes
	f.campaigns, f.someOf = orEmpty(ids[:min(len(ids), maxAppCampaigns)]), len(ids) > maxAppCampaigns
	return f, nil
}

// Task returns one task, or ErrNoTask.
func (s *Store) Task(ctx context.Context, id int64) (TaskRow, error) {
	rows, _ := s.db.Query(ctx, taskSQL+` WHERE t.id = $1`, id)
	t, err := pgx.CollectOneRow(rows, scanTask)
	if errors.Is(err, pgx.ErrNoRows) {
		return TaskRow{}, fmt.Errorf("task %d: %w", id, ErrNoTask)
	}
	if err != nil {
		return TaskRow{}, fmt.Errorf("read task %d: %w", id, err)
	}
	return t, nil
}

// A DeliveryCount says how many deliveries of a task have a status, with the
// reason of the first.
type DeliveryCount struct {
	Status     string // as in scheduler.deliveries
	Deliveries int64
	Targets    int64
	Reason     string
}

// DeliveryCounts counts a task's deliveries by status.
func (s *Store) DeliveryCounts(ctx context.Context, taskID int64) ([]DeliveryCount, error) {
	return readRows(ctx, s, fmt.Sprintf("count deliveries of task %d", taskID), pgx.RowToStructByPos[DeliveryCount], `
		SELECT status, count(*), coalesce(sum(target_count), 0),
		       coalesce((array_agg(reason ORDER BY slice_no) FILTER (WHERE reason IS NOT NULL AND status <> 'succeeded'))[1], '')
		  FROM scheduler.deliveries WHERE task_id = $1 GROUP BY status ORDER BY count(*) DESC, status`, taskID)
}

// A Filter chooses rows for people to look at. Zero fields choose all.
type Filter struct {
	AppID, WorkspaceID string
	Campaign           int64
	Statuses           []string
	Channel            string
	Since, Until       time.Time // of a task's occurrence or a campaign's insert; without Until itself
	Limit              int       // zero means 50

	behind    TaskCursor    // in a list of tasks, the latest due first, only those behind it
	patience  time.Duration // time limit of a page's statement; zero: the session's
	campaigns []int64       // the app's campaigns where byCampaign chose them; nil: it chose none
	someOf    bool          // the app has more campaigns than these
}

// conditions collects the conditions of a WHERE with their parameters.
type conditions struct {
	where []string
	args  []any
}

// add adds a condition with ? for its parameter, unless the value is zero.
func add[T comparable](c *conditions, condition string, value T) {
	var zero T
	if value == zero {
		return
	}
	c.args = append(c.args, value)
	c.where = append(c.where, strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(c.args))))
}

// sql returns the text of the WHERE, which is never empty.
func (c *conditions) sql() string { return strings.Join(append([]string{"true"}, c.where...), " AND ") }

// limitOf returns a list's limit: zero means 50.
func limitOf(n int) int { return cmp.Or(n, 50) }

// limit adds the limit's parameter and returns it.
func (c *conditions) limit(n int) string {
	c.args = append(c.args, limitOf(n))
	return "$" + strconv.Itoa(len(c.args))
}

// common adds the conditions that apply to both campaigns and tasks, under the
// given alias.
func (f Filter) common(alias string) *conditions {
	c := f.appConditions(alias, nil)
	add(c, alias+".channel = ?", f.Channel)
	if len(f.Statuses) > 0 {
		c.args = append(c.args, f.Statuses)
		c.where = append(c.where, alias+".status = ANY ($"+strconv.Itoa(len(c.args))+")")
	}
	return c
}

// appConditions begins the conditions of a statement that has args already: those on the
// app, under the given alias.
func (f Filter) appConditions(alias string, args []any) *conditions {
	c := &conditions{args: args}
	add(c, alias+".app_id = ?", f.AppID)
	add(c, alias+".workspace_id = ?", f.WorkspaceID)
	return c
}

// ofTasks is common for scheduler.tasks t.
func (f Filter) ofTasks() *conditions {
	return f.ofOwner(Filter{Channel: f.Channel, Statuses: f.Statuses}.common("t"))
}

// ofDecided is ofTasks for decidedFor. Names are looked up once, and not for each task.
func (f Filter) ofDecided(some bool) *conditions {
	if some {
		return f.ofTasks()
	}
	c := &conditions{}
	add(c, "t.channel_no = (SELECT k.channel_no FROM scheduler.channels k WHERE k.channel = ?)", f.Channel)
	if len(f.Statuses) > 0 {
		c.args = append(c.args, f.Statuses)
		c.where = append(c.where, fmt.Sprintf("t.status = ANY (ARRAY(SELECT d FROM unnest(enum_range(NULL::scheduler.decision)) d WHERE d::text = ANY ($%d)))", len(c.args)))
	}
	return f.ofOwner(c)
}

// ofOwner adds the conditions on the campaign and the app of tasks t. The apps are looked
// up once, and not for each task.
func (f Filter) ofOwner(c *conditions) *conditions {
	add(c, "t.campaign_id = ?", f.Campaign)
	if apps := f.appConditions("a", c.args); len(apps.where) > 0 {
		c.args = apps.args
		c.where = append(c.where, "t.app_no = ANY (ARRAY(SELECT a.app_no FROM scheduler.apps a WHERE "+apps.sql()+"))")
	}
	return c
}
