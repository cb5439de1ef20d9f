//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A ban is a change that forbade pushes, with the deliveries that had begun
// when it committed. No other push of the campaign may arrive after the change.
type ban struct {
	action   string
	campaign int64
	at       time.Time // right after the commit was confirmed
	until    time.Time // when a resume was about to commit; zero: never
	revision int       // of the campaign's name: calls that carry an older one are banned; 0: all
	targets  []string  // calls that carry one of these are banned; nil: all
	begun    []begun
}

// begun is a delivery whose intent was durable when the ban committed.
type begun struct {
	due     time.Time
	targets []string  // of a stored delivery; nil: the task's one call
	since   time.Time // when the intent became durable, by the database's clock
	calls   int       // how many calls may arrive since then; more than one where earlier attempts may be under way
}

// An editor changes campaigns at random moments of their tasks' lives.
type editor struct {
	db       *database
	workload *workload
	report   *Report
	rng      *rand.Rand

	mu      sync.Mutex
	bans    []*ban
	paused  map[int64]*ban
	names   map[int64]int
	dropped map[int64]map[string]bool // targets that were deleted, by campaign
	windows map[int64]bool            // campaigns whose catch-up window was changed
	hushes  []*hush
	jumps   bool // the database's clock jumps, so nobody can tell when quiet hours were
}

func newEditor(db *database, w *workload, report *Report, rng *rand.Rand) *editor {
	return &editor{
		db: db, workload: w, report: report, rng: rng,
		paused: make(map[int64]*ban), names: make(map[int64]int), dropped: make(map[int64]map[string]bool),
		windows: make(map[int64]bool),
	}
}

func (e *editor) run(ctx context.Context, pause time.Duration) {
	for ctx.Err() == nil {
		if id := e.some(ctx); id != 0 {
			if err := e.edit(ctx, id); err != nil && ctx.Err() == nil {
				e.report.count("edits that failed in an outage", 1)
			}
		}
		sleep(ctx, pause)
	}
}

// some chooses a campaign. Half of the time it chooses one that is being pushed,
// if there is any, since these moments are the shortest.
func (e *editor) some(ctx context.Context) int64 {
	id := e.workload.some(e.rng)
	if e.rng.IntN(2) == 0 {
		return id
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// Without a row, or a database, id stays the campaign chosen before.
	_ = e.db.pool.QueryRow(ctx, `
		SELECT campaign_id FROM (
			SELECT unnest(campaign_ids) AS campaign_id FROM scheduler.claims
			 UNION SELECT campaign_id FROM scheduler.slices WHERE finished_at IS NULL) x
		  JOIN scheduler.campaigns c ON c.id = campaign_id ORDER BY random() LIMIT 1`).Scan(&id)
	return id
}

func (e *editor) edit(ctx context.Context, id int64) error {
	if b := e.paused[id]; b != nil && e.rng.IntN(2) == 0 {
		return e.resume(ctx, b)
	}
	switch e.rng.IntN(16) {
	case 0, 1:
		return e.pause(ctx, id)
	case 2:
		return e.change(ctx, &ban{action: "cancel", campaign: id}, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`)
	case 3:
		return e.change(ctx, &ban{action: "delete", campaign: id}, `DELETE FROM scheduler.campaigns WHERE id = $1`)
	case 4:
		return e.rename(ctx, id)
	case 5:
		return e.reschedule(ctx, id)
	case 6:
		return e.dropTargets(ctx, id)
	case 7:
		return e.trigger(ctx, id)
	case 8:
		return e.window(ctx, id)
	case 9, 10, 11:
		return e.readdress(ctx)
	case 12:
		return e.rewrite(ctx)
	case 13:
		return e.quiet(ctx)
	case 14:
		return e.turnDay(ctx)
	default:
		return e.limit(ctx)
	}
}

// change runs one statement in an author's transaction, which at times stays
// open for a while. It keeps the change as a ban.
func (e *editor) change(ctx context.Context, b *ban, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	open := time.Duration(0)
	if e.rng.IntN(6) == 0 {
		open = time.Duration(e.rng.IntN(2500)) * time.Millisecond
	}
	changed := false
	err := pgx.BeginFunc(ctx, e.db.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, append([]any{b.campaign}, args...)...)
		if err != nil {
			return err
		}
		changed = tag.RowsAffected() > 0
		// The change holds the locks that claims would need. So no delivery can
		// begin between now and the commit.
		b.begun, err = begunOf(ctx, tx, b.campaign, b.action == readdress)
		sleep(ctx, open)
		return err
	})
	if err != nil || !changed {
		return err
	}
	b.at = time.Now()
	if b.action == dropTargets {
		// Only this change locks no campaign. A delivery that was claimed while its
		// transaction was open may have read the targets that are gone now.
		begun, err := begunOf(ctx, e.db.pool, b.campaign, false)
		if err != nil {
			return err
		}
		b.begun = append(b.begun, begun...)
	}
	e.mu.Lock()
	e.bans = append(e.bans, b)
	e.mu.Unlock()
	e.report.count("edits", 1)
	e.report.count("edits: "+b.action, 1)
	return nil
}

// A querier is a transaction, or a pool.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// begunOf lists the deliveries of a campaign whose intent is durable. With
// waiting, it also lists deliveries of begun tasks that wait for a try; these may
// arrive any number of times.
func begunOf(ctx context.Context, q querier, campaign int64, waiting bool) ([]begun, error) {
	rows, err := q.Query(ctx, `
		SELECT t.due_at, NULL::text[], c.claimed_at, 1
		  FROM scheduler.claims c CROSS JOIN LATERAL unnest(c.campaign_ids, c.due_ats) AS t (campaign_id, due_at) WHERE t.campaign_id = $1
		 UNION ALL
		SELECT r.due_at, x.targets, CASE WHEN s.maybe_sent OR $2 THEN r.started_at ELSE s.sent_at END,
		       CASE WHEN $2 THEN 1000 WHEN s.maybe_sent THEN s.attempts ELSE 1 END
		  FROM scheduler.slices s JOIN scheduler.running_tasks r ON r.id = s.task_id LEFT JOIN scheduler.slice_targets x ON x.slice_id = s.id
		 WHERE s.campaign_id = $1 AND (s.status = 'running' OR s.maybe_sent OR $2 AND s.finished_at IS NULL)`, campaign, waiting)
	if err != nil {
		return nil, err
	}
	var out []begun
	var b begun
	_, err = pgx.ForEachRow(rows, []any{&b.due, &b.targets, &b.since, &b.calls}, func() error {
		out = append(out, begun{b.due, slices.Clone(b.targets), b.since, b.calls})
		return nil
	})
	return out, err
}

func (e *editor) pause(ctx context.Context, id int64) error {
	if e.paused[id] != nil {
		return nil
	}
	b := &ban{action: "pause", campaign: id}
	if err := e.change(ctx, b, `UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1 AND status = 'active'`); err != nil {
		return err
	}
	if !b.at.IsZero() {
		e.paused[id] = b
	}
	return nil
}

func (e *editor) resume(ctx context.Context, b *ban) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	before := time.Now()
	e.mu.Lock()
	b.until = before // even if it failed here, the database may have committed it
	e.mu.Unlock()
	delete(e.paused, b.campaign)
	_, err := e.db.pool.Exec(ctx, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1 AND status = 'paused'`, b.campaign)
	if err == nil {
		e.report.count("edits", 1)
		e.report.count("edits: resume", 1)
	}
	return err
}

// rename changes the campaign's name, which the push API's journal shows.
func (e *editor) rename(ctx context.Context, id int64) error {
	e.names[id]++
	return e.change(ctx, &ban{action: "rename", campaign: id, revision: e.names[id]}, `
		UPDATE scheduler.campaigns SET name = split_part(name, '.', 1) || '.r' || $2::int WHERE id = $1 AND status IN ('active', 'paused')`, e.names[id])
}

// reschedule gives the campaign another strategy.
func (e *editor) reschedule(ctx context.Context, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var now time.Time
	if err := e.db.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return err
	}
	w := workload{rng: e.rng, until: e.workload.until}
	s := w.strategy(now)
	for s.kind == 0 {
		s = w.strategy(now)
	}
	tag, err := e.db.pool.Exec(ctx, `
		UPDATE scheduler.campaigns SET strategy_type = $2, strategy_content = $3, time_zone = $4, times = $5,
		       calendar = nullif($6, ''), calendar_policy = nullif($7, '') WHERE id = $1 AND status <> 'cancelled'`,
		id, s.kind, s.content, s.zone, s.times, s.calendar, s.policy)
	if err == nil && tag.RowsAffected() > 0 {
		e.report.count("edits", 1)
		e.report.count("edits: reschedule", 1)
	}
	return err
}

// dropTargets is the removal of some of a campaign's targets.
const dropTargets = "drop targets"

// dropTargets takes a fifth of the campaign's targets away.
func (e *editor) dropTargets(ctx context.Context, id int64) error {
	part := e.rng.IntN(5)
	var names []string
	err := e.db.pool.QueryRow(ctx, `
		SELECT coalesce(array_agg(target), '{}') FROM scheduler.campaign_targets WHERE campaign_id = $1 AND substr(target, 2)::int % 5 = $2`, id, part).Scan(&names)
	if err != nil || len(names) == 0 {
		return err
	}
	e.mu.Lock()
	if e.dropped[id] == nil {
		e.dropped[id] = make(map[string]bool)
	}
	for _, n := range names {
		e.dropped[id][n] = true
	}
	e.mu.Unlock()
	return e.change(ctx, &ban{action: dropTargets, campaign: id, targets: names},
		`DELETE FROM scheduler.campaign_targets WHERE campaign_id = $1 AND target = ANY($2)`, names)
}

// calendars are the calendars that campaigns name. Every weekday is open in them.
var calendars = []string{"chaos east", "chaos west"}

// makeCalendars makes the calendars, in two zones whose days differ most.
func (d *database) makeCalendars(ctx context.Context) error {
	_, err := d.pool.Exec(ctx, `
		INSERT INTO scheduler.calendars (name, time_zone, open_weekdays)
		SELECT u.name, u.zone, '{1,2,3,4,5,6,7}' FROM unnest($1::text[], '{Pacific/Kiritimati,Etc/GMT+12}'::text[]) AS u (name, zone)`, calendars)
	if err != nil {
		return fmt.Errorf("make calendars: %w", err)
	}
	return nil
}

// turnDay closes a day of a calendar, near today, or opens a closed one. At times
// the transaction stays open for a while.
func (e *editor) turnDay(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := pgx.BeginFunc(ctx, e.db.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO scheduler.calendar_days AS d (calendar, day, open, why)
			SELECT k.name, (clock_timestamp() AT TIME ZONE k.time_zone)::date + $2::integer, false, 'chaos' FROM scheduler.calendars k WHERE k.name = $1
			    ON CONFLICT (calendar, day) DO UPDATE SET open = NOT d.open`, pick(e.rng, calendars...), e.rng.IntN(4)-1)
		if e.rng.IntN(6) == 0 {
			sleep(ctx, time.Duration(e.rng.IntN(2500))*time.Millisecond)
		}
		return err
	})
	if err == nil {
		e.report.count("edits", 1)
		e.report.count("edits: a day of a calendar", 1)
	}
	return err
}

// readdress is the change of a campaign's audience.
const readdress = "change of audience"

// audiences are the views with the targets of a campaign before and after it is
// readdressed. They have no target in common.
var audiences = [2]string{"chaos_before", "chaos_after"}

// audienceSize is how many targets each audience has.
const audienceSize = 40

// views makes the audiences.
func (d *database) views(ctx context.Context) error {
	for _, view := range audiences {
		_, err := d.pool.Exec(ctx, fmt.Sprintf(`
			CREATE VIEW audience.%[1]s AS
			SELECT '%[1]s' || i AS target, NULL::jsonb AS template_key_value, NULL::jsonb AS extended_params FROM generate_series(1, %[2]d) i;
			GRANT SELECT ON audience.%[1]s TO scheduler_daemon`, view, audienceSize))
		if err != nil {
			return fmt.Errorf("make audience views: %w", err)
		}
	}
	return nil
}

// readdress gives a campaign another audience, most often in the last two seconds
// before it is due. No task that begins later may push to a target of the old
// audience.
func (e *editor) readdress(ctx context.Context) error {
	id, err := e.soonDue(ctx, `c.audience_view = $1`, audiences[0])
	if err != nil || id == 0 {
		return err
	}
	names := make([]string, audienceSize)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d", audiences[0], i+1)
	}
	return e.change(ctx, &ban{action: readdress, campaign: id, targets: names},
		`UPDATE scheduler.campaigns SET audience_view = $2 WHERE id = $1 AND audience_view = $3 AND status = 'active'`, audiences[1], audiences[0])
}

// rewrite gives a campaign another request, most often in the last two seconds
// before it is due. No call that begins later may push to a target that only the
// old request names.
func (e *editor) rewrite(ctx context.Context) error {
	id, err := e.soonDue(ctx, `c.request -> 'targetMsgs' = $1::jsonb`, inlineBefore)
	if err != nil || id == 0 {
		return err
	}
	return e.change(ctx, &ban{action: "change of request", campaign: id, targets: []string{"u1", "u2"}},
		`UPDATE scheduler.campaigns SET request = jsonb_set(request, '{targetMsgs}', $2) WHERE id = $1 AND status = 'active'`, inlineAfter)
}

// soonDue chooses one of the active campaigns that meet the condition so, most
// often one that is due within two seconds. It returns zero when there is none.
func (e *editor) soonDue(ctx context.Context, so, value string) (id int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = e.db.pool.QueryRow(ctx, `
		SELECT c.id FROM scheduler.campaigns c LEFT JOIN scheduler.pending_tasks p ON p.campaign_id = c.id
		 WHERE `+so+` AND c.status = 'active'
		 ORDER BY (p.due_at BETWEEN clock_timestamp() AND clock_timestamp() + interval '2 seconds') IS NOT TRUE, random() LIMIT 1`, value).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return id, err
}

// window changes how late a campaign may be pushed, and its misfire policy.
func (e *editor) window(ctx context.Context, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	e.mu.Lock()
	e.windows[id] = true // even if it failed here, the database may have committed it
	e.mu.Unlock()
	tag, err := e.db.pool.Exec(ctx, `
		UPDATE scheduler.campaigns SET misfire_policy = $2, catch_up_window = CASE WHEN channel LIKE 'alipay%' THEN '20 seconds' ELSE $3 END::interval,
		       spread = CASE WHEN spread IS NOT NULL THEN least($4::text::interval, CASE WHEN channel LIKE 'alipay%' THEN '20 seconds' ELSE $3 END::interval) END
		 WHERE id = $1 AND status IN ('active', 'paused')`, id, pick(e.rng, "latest", "all", "skip"), pick(e.rng, "3 seconds", "20 seconds", "1 hour"), pick(e.rng, spreads...))
	if err == nil && tag.RowsAffected() > 0 {
		e.report.count("edits", 1)
		e.report.count("edits: window", 1)
	}
	return err
}

// skipOverdue now and then holds everything for a moment, and releases it without
// the pushes that were due meanwhile. It goes on however often the database fails
// in between.
func (e *editor) skipOverdue(ctx context.Context, rng *rand.Rand) {
	for {
		sleep(ctx, time.Duration(8+rng.IntN(12))*time.Second)
		if ctx.Err() != nil {
			return
		}
		if e.db.exec(ctx, `SELECT scheduler.hold_pushes('chaos')`) != nil {
			continue
		}
		sleep(ctx, time.Duration(rng.IntN(1500))*time.Millisecond)
		if e.release(ctx) == nil {
			e.report.count("releases that skip what is overdue", 1)
		}
	}
}

// release does the same as scheduler release --skip-overdue, step by step.
func (e *editor) release(ctx context.Context) error {
	if err := e.db.exec(ctx, `SELECT scheduler.hold_skips_overdue()`); err != nil {
		return err
	}
	for more := true; more; {
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := e.db.pool.QueryRow(ask, `SELECT coalesce(bool_or(s.more), false) FROM scheduler.apps a, scheduler.skip_overdue(a.app_no) s`).Scan(&more)
		cancel()
		if err != nil {
			return err
		}
	}
	return e.db.exec(ctx, `SELECT scheduler.release_hold(true)`)
}

// exec runs one statement that does not take long.
func (d *database) exec(ctx context.Context, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := d.pool.Exec(ctx, sql)
	return err
}

// trigger pushes a campaign once now.
func (e *editor) trigger(ctx context.Context, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tag, err := e.db.pool.Exec(ctx, `
		INSERT INTO scheduler.pending_tasks (app_no, campaign_id, revision, origin, due_at, ready_at)
		SELECT app_no, id, revision, 'triggered', t, t FROM scheduler.campaigns, clock_timestamp() AS t
		 WHERE id = $1 AND status = 'active' AND channel NOT LIKE 'alipay%' FOR SHARE OF campaigns`, id)
	if err == nil && tag.RowsAffected() > 0 {
		e.report.count("edits", 1)
		e.report.count("edits: trigger", 1)
	}
	return err
}

// limit changes an app's pending limit.
func (e *editor) limit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	a := pick(e.rng, apps...)
	_, err := e.db.pool.Exec(ctx, `UPDATE scheduler.apps SET pending_limit = $3 WHERE app_id = $1 AND workspace_id = $2`,
		a.id, a.workspace, pick(e.rng, 1, 3, a.limit, 2*a.limit))
	if err == nil {
		e.report.count("edits", 1)
		e.report.count("edits: pending limit", 1)
	}
	return err
}

// A hush is a time in which an app certainly has quiet hours, by this machine's clock.
type hush struct {
	app       string
	at, until time.Time
}

// hushable are the apps that get quiet hours. Apps whose calls are timed get none.
var hushable = []string{"w2", "m1", "m2", "a1"}

// hushSlack is how long after a change a call may still arrive: its claim was under
// way, and its daemon was frozen for as long as its lease lasted.
const hushSlack = lease + time.Second

// quiet gives an app quiet hours for some seconds, or takes them away.
func (e *editor) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if e.jumps {
		return nil
	}
	app := pick(e.rng, hushable...)
	for _, h := range e.hushes {
		if now := time.Now(); h.app == app && h.until.After(now) {
			h.until = now // even if the statement fails
		}
	}
	length := time.Duration(e.rng.IntN(5)) * 5 * time.Second
	if length == 0 {
		_, err := e.db.pool.Exec(ctx, `UPDATE scheduler.apps SET quiet_from = NULL, quiet_until = NULL WHERE app_id = $1`, app)
		return err
	}
	var left float64 // seconds from the start of the statement until the quiet hours end
	err := e.db.pool.QueryRow(ctx, `
		UPDATE scheduler.apps SET quiet_from = ((clock_timestamp() - interval '1 hour') AT TIME ZONE time_zone)::time(0), quiet_until = ((clock_timestamp() + $2) AT TIME ZONE time_zone)::time(0)
		 WHERE app_id = $1 RETURNING extract(epoch FROM scheduler.quiet_end(quiet_from, quiet_until, time_zone, clock_timestamp()) - clock_timestamp())`, app, length).Scan(&left)
	if err != nil {
		return err
	}
	e.report.count("edits", 1)
	e.report.count("edits: quiet hours", 1)
	now := time.Now()
	e.hushes = append(e.hushes, &hush{app, now, now.Add(time.Duration(left*float64(time.Second)) - time.Second)})
	return nil
}

// resumeAll lets every paused campaign go on, so that the run can end.
func (e *editor) resumeAll(ctx context.Context) error {
	e.mu.Lock()
	for _, b := range e.bans {
		if b.action == "pause" && b.until.IsZero() {
			b.until = time.Now()
		}
	}
	e.mu.Unlock()
	for _, h := range e.hushes {
		if now := time.Now(); h.until.After(now) {
			h.until = now
		}
	}
	if _, err := e.db.pool.Exec(ctx, `UPDATE scheduler.apps SET quiet_from = NULL, quiet_until = NULL WHERE quiet_from IS NOT NULL`); err != nil {
		return err
	}
	_, err := e.db.pool.Exec(ctx, `UPDATE scheduler.campaigns SET status = 'active' WHERE status = 'paused'`)
	return err
}

func (b *ban) String() string {
	return fmt.Sprintf("%s of campaign %d at %s", b.action, b.campaign, b.at.UTC().Format("15:04:05.000"))
}
