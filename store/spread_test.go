package store_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

func TestBadSpreadsAreRefused(t *testing.T) {
	t.Parallel()
	db := surface(t)
	good := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, spread) VALUES ('good', 'hook', 'webhook', '30 minutes') RETURNING id`)
	for _, c := range []struct{ name, spread, window, message, detail, hint string }{
		{"zero", `0s`, `1 hour`, `spread: must be from 1 second to 24 hours`, `spread = 00:00:00`, `spread: write an interval such as '30 minutes', or NULL`},
		{"negative", `-1m`, `1 hour`, `spread: must be from 1 second to 24 hours`, `spread = -00:01:00`, `spread: write`},
		{"less than a second", `999ms`, `1 hour`, `spread: must be from 1 second to 24 hours`, `spread = 00:00:00.999`, `spread: write`},
		{"more than a day", `1 day 1 second`, `365 days`, `spread: must be from 1 second to 24 hours`, `spread = 1 day 00:00:01`, `spread: write`},
		{"a month less 29 days is a day", `1 month -29 days 1 second`, `365 days`, `spread: must be from 1 second to 24 hours`, ``, ``},
		{
			"longer than the window", `2 hours`, `1 hour`, `spread: must not be longer than catch_up_window`, `spread = 02:00:00, catch_up_window 01:00:00`,
			`spread: deliveries after the end of the window would be missed: make the spread shorter or catch_up_window longer`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			window, err := judge.Interval(c.window)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := judge.Interval(c.spread); err == nil { // the program reads fewer forms than SQL
				_, problems := judge.Spread(c.spread, window)
				if len(problems) != 1 || !strings.HasPrefix(problems[0].Field+": "+problems[0].Message, c.message+"; ") {
					t.Errorf("the program says %q, want %q", problems, c.message)
				}
			}
			for sql, args := range map[string][]any{
				`INSERT INTO scheduler.campaigns (name, app_id, channel, spread, catch_up_window) VALUES ('n', 'hook', 'webhook', $1::text::interval, $2::text::interval)`: {c.spread, c.window},
				`UPDATE scheduler.campaigns SET spread = $1::text::interval, catch_up_window = $2::text::interval WHERE id = $3`:                                           {c.spread, c.window, good},
			} {
				got := refused(t, db, sql, args...)
				if !strings.Contains(got.Message, c.message) || !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Hint, c.hint) {
					t.Errorf("got\n%s\n%s\n%s\nwant\n%s\n%s\n%s", got.Message, got.Detail, got.Hint, c.message, c.detail, c.hint)
				}
			}
		})
	}
	// The window that is shortened below a stored spread is refused as well, and all
	// problems are told at once.
	t.Run("window below the spread", func(t *testing.T) {
		t.Parallel()
		got := refused(t, db, `UPDATE scheduler.campaigns SET catch_up_window = '10 minutes', misfire_policy = 'never' WHERE id = $1`, good)
		for _, want := range []string{"spread: must not be longer than catch_up_window", "misfire_policy: must be latest, all or skip"} {
			if !strings.Contains(got.Message, want) {
				t.Errorf("%q lacks %q", got.Message, want)
			}
		}
	})
}

// The bounds themselves are good, a change of the spread is one of the content and
// not of the strategy, and NULL is none.
func TestSpreadIsContent(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, catch_up_window) VALUES ('n', 'hook', 'webhook', 2, $1, '1 day') RETURNING id`, loop(9))
	for _, step := range []struct{ set, want string }{
		{`spread = '1 second'`, "2 00:00:01 0"}, {`spread = '1 day'`, "3 1 day 0"}, {`spread = '24 hours'`, "3 24:00:00 0"}, {`spread = NULL`, "4 - 0"},
	} {
		run(t, db, `UPDATE scheduler.campaigns SET `+step.set+` WHERE id = $1`, id)
		got := one[string](t, db, `SELECT concat_ws(' ', revision, coalesce(spread::text, '-'), (SELECT count(*) FROM scheduler.campaign_history h WHERE h.campaign_id = c.id AND h.strategy_ended))
			FROM scheduler.campaigns c WHERE id = $1`, id)
		if got != step.want {
			t.Errorf("after SET %s: %s, want %s", step.set, got, step.want)
		}
	}
}

func TestTargetsPerSecondIsBounded(t *testing.T) {
	t.Parallel()
	db := surface(t)
	for _, bad := range []string{"0", "-1", "0.001", "'NaN'", "'infinity'"} {
		if got := refused(t, db, `UPDATE scheduler.apps SET targets_per_second = `+bad); got.ConstraintName != "apps_targets_per_second" {
			t.Errorf("%s is refused by %s: %s", bad, got.ConstraintName, got.Message)
		}
	}
	run(t, db, `UPDATE scheduler.apps SET targets_per_second = 0.5 WHERE app_id = 'hook'`)
	s := opened(t, db.URL)
	app := store.AppSpec{AppID: "hook", Provider: "webhook"}
	for _, c := range []struct{ configured, want float64 }{{0, 0.5}, {200, 200}, {0, 200}} {
		app.TargetsPerSecond = c.configured
		if err := s.Register(t.Context(), nil, []store.AppSpec{app}); err != nil {
			t.Fatal(err)
		}
		apps, err := s.Apps(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(apps, func(a store.App) bool { return a.AppID == "hook" })
		if got := apps[at].TargetsPerSecond; got != c.want {
			t.Errorf("configured %v: %v, want %v", c.configured, got, c.want)
		}
		hb, err := s.Renew(t.Context(), enlisted(t, s), time.Minute, 0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]store.Pace{{AppNo: apps[at].AppNo, TargetsPerSecond: c.want}}, hb.Paced); diff != "" {
			t.Errorf("a heartbeat is told (-want +got):\n%s", diff)
		}
	}
}

// A spreadTask is a task of a campaign with a spread, cut into deliveries of one
// target each, whose times are seconds since it was due.
type spreadTask struct {
	db       *pgtest.DB
	s        *store.Store
	daemon   int64
	campaign int64
	task     int64
	due      time.Time
}

// pendingSpread writes a campaign that is due now, and its pending task. spread is
// empty for none.
func pendingSpread(t testing.TB, db *pgtest.DB, s *store.Store, daemon int64, spread, window string) *spreadTask {
	t.Helper()
	due := time.Now().Add(time.Hour).Truncate(time.Second).UTC() // the tests tell the time
	p := &spreadTask{db: db, s: s, daemon: daemon, due: due}
	err := db.QueryRow(t.Context(), `
		INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, request, catch_up_window, spread)
		VALUES ('spread', 'life', 'alipay.single_send', 1, jsonb_build_object('fixedTime', scheduler.unix_ms($1)), '{}', $2::text::interval, nullif($3, '')::interval) RETURNING id`,
		due, window, spread).Scan(&p.campaign)
	if err != nil {
		t.Fatal(err)
	}
	err = db.QueryRow(t.Context(), `
		INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		SELECT app_no, (SELECT coalesce(max(slot), 0) + 1 FROM scheduler.pending_tasks), id, revision, 'scheduled', $2, $2 FROM scheduler.campaigns WHERE id = $1 RETURNING id`,
		p.campaign, due).Scan(&p.task)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *spreadTask) at(seconds float64) time.Time {
	return p.due.Add(time.Duration(math.Round(seconds*1e6)) * time.Microsecond)
}

// start cuts the task into n deliveries, late by so many seconds.
func (p *spreadTask) start(t testing.TB, n int, late float64) store.Started {
	t.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("u%05d", i)
	}
	started, err := p.s.StartTask(t.Context(), p.daemon, p.at(late), store.Start{TaskID: p.task, Revision: 1, Inline: names, PerCall: 1})
	if err != nil {
		t.Fatal(err)
	}
	if started.Slices != n {
		t.Fatalf("%d deliveries, want %d", started.Slices, n)
	}
	return started
}

// waits are the times at which the waiting deliveries may begin, in their order.
func (p *spreadTask) waits(t testing.TB) []float64 {
	t.Helper()
	var out []float64
	err := p.db.QueryRow(t.Context(), `SELECT coalesce(array_agg(extract(epoch FROM ready_at - $2)::float8 ORDER BY slice_no), '{}') FROM scheduler.slices
		WHERE task_id = $1 AND status = 'waiting'`, p.task, p.due).Scan(&out)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// running is a value of the running task.
func (p *spreadTask) running(t testing.TB, what string) string {
	t.Helper()
	var out string
	if err := p.db.QueryRow(t.Context(), `SELECT coalesce((`+what+`)::text, '') FROM scheduler.running_tasks WHERE id = $1`, p.task).Scan(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// begin begins whatever may begin at a moment, takes it for accepted, and returns how
// many that were.
func (p *spreadTask) begin(t testing.TB, at float64) int {
	t.Helper()
	var want []store.WaitingDelivery
	rows, err := p.db.Query(t.Context(), `SELECT s.id, s.attempts, c.revision FROM scheduler.slices s JOIN scheduler.campaigns c ON c.id = s.campaign_id WHERE s.task_id = $1 AND s.status = 'waiting'`, p.task)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var w store.WaitingDelivery
		if err := rows.Scan(&w.ID, &w.Attempts, &w.Revision); err != nil {
			t.Fatal(err)
		}
		want = append(want, w)
	}
	begun, err := p.s.ClaimDeliveries(t.Context(), p.daemon, p.at(at), want)
	if err != nil {
		t.Fatal(err)
	}
	var ends []store.DeliveryOutcome
	for _, d := range begun {
		ends = append(ends, store.DeliveryOutcome{Delivery: d, DaemonID: p.daemon, Status: "accepted", Sent: true})
	}
	if len(ends) > 0 {
		if _, err := p.s.RecordDeliveries(t.Context(), ends); err != nil {
			t.Fatal(err)
		}
	}
	return len(begun)
}

func (p *spreadTask) respread(t testing.TB, at float64) store.Spread {
	t.Helper()
	out, err := p.s.Respread(t.Context(), p.daemon, p.at(at), p.task)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// evenly are n times from first on, that far apart.
func evenly(n int, first, apart float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = first + apart*float64(i)
	}
	return out
}

func near(t testing.TB, what string, want, got []float64) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("%s: %d times, want %d", what, len(got), len(want))
	}
	for i := range want {
		if math.Abs(want[i]-got[i]) > 5e-6 {
			t.Fatalf("%s: time %d is %v, want %v\n%v\n%v", what, i, got[i], want[i], want, got)
		}
	}
}

// How a task's deliveries are laid out when it is cut.
func TestSpreadOfATask(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	daemon := enlisted(t, s)
	for _, c := range []struct {
		name, spread, window string
		deliveries           int
		late                 float64
		want                 []float64
		note                 string
	}{
		{"none", "", "1 hour", 3, 0, evenly(3, 0, 0), ""},
		{"on time", "10 minutes", "1 hour", 6, 0.2, evenly(6, 0, 100), ""},
		{"one delivery", "10 minutes", "1 hour", 1, 0.2, evenly(1, 0, 0), ""},
		{"a little late", "10 minutes", "1 hour", 6, 4.9, evenly(6, 0, 100), ""},
		{"late", "10 minutes", "1 hour", 6, 600, evenly(6, 600, 100), ""},
		{"a day", "1 day", "2 days", 96, 0, evenly(96, 0, 900), ""},
		{"late, and no window for it", "50 minutes", "1 hour", 10, 1200, evenly(10, 1200, 234), "spread shortened by the end of the catch-up window: 10 of 10 deliveries within 00:39:00 in place of 00:50:00"},
		{"as long as the window", "1 hour", "1 hour", 4, 0, evenly(4, 0, 885), "spread shortened by the end of the catch-up window: 4 of 4 deliveries within 00:59:00 in place of 01:00:00"},
		{"just before its end", "10 seconds", "10 seconds", 9, 9, evenly(9, 9, 0.1), "spread shortened by the end of the catch-up window: 9 of 9 deliveries within 00:00:00 in place of 00:00:10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pendingSpread(t, db, s, daemon, c.spread, c.window)
			started := p.start(t, c.deliveries, c.late)
			near(t, "deliveries", c.want, p.waits(t))
			if started.Note != c.note {
				t.Errorf("told %q, want %q", started.Note, c.note)
			}
			if got := one[string](t, db, `SELECT coalesce(reason, '') FROM scheduler.tasks WHERE id = $1`, p.task); got != c.note {
				t.Errorf("the running task says %q", got)
			}
			if moved := p.respread(t, c.late); moved.Waiting != 0 {
				t.Errorf("%d deliveries got another time", moved.Waiting)
			}
			if n := p.begin(t, c.want[len(c.want)-1]+0.001); n != c.deliveries {
				t.Fatalf("%d begin when the last is due", n)
			}
			decided, err := s.Settle(t.Context(), daemon, []int64{p.task}, 10)
			if err != nil {
				t.Fatal(err)
			}
			if len(decided) != 1 || decided[0].Status != "succeeded" || decided[0].Reason != c.note {
				t.Errorf("decided %+v, want succeeded with %q", decided, c.note)
			}
		})
	}
}

// What is done to a running task, and when its deliveries begin then.
func TestSpreadAnew(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	daemon := enlisted(t, s)
	const note = "spread shortened by the end of the catch-up window: "
	for _, c := range []struct {
		name  string
		set   string  // of the campaign
		begun int     // of ten deliveries, a minute apart
		at    float64 // when it is looked at
		want  []float64
		note  string
	}{
		{"on time", "", 4, 239, evenly(6, 240, 60), ""},
		{"a little late", "", 4, 244.9, evenly(6, 240, 60), ""},
		{"late", "", 4, 250, evenly(6, 250, 60), ""},
		{"very late", "", 4, 3000, evenly(6, 3000, 60), ""},
		{"too late for the window", "", 4, 3300, evenly(6, 3300, 45), note + "6 of 10 deliveries within 00:04:30 in place of 00:06:00"},
		{"out of the window", "", 4, 3601, evenly(6, 3601, 0), note + "6 of 10 deliveries within 00:00:00 in place of 00:06:00"},
		{"faster", `spread = '100 seconds'`, 4, 200, evenly(6, 210, 10), ""},
		{"faster, the next one is soon", `spread = '100 seconds'`, 4, 239, evenly(6, 240, 10), ""},
		{"slower", `spread = '1000 seconds'`, 4, 200, evenly(6, 240, 100), ""},
		{"slower, and late", `spread = '1000 seconds'`, 4, 300, evenly(6, 300, 100), ""},
		{"none any more", `spread = NULL`, 4, 200, evenly(6, 200, 0), ""},
		{"a shorter window that holds it", `catch_up_window = '12 minutes'`, 4, 200, evenly(6, 240, 60), ""},
		{"a window as long as the spread", `catch_up_window = '10 minutes'`, 4, 200, evenly(6, 240, 60), ""},
		{"another name", `name = 'other'`, 4, 200, evenly(6, 240, 60), ""},
		{"nothing has begun", `spread = '100 seconds'`, 0, 0, evenly(10, 0, 10), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pendingSpread(t, db, s, daemon, "10 minutes", "1 hour")
			p.start(t, 10, 0)
			if c.begun > 0 {
				if n := p.begin(t, float64(c.begun-1)*60); n != c.begun {
					t.Fatalf("%d have begun", n)
				}
			}
			if c.set != "" {
				run(t, db, `UPDATE scheduler.campaigns SET `+c.set+` WHERE id = $1`, p.campaign)
			}
			moved := p.respread(t, c.at)
			near(t, "deliveries", c.want, p.waits(t))
			if got := p.running(t, "spread_note"); got != c.note || moved.Waiting > 0 && moved.Note != c.note {
				t.Errorf("note %q, told %q, want %q", got, moved.Note, c.note)
			}
			if again := p.respread(t, c.at); again.Waiting != 0 && c.at < 3600 {
				t.Errorf("%d deliveries got another time at once again", again.Waiting)
			}
			tasks, err := s.SpreadMoved(t.Context(), 100)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(tasks, p.task) && c.at < 3600 {
				t.Error("it is listed as to be spread anew still")
			}
		})
	}
}

// A window that was shortened and is widened again gives back what it took; a further
// try, a call under way and what a daemon does not hold stay as they are.
func TestSpreadAnewLeavesTheRest(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	daemon := enlisted(t, s)
	p := pendingSpread(t, db, s, daemon, "20 minutes", "1 hour")
	p.start(t, 10, 0)
	moved := func() bool {
		t.Helper()
		tasks, err := s.SpreadMoved(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(tasks, p.task)
	}
	if moved() {
		t.Error("it is to be spread anew as it was cut")
	}
	run(t, db, `UPDATE scheduler.slices SET attempts = 1 WHERE task_id = $1 AND slice_no = 1`, p.task)
	run(t, db, `UPDATE scheduler.slices SET status = 'running', daemon_id = $2, attempts = 1 WHERE task_id = $1 AND slice_no = 2`, p.task, daemon)
	run(t, db, `UPDATE scheduler.running_tasks SET window_from = due_at - interval '30 minutes' WHERE id = $1`, p.task)
	if p.respread(t, 200).Waiting != 0 {
		t.Error("there is room for it still") // until 30 minutes
	}
	run(t, db, `UPDATE scheduler.campaigns SET catch_up_window = '45 minutes' WHERE id = $1`, p.campaign)
	if !moved() {
		t.Error("its window ends at 15 minutes, and it is not to be spread anew")
	}
	p.respread(t, 240)
	near(t, "shortened", append([]float64{0}, evenly(8, 240, 75)...), p.waits(t)) // 660 s left, 60 of them stay free
	if got, want := p.running(t, "spread_note"), "spread shortened by the end of the catch-up window: 8 of 10 deliveries within 00:10:00 in place of 00:16:00"; got != want {
		t.Errorf("note %q, want %q", got, want)
	}
	run(t, db, `UPDATE scheduler.campaigns SET catch_up_window = '2 hours' WHERE id = $1`, p.campaign)
	if !moved() {
		t.Error("its window is wider again, and it is not to be spread anew")
	}
	p.respread(t, 240)
	near(t, "given back", append([]float64{0}, evenly(8, 240, 120)...), p.waits(t))
	if got := p.running(t, "spread_note"); got != "" || moved() {
		t.Errorf("note %q, to be spread anew: %v", got, moved())
	}
	for name, sql := range map[string]string{
		"held":     `UPDATE scheduler.hold SET held_since = now(), reason = 'x'`,
		"no lease": `UPDATE scheduler.daemons SET leased_until = now()`,
	} {
		tx := author(t, db, sql)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p.respread(t, 900).Waiting != 0 {
			t.Errorf("%s: it was spread anew", name)
		}
		run(t, db, `UPDATE scheduler.hold SET held_since = NULL`)
	}
}

// Nobody waits for a daemon that spreads a task anew, nor it for another, and the
// deliveries of one without a spread are written by none of it.
func TestSpreadAnewIsOneDaemons(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	daemon := enlisted(t, s)
	p := pendingSpread(t, db, s, daemon, "10 minutes", "1 hour")
	p.start(t, 10, 0)
	other := author(t, db, `SELECT FROM scheduler.running_tasks WHERE id = $1 FOR UPDATE`, p.task)
	if n := p.respread(t, 100).Waiting; n != 0 {
		t.Errorf("%d deliveries moved under another's lock", n)
	}
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := p.respread(t, 100).Waiting; n != 10 {
		t.Errorf("%d deliveries moved, want 10", n)
	}
	plain := pendingSpread(t, db, s, daemon, "", "1 hour")
	plain.start(t, 10, 0)
	if n := plain.respread(t, 1000).Waiting; n != 0 {
		t.Errorf("%d deliveries of a task without a spread moved", n)
	}
	if got := plain.running(t, "concat(spread, spread_until, spread_note, spread_moves)"); got != "0" {
		t.Errorf("a task without a spread has %q", got)
	}
}

// What the reader is told of deliveries that are too late, and of how many targets a
// call has.
func TestReadingOfSpreadDeliveries(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	daemon := enlisted(t, s)
	late := func(spread string, back time.Duration) int {
		p := pendingSpread(t, db, s, daemon, spread, "1 hour")
		p.start(t, 4, 0)
		run(t, db, `UPDATE scheduler.slices SET ready_at = clock_timestamp() - $2 * interval '1 microsecond' WHERE task_id = $1`, p.task, back.Microseconds())
		run(t, db, `UPDATE scheduler.slices SET attempts = 1 WHERE task_id = $1 AND slice_no = 4`, p.task)
		n := 0
		for _, w := range readyNow(t, s) {
			if w.Late && w.TaskID == p.task {
				n++
			}
		}
		run(t, db, `DELETE FROM scheduler.slices WHERE task_id = $1`, p.task)
		return n
	}
	if a, b, c := late("10 minutes", 4*time.Second), late("10 minutes", 6*time.Second), late("", 6*time.Second); a != 0 || b != 3 || c != 0 {
		t.Errorf("late are %d of those that are 4 seconds late, %d of 6 seconds, %d without a spread; want 0, 3 and 0", a, b, c)
	}

	id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, request) VALUES ('n', 'shop', 'test', 'mpaas.push_multiple', '{}') RETURNING id`)
	task := audience(t, db, id, time.Now().Add(-time.Second), 3)
	run(t, db, `UPDATE scheduler.running_tasks SET targets = 215 WHERE id = $1`, task)
	var got []int
	for _, w := range readyNow(t, s) {
		got = append(got, w.Targets)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]int{15, 100, 100}, got); diff != "" {
		t.Errorf("targets of the calls (-want +got):\n%s", diff)
	}
}

// A delivery that is sliced anew, since nobody knows any more to whom it goes, becomes
// several that are spread.
func TestSlicedAnewIsSpread(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, request, spread) VALUES ('n', 'shop', 'test', 'mpaas.push_multiple', '{}', '30 minutes') RETURNING id`)
	run(t, db, `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, 'u' || g FROM generate_series(1, 250) g`, id)
	task := audience(t, db, id, time.Now().Add(-time.Second), 1)
	run(t, db, `DELETE FROM scheduler.slice_targets`)
	w := readyNow(t, s)
	if len(w) != 1 || w[0].Named {
		t.Fatalf("read %+v", w)
	}
	if done, err := s.Recut(t.Context(), w[0], store.Start{TaskID: task, Revision: 1, PerCall: 100}); err != nil || !done {
		t.Fatal(done, err)
	}
	got := one[[]float64](t, db, `SELECT array_agg(round(extract(epoch FROM s.ready_at - r.due_at))::float8 ORDER BY s.slice_no) FROM scheduler.slices s JOIN scheduler.running_tasks r ON r.id = s.task_id`)
	if diff := cmp.Diff([]float64{0, 600, 1200}, got); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
	if got := one[string](t, db, `SELECT spread::text FROM scheduler.running_tasks`); got != "00:30:00" {
		t.Errorf("the task keeps the spread %s", got)
	}
}

// A spreadModel says by itself when the deliveries of a task begin. Times are seconds
// since it was due.
type spreadModel struct {
	deliveries     int
	spread, window float64 // spread 0: none
	laid           float64 // the spread by which times were worked out
	until          float64
	short          bool
	moves          int
	waits          []float64
}

// lay works out the times of what waits, from begins on.
func (m *spreadModel) lay(begins float64) {
	k := len(m.waits)
	share := m.spread * float64(k) / float64(m.deliveries)
	left := m.window - begins
	over := max(0, min(share, left-min(60, left/10)))
	for i := range m.waits {
		m.waits[i] = begins + over*float64(i)/float64(k)
	}
	m.laid, m.until, m.short = m.spread, begins+over, m.spread > 0 && over < share-0.001
}

// look is what a daemon does that looks at a moment.
func (m *spreadModel) look(at float64) {
	if len(m.waits) == 0 {
		return
	}
	next := slices.Min(m.waits)
	moved := m.laid != m.spread || m.laid > 0 && m.until > m.window || m.short && m.until < m.window-62
	late := m.spread > 0 && next < at-5*math.Pow(2, float64(m.moves))
	begins := at
	if m.spread > 0 {
		begins = max(at, min(next, at+m.spread/float64(m.deliveries)))
	}
	switch {
	case moved:
		m.lay(begins)
	case late:
		m.moves++
		m.lay(begins)
	}
}

// take removes what may begin at a moment.
func (m *spreadModel) take(at float64) int {
	if at >= m.window {
		return 0
	}
	before := len(m.waits)
	m.waits = slices.DeleteFunc(m.waits, func(w float64) bool { return w <= at })
	return before - len(m.waits)
}

// A task that is spread, in a simulated time with outages and changes: its deliveries
// begin when an oracle says, never early, evenly, and all before the window ends.
func TestSpreadAgainstAnOracle(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	daemon := enlisted(t, s)
	rapid.Check(t, func(rt *rapid.T) {
		spread := rapid.SampledFrom([]float64{1, 7, 60, 600, 3600, 86400}).Draw(rt, "spread")
		m := &spreadModel{
			deliveries: rapid.IntRange(2, 9).Draw(rt, "deliveries"), spread: spread,
			window: math.Ceil(spread * rapid.SampledFrom([]float64{1, 1.05, 1.5, 3, 10}).Draw(rt, "window")),
		}
		p := pendingSpread(t, db, s, daemon, fmt.Sprintf("%v seconds", m.spread), fmt.Sprintf("%v seconds", m.window))
		at := rapid.SampledFrom([]float64{0, 0.1, 4.9, 5.1, 30, 600}).Draw(rt, "late")
		at = min(at, m.window*0.8)
		m.waits = make([]float64, m.deliveries)
		begins := 0.0
		if at > 5 {
			begins = at
		}
		m.lay(begins)
		step := m.waits[1] - m.waits[0]
		p.start(t, m.deliveries, at)
		near(t, "as it is cut", m.waits, p.waits(t))
		edited, outages := false, at-begins
		edit := func(sql string, args ...any) {
			edited = true
			run(t, db, sql, append([]any{p.campaign}, args...)...)
		}
		var begun []float64
		for len(m.waits) > 0 && at < m.window {
			switch rapid.IntRange(0, 9).Draw(rt, "event") {
			case 0, 1: // nobody runs for a while
				down := rapid.Float64Range(0.1, 0.5).Draw(rt, "down") * m.spread
				at, outages = at+down, outages+down
			case 2:
				m.spread = rapid.SampledFrom([]float64{0, 1, 60, 1000}).Draw(rt, "another spread")
				m.window = max(m.window, m.spread)
				edit(`UPDATE scheduler.campaigns SET spread = nullif($2, 0) * interval '1 second', catch_up_window = $3 * interval '1 second' WHERE id = $1`, m.spread, m.window)
			case 3:
				m.window = math.Ceil(max(m.spread, 1, m.window*rapid.SampledFrom([]float64{0.5, 2}).Draw(rt, "another window")))
				edit(`UPDATE scheduler.campaigns SET catch_up_window = $2 * interval '1 second' WHERE id = $1`, m.window)
			default: // on to the next one, or a moment beyond
				at = max(at, slices.Min(m.waits)+rapid.SampledFrom([]float64{0, 0.001, 0.05}).Draw(rt, "beyond"))
			}
			at = math.Round(at*1e6) / 1e6
			m.look(at)
			p.respread(t, at)
			near(t, "after a look", m.waits, p.waits(t))
			at += 2e-6 // what the database rounds is ready
			n := m.take(at)
			if got := p.begin(t, at); got != n {
				rt.Fatalf("%d begin at %v, the oracle says %d", got, at, n)
			}
			for range n {
				begun = append(begun, at)
			}
		}
		if edited {
			return
		}
		for i, b := range begun {
			if b < begins+step*float64(i)-1e-5 {
				rt.Fatalf("delivery %d of %d began at %v, early: %v apart since %v", i+1, m.deliveries, b, step, begins)
			}
		}
		if len(begun) == m.deliveries {
			if last := begun[len(begun)-1]; last > begins+step*float64(m.deliveries-1)+outages+0.1*float64(m.deliveries) {
				rt.Fatalf("the last began at %v, %v apart since %v, with outages of %v", last, step, begins, outages)
			}
		} else if at < m.window {
			rt.Fatalf("%d of %d began within the window", len(begun), m.deliveries)
		}
	})
}
