//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// zones are the time zones of loops. Their clocks show different days.
var zones = []string{"UTC", "Asia/Shanghai", "America/New_York", "Pacific/Kiritimati", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"}

// horizon is how far ahead a run's occurrences lie at most.
const horizon = 45 * time.Second

// A workload writes campaigns as their authors would: through SQL.
type workload struct {
	db     *database
	report *Report
	rng    *rand.Rand
	until  time.Time // no occurrence of this day is due later
	resend int       // how many of four campaigns are resend_unknown

	mu  sync.Mutex
	ids []int64
	n   int
}

// run inserts campaigns at the given pace until ctx ends.
func (w *workload) run(ctx context.Context, pause time.Duration) {
	for ctx.Err() == nil {
		if err := w.insert(ctx); err != nil && ctx.Err() == nil {
			w.report.count("inserts that failed in an outage", 1)
		}
		sleep(ctx, pause)
	}
}

// insert writes one campaign of a random kind with its targets.
func (w *workload) insert(ctx context.Context) error {
	w.n++
	a := apps[w.rng.IntN(len(apps))]
	c := w.content(a)
	var now time.Time
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := w.db.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return err
	}
	s := w.strategy(now)
	windows := []string{"3 seconds", "8 seconds", "20 seconds", "1 hour", "1 hour", "1 hour"}
	if a.provider == "alipay" {
		windows = []string{"8 seconds", "20 seconds"} // a task must not wait for quota until the end of the run
	}
	window := pick(w.rng, windows...)
	var spread *string
	if w.rng.IntN(3) == 0 && window != "3 seconds" {
		spread = new(pick(w.rng, spreads...))
	}
	var id int64
	err := w.db.pool.QueryRow(ctx, `
		WITH c AS (
			INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request, time_zone,
				misfire_policy, catch_up_window, resend_unknown, audience_view, times, quiet_policy, spread, calendar, calendar_policy)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::interval, $11, nullif($14, ''), $15, $16, $17::text::interval, nullif($18, ''), nullif($19, '')) RETURNING id
		), t AS (
			INSERT INTO scheduler.campaign_targets (campaign_id, target, msg_key)
			SELECT c.id, 'u' || i, CASE WHEN $13 AND i % 5 = 0 THEN 'k' || i END FROM c, generate_series(1, $12) i
		)
		SELECT id FROM c`,
		fmt.Sprintf("n%d.r0", w.n), a.id, a.workspace, c.channel, s.kind, s.content, c.request, s.zone,
		pick(w.rng, "latest", "all", "skip"), window, w.rng.IntN(4) < w.resend, c.targets, w.rng.IntN(2) == 0 && a.provider != "alipay", c.view, s.times, pick(w.rng, nil, nil, new("hold"), new("skip")), spread, s.calendar, s.policy).Scan(&id)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "23514" && s.calendar != "" {
		w.report.count("campaigns that their calendar refused", 1)
		return nil
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.ids = append(w.ids, id)
	w.mu.Unlock()
	w.report.count("campaigns", 1)
	if spread != nil {
		w.report.count("campaigns with a spread", 1)
	}
	if s.times != nil {
		w.report.count("campaigns with several times a day", 1)
	}
	if s.calendar != "" {
		w.report.count("campaigns with a calendar", 1)
	}
	return nil
}

// spreads are the spreads of campaigns. None is longer than a window, except the
// shortest window.
var spreads = []string{"1 second", "3 seconds", "8 seconds"}

// A content is a campaign's request, with the number of its stored targets.
type content struct {
	channel string
	request string
	targets int
	view    string // a view instead of targets
}

func (w *workload) content(a app) content {
	switch {
	case a.id == crowdApp:
		return content{"alipay.single_send", singleSend, w.audience(1, 5, 30, 200), ""}
	case a.provider == "alipay":
		return content{"alipay.label_send", `{"filter": {"template": "${a}", "context": {"a": {"column_name": "label_id_list", "op": "=", "values": ["100509"]}}},
			"material": {"msg_type": "text", "text": {"title": "t", "content": "c"}}}`, 0, ""}
	case a.provider == "mpaas":
		return w.mpaas()
	default:
		if w.rng.IntN(3) == 0 {
			return content{"webhook", `{"text": "hello"}`, 0, audiences[0]}
		}
		return content{"webhook", `{"text": "hello"}`, w.audience(0, 1, 40, 100, 101, 350, 1500), ""}
	}
}

const singleSend = `{"template": {"template_id": "T1", "context": {"first": {"value": "hello"}}}}`

// runCrowds writes campaigns with large audiences whose calls have one target
// each. Most of the time one of them is under way. The audience is larger than the
// app's bounds allow before the window closes, so that thousands of deliveries are
// ended together.
func (w *workload) runCrowds(ctx context.Context, rng *rand.Rand, duration time.Duration) {
	size := crowdSize(duration)
	for ctx.Err() == nil && time.Until(w.until) > 10*time.Second {
		err := w.db.crowd(ctx, size, "20 seconds", rng.IntN(4) == 0)
		pause := time.Second
		if err == nil {
			w.report.count("campaigns", 1)
			w.report.count("campaigns of large audiences", 1)
			pause = time.Duration(15+rng.IntN(10)) * time.Second
		}
		sleep(ctx, pause)
	}
}

// crowdSize is how many targets a large audience has in a run of that length.
func crowdSize(duration time.Duration) int {
	return min(max(int(duration/time.Second)*40, 1000), 20_000)
}

// openingSize is how many targets the audience at the start of a run has. In a
// long run it needs as many calls as a very large campaign.
func openingSize(duration time.Duration) int {
	if duration >= 10*time.Minute {
		return 300_000
	}
	return crowdSize(duration)
}

// crowd is the name of campaigns with large audiences.
const crowd = "crowd.r0"

// writtenAtOnce is how many targets of a large audience one statement writes.
const writtenAtOnce = 20_000

// crowdPatience is how long a statement on a whole large audience may take on a
// busy machine.
func crowdPatience(size int) time.Duration {
	return 5*time.Second + time.Duration(size)*200*time.Microsecond
}

// crowd writes a campaign with a large audience that is pushed at once, until its
// window closes.
func (d *database) crowd(ctx context.Context, size int, window string, resend bool) error {
	ctx, cancel := context.WithTimeout(ctx, crowdPatience(size))
	defer cancel()
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		var id int64
		err := tx.QueryRow(ctx, `
			INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, request, time_zone, catch_up_window, resend_unknown)
			VALUES ($4, $1, '', 'alipay.single_send', 0, $2, 'UTC', $5::interval, $3) RETURNING id`, crowdApp, singleSend, resend, crowd, window).Scan(&id)
		for first := 1; err == nil && first <= size; first += writtenAtOnce {
			_, err = tx.Exec(ctx, `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, '20881' || i FROM generate_series($2::integer, $3::integer) i`,
				id, first, min(size, first+writtenAtOnce-1))
		}
		return err
	})
}

// Pushes of another app that are due while a large audience waits: how many there
// are, how long after the audience's push they are due, and how late they may be.
const (
	neighbour      = "neighbour.r0"
	neighbourCount = 10
	neighbourLead  = 4 * time.Second
	neighbourLate  = 2 * lease
)

// neighbours writes the campaigns of these pushes, each with several stored deliveries.
func (d *database) neighbours(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := d.pool.Exec(ctx, `
		WITH c AS (
			INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request, time_zone)
			SELECT $1, 'w1', '', 'webhook', 1, jsonb_build_object('fixedTime', (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $3), '{"text": "hello"}', 'UTC'
			  FROM generate_series(1, $2) RETURNING id
		)
		INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT c.id, 'u' || i FROM c, generate_series(1, 350) i`,
		neighbour, neighbourCount, neighbourLead.Milliseconds())
	return err
}

func (w *workload) mpaas() content {
	switch w.rng.IntN(4) {
	case 0:
		return content{"mpaas.push_simple", `{"deliveryType": 3, "expiredSeconds": 600, "title": "T", "content": "C"}`, w.audience(1, 10, 35), ""}
	case 1:
		return content{"mpaas.push_broadcast", `{"deliveryType": 1, "expiredSeconds": 600, "templateName": "welcome", "bindPeriod": 1}`, 0, ""}
	case 2:
		return content{
			"mpaas.push_multiple",
			`{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome", "targetMsgs": ` + inlineBefore + `}`, 0, "",
		}
	default:
		return content{"mpaas.push_multiple", `{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome"}`, w.audience(3, 100, 250, 1200), ""}
	}
}

// The targets that a request names before and after it is changed. They have no
// target in common.
const (
	inlineBefore = `[{"target": "u1"}, {"target": "u2", "msgKey": "k2"}]`
	inlineAfter  = `[{"target": "v1"}, {"target": "v2", "msgKey": "k2"}]`
)

// audience draws a size; the last, the largest, seldom.
func (w *workload) audience(sizes ...int) int {
	if w.rng.IntN(12) == 0 {
		return sizes[len(sizes)-1]
	}
	return sizes[w.rng.IntN(len(sizes)-1)]
}

// strategyColumns are the columns that say when a campaign pushes.
type strategyColumns struct {
	kind    int
	content *string
	zone    string
	times   []string // nil: none

	calendar, policy string // empty: none
}

// strategy draws when to push: at once, at a fixed time within the horizon, or
// each day, week or month at a time of day that lies within it.
func (w *workload) strategy(now time.Time) strategyColumns {
	s := w.when(now)
	if s.kind != 0 && w.rng.IntN(3) == 0 {
		s.calendar, s.policy = pick(w.rng, calendars...), pick(w.rng, "", "skip", "next_open", "next_open", "previous_open")
	}
	return s
}

func (w *workload) when(now time.Time) strategyColumns {
	zone := pick(w.rng, zones...)
	ahead := time.Duration(w.rng.Int64N(int64(horizon)))
	if left := time.Until(w.until); left < horizon {
		ahead = time.Duration(w.rng.Int64N(int64(max(left, time.Second))))
	}
	due := now.Add(ahead)
	switch w.rng.IntN(10) {
	case 0, 1:
		return strategyColumns{kind: 0, zone: zone}
	case 2, 3, 4, 5:
		return strategyColumns{kind: 1, content: text(map[string]any{"fixedTime": due.UnixMilli()}), zone: zone}
	case 6, 7:
		loop := w.loop(now, due, zone)
		delete(loop, "time")
		return strategyColumns{kind: 2, content: text(loop), zone: zone, times: w.times(now, due, zone)}
	default:
		return strategyColumns{kind: 2, content: text(w.loop(now, due, zone)), zone: zone}
	}
}

// times draws several times of day: that of due, some before it, so that nothing
// is due later, and one half a day away.
func (w *workload) times(now, due time.Time, zone string) []string {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		panic(err) // the list above is ours
	}
	list := []string{due.In(loc).Format(time.TimeOnly), due.Add(12 * time.Hour).In(loc).Format(time.TimeOnly)}
	for range w.rng.IntN(4) {
		ahead := time.Duration(w.rng.Int64N(int64(max(due.Sub(now), time.Second))))
		list = append(list, now.Add(ahead).In(loc).Format(time.TimeOnly))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// loop writes a loop that has an occurrence at due.
func (w *workload) loop(now, due time.Time, zone string) map[string]any {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		panic(err) // the list above is ours
	}
	local := due.In(loc)
	c := map[string]any{
		"startTime": now.UnixMilli(), "endTime": due.Add(time.Duration(w.rng.IntN(3)) * 24 * time.Hour).UnixMilli(), "time": local.Format("15:04:05"),
	}
	switch w.rng.IntN(3) {
	case 0:
		c["circleType"] = 1
	case 1:
		c["circleType"], c["circleValue"] = 2, []int{(int(local.Weekday())+6)%7 + 1}
	default:
		c["circleType"], c["circleValue"] = 3, []int{local.Day()}
	}
	return c
}

// some returns a random campaign that was written; zero: none was written yet.
func (w *workload) some(rng *rand.Rand) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ids) == 0 {
		return 0
	}
	// Young campaigns are chosen more often, since their tasks are still to come.
	n := min(len(w.ids), 60)
	if rng.IntN(5) == 0 {
		n = len(w.ids)
	}
	return w.ids[len(w.ids)-1-rng.IntN(n)]
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func text(v any) *string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of numbers and texts
	}
	s := string(b)
	return &s
}
