//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/strategy"
)

// An occurrence is a campaign and an instant, in Unix microseconds.
type occurrence struct {
	campaign int64
	due      int64
}

func (o occurrence) String() string {
	return fmt.Sprintf("campaign %d at %s", o.campaign, time.UnixMicro(o.due).UTC().Format("15:04:05.000000"))
}

// A task is the record of an occurrence.
type task struct {
	id       int64
	status   string
	reason   string
	targets  []string // of a task with one delivery
	slices   []slice  // its stored deliveries
	count    int      // how many deliveries it was decided with
	accepted int      // how many of these were accepted
	decided  time.Time
	sent     *time.Time
	attempts int

	sliceOf map[string]int // by target, once statusOf was called
	unnamed string         // the status of a delivery without targets
}

// A slice is a stored delivery.
type slice struct {
	no          int32
	status      string
	targets     []string
	lost        bool   // its daemon was lost while it was under way
	transaction string // the transaction that wrote it last
}

// A record is the database at the end of a run.
type record struct {
	now      time.Time
	tasks    map[occurrence]*task
	byID     map[int64]occurrence
	resend   map[int64]bool          // campaigns that allow a push to be made twice
	windows  map[int64]time.Duration // for how long the pushes of these are made again; without campaigns that were cancelled or deleted
	channels map[int64]string
	appOf    map[int64]string
	versions []version
	open     int      // tasks that are due and not decided
	spread   int      // deliveries of tasks that were spread
	early    []string // those of these deliveries that began too early
}

// A version of a campaign has occurrences from the moment it was written to the
// moment it was replaced.
type version struct {
	campaign  int64
	kind      int16
	content   []byte
	zone      string
	short     string
	gap       string
	times     []string
	calendar  string
	policy    string
	closed    []time.Time
	since     time.Time
	writtenAt time.Time
	until     time.Time // zero: the current version
}

func readRecord(ctx context.Context, db *database) (*record, error) {
	r := &record{
		tasks: make(map[occurrence]*task), byID: make(map[int64]occurrence), resend: make(map[int64]bool),
		windows: make(map[int64]time.Duration), channels: make(map[int64]string), appOf: make(map[int64]string),
	}
	for _, read := range []func(context.Context, *database) error{r.readTasks, r.readSlices, r.readVersions, r.readWindows, r.readOpen, r.readSpread} {
		if err := read(ctx, db); err != nil {
			return nil, fmt.Errorf("read the record: %w", err)
		}
	}
	return r, nil
}

func (r *record) readTasks(ctx context.Context, db *database) error {
	if err := db.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&r.now); err != nil {
		return err
	}
	rows, err := db.pool.Query(ctx, `
		SELECT id, campaign_id, due_at, status::text, coalesce(reason, ''), targets, decided_at, sent_at, attempts, slices, accepted FROM scheduler.decided_tasks`)
	if err != nil {
		return err
	}
	for rows.Next() {
		t := &task{}
		var o occurrence
		var due time.Time
		if err := rows.Scan(&t.id, &o.campaign, &due, &t.status, &t.reason, &t.targets, &t.decided, &t.sent, &t.attempts, &t.count, &t.accepted); err != nil {
			return err
		}
		o.due = due.UnixMicro()
		r.tasks[o], r.byID[t.id] = t, o
	}
	return rows.Err()
}

func (r *record) readSlices(ctx context.Context, db *database) error {
	rows, err := db.pool.Query(ctx, `
		SELECT s.task_id, s.slice_no, s.status::text, coalesce(x.targets, '{}'), coalesce(s.reason LIKE 'the daemon was lost%', false), s.xmin::text
		  FROM scheduler.slices s LEFT JOIN scheduler.slice_targets x ON x.slice_id = s.id ORDER BY task_id, slice_no`)
	if err != nil {
		return err
	}
	var id int64
	var s slice
	_, err = pgx.ForEachRow(rows, []any{&id, &s.no, &s.status, &s.targets, &s.lost, &s.transaction}, func() error {
		if t := r.tasks[r.byID[id]]; t != nil {
			t.slices = append(t.slices, slice{s.no, s.status, append([]string(nil), s.targets...), s.lost, s.transaction})
		}
		return nil
	})
	return err
}

// readVersions finds every strategy that was ever valid: those in the campaigns
// and those in the audit.
func (r *record) readVersions(ctx context.Context, db *database) error {
	rows, err := db.pool.Query(ctx, `
		SELECT to_jsonb(c), NULL::timestamptz FROM scheduler.campaigns c WHERE status <> 'cancelled'
		 UNION ALL
		SELECT before, changed_at FROM scheduler.campaign_history WHERE strategy_ended AND before ->> 'status' <> 'cancelled'`)
	if err != nil {
		return err
	}
	var row []byte
	var until *time.Time
	_, err = pgx.ForEachRow(rows, []any{&row, &until}, func() error {
		var c struct {
			ID      int64           `json:"id"`
			Status  string          `json:"status"`
			Reason  string          `json:"status_reason"`
			AppID   string          `json:"app_id"`
			Channel string          `json:"channel"`
			Kind    int16           `json:"strategy_type"`
			Content json.RawMessage `json:"strategy_content"`
			Zone    string          `json:"time_zone"`
			Short   string          `json:"short_month_policy"`
			Gap     string          `json:"dst_gap_policy"`
			Times   []string        `json:"times"`
			Name    string          `json:"calendar"`
			Policy  string          `json:"calendar_policy"`
			Closed  []time.Time     `json:"calendar_closed"`
			Since   time.Time       `json:"calendar_since"`
			Resend  bool            `json:"resend_unknown"`
			Written time.Time       `json:"written_at"`
		}
		if err := json.Unmarshal(row, &c); err != nil {
			return err
		}
		if c.Status == "rejected" {
			return fmt.Errorf("campaign %d was rejected: %s", c.ID, c.Reason)
		}
		v := version{
			campaign: c.ID, kind: c.Kind, content: c.Content, zone: c.Zone, short: c.Short, gap: c.Gap, times: c.Times, writtenAt: c.Written,
			calendar: c.Name, policy: c.Policy, closed: c.Closed, since: c.Since,
		}
		if until != nil {
			v.until = *until
		}
		r.versions = append(r.versions, v)
		r.resend[c.ID], r.channels[c.ID], r.appOf[c.ID] = c.Resend, c.Channel, c.AppID
		until = nil
		return nil
	})
	return err
}

// readWindows finds the campaigns whose pushes are made again until an answer is
// certain.
func (r *record) readWindows(ctx context.Context, db *database) error {
	rows, err := db.pool.Query(ctx, `
		SELECT id, extract(epoch FROM catch_up_window)::float8 FROM scheduler.campaigns WHERE resend_unknown AND status <> 'cancelled'`)
	if err != nil {
		return err
	}
	var id int64
	var seconds float64
	_, err = pgx.ForEachRow(rows, []any{&id, &seconds}, func() error {
		r.windows[id] = time.Duration(seconds * float64(time.Second))
		return nil
	})
	return err
}

// readSpread compares when deliveries began with the spread of their campaigns, whose
// times it works out again.
func (r *record) readSpread(ctx context.Context, db *database) error {
	return db.pool.QueryRow(ctx, `
		WITH delivery AS (
			SELECT d.campaign_id, d.due_at, d.slices, s.slice_no, s.sent_at, extract(epoch FROM c.spread)::float8 AS spread, extract(epoch FROM c.catch_up_window)::float8 AS "window"
			  FROM scheduler.campaigns c JOIN scheduler.decided_tasks d ON d.campaign_id = c.id JOIN scheduler.slices s ON s.task_id = d.id
			 WHERE c.spread IS NOT NULL AND s.sent_at IS NOT NULL AND d.slices > 1 AND NOT EXISTS (
				SELECT FROM scheduler.campaign_history h WHERE h.campaign_id = c.id
				   AND ((h.before ->> 'spread')::interval IS DISTINCT FROM c.spread OR (h.before ->> 'catch_up_window')::interval IS DISTINCT FROM c.catch_up_window))
		)
		SELECT count(*), coalesce(array_agg(format('campaign %s due %s: delivery %s of %s began at %s', campaign_id, due_at, slice_no, slices, sent_at))
		       FILTER (WHERE extract(epoch FROM sent_at - due_at) < least(spread, "window" - least(60, "window" / 10)) * (slice_no - 1) / slices - 0.001), '{}')
		  FROM delivery`).Scan(&r.spread, &r.early)
}

// readOpen counts the tasks that are due and have no decision.
func (r *record) readOpen(ctx context.Context, db *database) error {
	return db.pool.QueryRow(ctx, openTasks).Scan(&r.open)
}

// openTasks counts the tasks that are due and have no decision, and the changes
// that no plan has taken yet.
const openTasks = `
	SELECT (SELECT count(*) FROM scheduler.pending_tasks WHERE due_at <= clock_timestamp())
	     + (SELECT count(*) FROM scheduler.claims) + (SELECT count(*) FROM scheduler.running_tasks)
	     + (SELECT count(*) FROM scheduler.campaign_changes)
	     + (SELECT count(*) FROM scheduler.campaign_cursors WHERE next_due_at <= clock_timestamp())`

// due lists the occurrences of a version up to an instant.
func (v *version) due(now time.Time) ([]time.Time, error) {
	s, _, err := strategy.Parse(strategy.Spec{
		Type: strategy.Type(v.kind), Content: v.content, Zone: v.zone, ShortMonth: strategy.ShortMonthPolicy(v.short),
		DSTGap: strategy.DSTGapPolicy(v.gap), Times: v.times, CatchUpWindow: strategy.MaxCatchUpWindow, WrittenAt: v.writtenAt,
		Calendar: v.calendar, CalendarPolicy: strategy.CalendarPolicy(v.policy), Closed: v.closed, Since: v.since,
	})
	if err != nil {
		return nil, err
	}
	var out []time.Time
	for t := s.Next(time.Time{}); !t.IsZero() && t.Before(now); t = s.Next(t) {
		if !v.until.IsZero() && !t.Before(v.until) {
			break
		}
		out = append(out, t)
	}
	return out, nil
}
