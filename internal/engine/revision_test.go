package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// What begins and what is missed is decided on the campaign as it stands.

// readEarly starts a daemon that has read the campaign long before it is due, and
// returns once it has.
func readEarly(t *testing.T, r *rig, columns ...any) (campaign int64) {
	t.Helper()
	cfg := r.config(t)
	cfg.Horizon = 30 * time.Second
	var compiled atomic.Int64
	cfg.Compile = func(c *store.Campaign) (*dispatch.Message, []dispatch.Problem) {
		defer compiled.Add(1)
		return r.compile(c)
	}
	startReady(t, cfg)
	campaign = r.insert(t, "app", "webhook", 1, fixed(time.Now().Add(3*time.Second)), columns...)
	until(t, "the planner and the dispatcher to have read it", func() bool { return compiled.Load() >= 2 })
	return campaign
}

// An audience that is changed in the last moment is the one that is pushed to,
// by whatever way it was read before and is read now (fault 3).
func TestAudienceChangedBeforeTheBeginIsPushedTo(t *testing.T) {
	t.Parallel()
	many := make([]string, 150)
	for i := range many {
		many[i] = fmt.Sprintf("m%03d", i)
	}
	inline := func(names ...string) string { return `{"targets": ["` + strings.Join(names, `", "`) + `"]}` }
	for name, c := range map[string]struct {
		before []any
		change string
		want   []string
	}{
		"view to view":       {[]any{"audience_view", "old"}, `SET audience_view = 'new'`, []string{"new"}},
		"view to request":    {[]any{"audience_view", "old"}, `SET audience_view = NULL, request = '` + inline("r") + `'`, []string{"r"}},
		"view to many":       {[]any{"audience_view", "old"}, `SET audience_view = NULL, request = '` + inline(many...) + `'`, many},
		"request to view":    {[]any{"request", inline("r")}, `SET audience_view = 'new', request = '{}'`, []string{"new"}},
		"request to request": {[]any{"request", inline("r")}, `SET request = '` + inline("s") + `'`, []string{"s"}},
		"many to request":    {[]any{"request", inline(many...)}, `SET request = '` + inline("s") + `'`, []string{"s"}},
		"request to targets": {[]any{"request", inline("r")}, `SET request = '{}'`, []string{"row"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "webhook", nil)
			r.run(t, `CREATE VIEW audience.old AS SELECT 'old' AS target, NULL::jsonb AS template_key_value, NULL::jsonb AS extended_params`)
			r.run(t, `CREATE VIEW audience.new AS SELECT 'new' AS target, NULL::jsonb AS template_key_value, NULL::jsonb AS extended_params`)
			id := readEarly(t, r, c.before...)
			r.run(t, `INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES ($1, 'row')`, id)
			r.run(t, `UPDATE scheduler.campaigns `+c.change)
			if got := r.decided(t, id, 1); got[0] != "succeeded" {
				t.Errorf("decided %v", got)
			}
			var reached []string
			for _, call := range r.pusher.seen() {
				reached = append(reached, call.targets...)
			}
			slices.Sort(reached)
			if diff := cmp.Diff(c.want, reached); diff != "" {
				t.Errorf("reached (-want +got):\n%s", diff)
			}
		})
	}
}

// A window and a misfire policy count as they stand when the task is begun or
// missed, not as they were when it was read (fault 4): the app is held back while
// they are changed.
func TestWindowAndPolicyCountAsTheyStand(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before []any
		change string
		want   string
	}{
		"widened":      {[]any{"catch_up_window", "1 second"}, `SET catch_up_window = '1 hour'`, "succeeded"},
		"narrowed":     {[]any{"catch_up_window", "1 hour"}, `SET catch_up_window = '1 second'`, "missed: older than the catch-up window of 1s"},
		"skip to all":  {[]any{"misfire_policy", "skip"}, `SET misfire_policy = 'all'`, "succeeded"},
		"all to skip":  {[]any{"misfire_policy", "all"}, `SET misfire_policy = 'skip'`, "missed: misfire policy skip"},
		"only renamed": {nil, `SET name = 'other'`, "succeeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			app := &engine.App{MaxInFlight: 1}
			r.app(t, "app", "webhook", app)
			release := make(chan struct{})
			var first atomic.Int64
			r.pusher.answers(func(ctx context.Context, c call) dispatch.Outcome {
				if c.campaign == first.Load() { // takes the app's only call until the change is made
					select {
					case <-release:
					case <-ctx.Done():
					}
				}
				return accepted
			})
			cfg := r.config(t)
			cfg.MisfireGrace = time.Second
			cfg.Horizon = 30 * time.Second
			var compiled atomic.Int64
			cfg.Compile = func(c *store.Campaign) (*dispatch.Message, []dispatch.Problem) {
				defer compiled.Add(1)
				return r.compile(c)
			}
			startReady(t, cfg)
			due := time.Now().Truncate(time.Second).Add(2 * time.Second)
			first.Store(r.insert(t, "app", "webhook", 1, fixed(due)))
			id := r.insert(t, "app", "webhook", 1, fixed(due.Add(time.Second)), c.before...)
			until(t, "both to be read", func() bool { return compiled.Load() >= 4 })
			until(t, "the first call", func() bool { return r.pusher.count() == 1 })
			r.run(t, `UPDATE scheduler.campaigns `+c.change+` WHERE id = $1`, id)
			until(t, "the second to be overdue", func() bool {
				return get[bool](t, r, `SELECT clock_timestamp() > $1::timestamptz + interval '3500 milliseconds'`, due)
			})
			close(release)
			if got := r.decided(t, id, 1); !strings.HasPrefix(got[0], c.want) {
				t.Errorf("decided %v, want %s", got, c.want)
			}
		})
	}
}

// What is changed so that it is missed is missed while it waits, and not only when
// its app may go on, which may be long after (fault 4).
func TestMissedWhileTheAppIsHeldBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before []any
		change string
		want   string
		others int // tasks of the app that wait behind it
	}{
		"narrowed":               {nil, `SET catch_up_window = '1 second'`, "missed: older than the catch-up window of 1s", 0},
		"narrowed, with others":  {nil, `SET catch_up_window = '1 second'`, "missed: older than the catch-up window of 1s", 3},
		"all to skip":            {[]any{"misfire_policy", "all"}, `SET misfire_policy = 'skip'`, "missed: misfire policy skip", 3},
		"changed and not missed": {nil, `SET catch_up_window = '1 hour', misfire_policy = 'all'`, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "webhook", &engine.App{MaxInFlight: 1})
			begun, release := block(r.pusher, accepted)
			cfg := r.config(t)
			cfg.MisfireGrace = time.Second
			due := time.Now().Truncate(time.Second).Add(2 * time.Second)
			first := r.insert(t, "app", "webhook", 1, fixed(due.Add(-time.Second)))
			id := r.insert(t, "app", "webhook", 1, fixed(due), c.before...)
			for range c.others {
				r.insert(t, "app", "webhook", 1, fixed(due.Add(time.Second)))
			}
			start(t, cfg)
			until(t, "the first call", func() bool { return begun.Load() == 1 })
			until(t, "the second to be overdue", func() bool {
				return get[bool](t, r, `SELECT clock_timestamp() > $1::timestamptz + interval '1500 milliseconds'`, due)
			})
			r.run(t, `UPDATE scheduler.campaigns `+c.change+` WHERE id = $1`, id)
			if c.want != "" {
				if got := r.decided(t, id, 1); !strings.HasPrefix(got[0], c.want) {
					t.Errorf("decided %v, want %s", got, c.want)
				}
				if n := get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`); n != 1 {
					t.Errorf("%d tasks are decided while the app is held back, want 1", n)
				}
			}
			release()
			r.decided(t, first, 1)
			if got := r.decided(t, id, 1); c.want == "" && got[0] != "succeeded" {
				t.Errorf("decided %v", got)
			}
		})
	}
}

// Refused calls of a whole second are stored together, though the database is two
// milliseconds away, and all end (fault 5).
func TestRefusedSecondFarFromTheDatabase(t *testing.T) {
	t.Parallel()
	const n = 6000
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	var refusing atomic.Bool
	refusing.Store(true)
	r.pusher.answers(func(context.Context, call) dispatch.Outcome {
		if refusing.Load() {
			return notSent
		}
		return accepted
	})
	proxy, url := newProxy(t, r.URL)
	proxy.Delay(time.Millisecond) // each way
	s, err := store.Open(t.Context(), store.Config{URL: url, MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	cfg := r.config(t)
	cfg.Store = s
	cfg.Retry = engine.RetryPolicy{Initial: 200 * time.Millisecond, Max: time.Second}
	r.run(t, `INSERT INTO scheduler.campaigns (name, app_id, channel) SELECT 'n', 'app', 'webhook' FROM generate_series(1, $1)`, n)
	start(t, cfg)
	// A thousand at a time, since the machine may be slow.
	for part := 1000; part <= n; part += 1000 {
		until(t, fmt.Sprint(part, " calls to have been refused"), func() bool { return r.pusher.count() >= part })
	}
	refusing.Store(false)
	for part := 1000; part <= n; part += 1000 {
		until(t, fmt.Sprint(part, " to succeed"), func() bool {
			return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'succeeded'`) >= part
		})
	}
}

// An adapter's panic says in the record that it was one, and nothing of its value
// or stack; the log has the stack once (fault 20).
func TestPanicOfAnAdapterStaysOutOfTheRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	log := &lines{}
	cfg := r.config(t)
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	cfg.Metrics = engine.NewMetrics(nil)
	r.pusher.answers(func(context.Context, call) dispatch.Outcome { panic("s3cret") })
	start(t, cfg)
	for range 2 {
		id := r.insert(t, "app", "webhook", 0, nil)
		want := []string{"unknown: bad answer: the adapter panicked, which is a fault of this program"}
		if diff := cmp.Diff(want, r.decided(t, id, 1)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if row := get[string](t, r, `SELECT string_agg(d::text, ' ') FROM scheduler.decided_tasks d`); strings.Contains(row, "s3cret") || strings.Contains(row, "goroutine") {
		t.Errorf("the record holds %s", row)
	}
	text := log.String()
	if n := strings.Count(text, `msg="a fault of this program"`); n != 1 || strings.Contains(text, "s3cret") {
		t.Errorf("told %d times:\n%s", n, text)
	}
	if diff := cmp.Diff(map[string]float64{"scheduler_faults_total call": 2}, figures(t, cfg.Metrics.Faults)); diff != "" {
		t.Errorf("panics counted (-want +got):\n%s", diff)
	}
}

// Whatever column is changed, at whatever moment before the begin: the push shows
// the new state, or its claim came first.
func TestAnyChangeIsSeenOrComesAfterTheClaim(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	for _, v := range []string{"old", "new"} {
		r.run(t, `CREATE VIEW audience.`+v+` AS SELECT '`+v+`' AS target, NULL::jsonb AS template_key_value, NULL::jsonb AS extended_params`)
	}
	const oldView, oldRequest = "audience_view", "request"
	// A change, what it is made to, and what shows it: whom the push reached, or
	// how the task ended.
	changes := []struct {
		before []any
		set    string
		shown  string
	}{
		{[]any{oldView, "old"}, `audience_view = 'new'`, "new"},
		{[]any{oldView, "old"}, `audience_view = NULL, request = '{"targets": ["new"]}'`, "new"},
		{[]any{oldRequest, `{"targets": ["old"]}`}, `request = '{"targets": ["new"]}'`, "new"},
		{[]any{oldRequest, `{"targets": ["old"]}`}, `request = '{}', audience_view = 'new'`, "new"},
		{[]any{oldView, "old"}, `status = 'cancelled'`, "cancelled"},
		{[]any{oldRequest, `{"targets": ["old"]}`}, `status = 'cancelled'`, "cancelled"},
	}
	start(t, r.config(t))
	due := time.Now().Truncate(time.Second).Add(4 * time.Second)
	type edit struct {
		id      int64
		change  int
		moment  time.Duration // after due
		changed time.Time     // when the change had been committed, by the database's clock
	}
	edits := make([]*edit, 60)
	for i := range edits {
		c := rand.N(len(changes))
		edits[i] = &edit{id: r.insert(t, "app", "mpaas.push_multiple", 1, fixed(due), changes[c].before...), change: c, moment: rand.N(1500*time.Millisecond) - 1400*time.Millisecond}
	}
	// What is cancelled before it is a task and before it is due ends without a decision.
	until(t, "the tasks", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.tasks`) == len(edits) })
	slices.SortFunc(edits, func(a, b *edit) int { return int(a.moment - b.moment) })
	for _, e := range edits {
		until(t, "the moment of the change", func() bool { return !time.Now().Before(due.Add(e.moment)) })
		r.run(t, `UPDATE scheduler.campaigns SET `+changes[e.change].set+` WHERE id = $1`, e.id)
		e.changed = get[time.Time](t, r, `SELECT clock_timestamp()`)
	}
	for _, e := range edits {
		status := r.decided(t, e.id, 1)[0]
		reached := status
		for _, call := range r.pusher.seen() {
			if call.campaign == e.id {
				reached = strings.Join(call.targets, " ")
			}
		}
		if strings.HasPrefix(reached, changes[e.change].shown) {
			continue
		}
		began := get[*time.Time](t, r, `SELECT started_at FROM scheduler.tasks WHERE campaign_id = $1`, e.id)
		// A change that found the task begun may see its deliveries fail, since their
		// names are not in the new audience. When a task began is the daemon's reading
		// of the database's clock, some milliseconds off on a busy machine.
		if began == nil || began.After(e.changed.Add(50*time.Millisecond)) {
			t.Errorf("SET %s %s from the due time shows %q (%s), but it began at %v, after the change at %v",
				changes[e.change].set, e.moment, reached, status, began, e.changed)
		}
	}
}
