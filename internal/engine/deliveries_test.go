package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// audience inserts an immediate campaign with n targets, and lets it begin.
func (r *rig) audience(t testing.TB, app, channel string, n int) int64 {
	t.Helper()
	id := r.insert(t, app, channel, 0, nil, "status", "paused")
	r.targets(t, id, n)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
	return id
}

// writes is how many rows were changed or removed in the tables of deliveries,
// once at least so many were.
func (r *rig) writes(t testing.TB, least int) (n int) {
	t.Helper()
	until(t, "the statistics", func() bool {
		n = get[int](t, r, `SELECT coalesce(sum(n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables
			WHERE schemaname = 'scheduler' AND relname IN ('slices', 'slice_targets', 'running_tasks', 'quota_uses', 'claims')`)
		return n >= least
	})
	return n
}

// A gauge counts calls under way and those of each second.
type gauge struct {
	now, most atomic.Int64
}

func (g *gauge) call(ctx context.Context, d time.Duration) {
	if n := g.now.Add(1); n > g.most.Load() {
		g.most.Store(n)
	}
	defer g.now.Add(-1)
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Fault 2: whatever bound a delivery meets, it is written when it begins and when
// it ends; and no bound is overstepped.
func TestFault2DeliveriesAndBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		app        *engine.App
		deliveries int
		throttled  int // the call that is answered with 429
	}{
		{name: "none", app: &engine.App{}, deliveries: 600},
		{name: "20 a second", app: &engine.App{CallsPerSecond: 20}, deliveries: 60},
		{name: "200 a second", app: &engine.App{CallsPerSecond: 200}, deliveries: 400},
		{name: "4 in flight", app: &engine.App{MaxInFlight: 4}, deliveries: 200},
		{name: "one 429", app: &engine.App{}, deliveries: 600, throttled: 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "alipay", c.app)
			var g gauge
			var calls atomic.Int64
			r.pusher.answers(func(ctx context.Context, _ call) dispatch.Outcome {
				if calls.Add(1) == int64(c.throttled) {
					return throttled(0)
				}
				g.call(ctx, 5*time.Millisecond)
				return accepted
			})
			start(t, r.config(t))
			id := r.audience(t, "app", "alipay.single_send", c.deliveries)
			if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			least := 2 * c.deliveries
			if n := r.writes(t, least); n > 4*c.deliveries {
				t.Errorf("%d rows written for %d deliveries", n, c.deliveries)
			}
			if most := g.most.Load(); c.app.MaxInFlight > 0 && most > int64(c.app.MaxInFlight) {
				t.Errorf("%d calls in flight", most)
			}
			if rate := c.app.CallsPerSecond; rate > 0 {
				seen := r.pusher.seen()
				burst := int(rate / 10)
				for i := burst + int(rate); i < len(seen); i++ { // more calls than a second's may have taken less than a second
					if d := seen[i].at.Sub(seen[i-burst-int(rate)].at); d < 900*time.Millisecond {
						t.Errorf("%d calls in %v", burst+int(rate), d)
						break
					}
				}
			}
		})
	}
}

// Fault 1: the closed window of one app's large audience, or its cancel, stops no
// other app's deliveries, and its task is decided.
func TestFault1ClosedWindowStopsNobody(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{
		"closed":            `UPDATE scheduler.campaigns SET catch_up_window = '1 second' WHERE id = $1`,
		"paused and closed": `UPDATE scheduler.campaigns SET catch_up_window = '1 second', status = 'paused' WHERE id = $1`,
		"cancelled":         `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "large", "alipay", &engine.App{CallsPerSecond: 0.001})
			r.app(t, "other", "mpaas", nil)
			start(t, r.config(t))
			large := r.audience(t, "large", "alipay.single_send", 12_000)
			until(t, "the large one to wait", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.slices`) == 12_000 })
			r.run(t, end, large)
			other := r.audience(t, "other", "mpaas.push_multiple", 300)
			if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, other, 1)); diff != "" {
				t.Errorf("the other app's (-want +got):\n%s", diff)
			}
			if got := r.decided(t, large, 1)[0]; strings.HasPrefix(got, "succeeded") {
				t.Errorf("the large one's decision: %s", got)
			}
		})
	}
}

// Fault 21: what a kill can leave unknown is what was under way, bounded by the
// calls in flight; what waits for its app waits in the database.
func TestFault21KilledAtABound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		app  *engine.App
		wait time.Duration // of a call
		most int           // deliveries running at any moment
	}{
		{"4 in flight", &engine.App{MaxInFlight: 4}, time.Hour, 4},
		{"20 a second", &engine.App{CallsPerSecond: 20}, 0, 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "alipay", c.app)
			cfg, p := r.daemon(t)
			var calls atomic.Int64
			enough := make(chan struct{})
			p.answers(func(ctx context.Context, _ call) dispatch.Outcome {
				if calls.Add(1) == 4 {
					close(enough)
				}
				if c.wait > 0 {
					<-ctx.Done()
					return unknown
				}
				return accepted
			})
			dying := engine.New(cfg)
			dying.Start()
			r.audience(t, "app", "alipay.single_send", 3000)
			<-enough
			for range 50 {
				if n := get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE status = 'running'`); n > c.most {
					t.Fatalf("%d deliveries are running", n)
				}
			}
			dying.Abandon()
			r.run(t, `UPDATE scheduler.campaigns SET status = 'cancelled'`)
			cfg, _ = r.daemon(t)
			start(t, cfg)
			until(t, "the task to be decided", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`) == 1 })
			if n := get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE status = 'unknown'`); n > c.most {
				t.Errorf("%d deliveries are unknown, at most %d were under way", n, c.most)
			}
			if n := get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE status = 'cancelled'`); n < 2900 {
				t.Errorf("only %d deliveries were still waiting", n)
			}
		})
	}
}

// Fault 3: names that the message does not know are a failure of the delivery,
// never an acceptance; those of them that it knows are pushed to.
func TestFault3AudienceChanged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, request string
		want          string
	}{
		{"others", `{"targets": ["x", "y"]}`, "failed: invalid: audience changed: none of its targets is in the campaign any more"},
		{"some", `{"targets": ["t0000001", "y"]}`, "succeeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "mpaas", nil)
			r.run(t, `UPDATE scheduler.hold SET held_since = now(), reason = 'x'`)
			due := time.Now().Truncate(time.Second)
			id := r.insert(t, "app", "mpaas.push_multiple", 1, fixed(due))
			r.targets(t, id, 3)
			r.run(t, `INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
				SELECT nextval('scheduler.task_ids'), app_no, id, 1, 'scheduled', $1, now(), 1, 3 FROM scheduler.campaigns`, due)
			r.run(t, `WITH d AS (INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at)
					SELECT id, 1, app_no, campaign_id, now() FROM scheduler.running_tasks RETURNING id)
				INSERT INTO scheduler.slice_targets (slice_id, targets) SELECT id, '{t0000001,t0000002,t0000003}' FROM d`)
			r.run(t, `UPDATE scheduler.campaigns SET request = $1::jsonb`, c.request)
			start(t, r.config(t))
			r.run(t, `UPDATE scheduler.hold SET held_since = NULL`)
			if diff := cmp.Diff([]string{c.want}, r.decided(t, id, 1)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Fault 8: what is sent again of which nobody kept to whom it goes reaches all who
// stand then, in as many calls as they need, and the record says how many.
func TestFault8SentAgainToAll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	due := time.Now().Truncate(time.Second)
	id := r.insert(t, "app", "mpaas.push_multiple", 1, fixed(due))
	r.targets(t, id, 150)
	r.run(t, `INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
		SELECT nextval('scheduler.task_ids'), app_no, id, 1, 'scheduled', $1, now(), 1, 0 FROM scheduler.campaigns`, due)
	r.run(t, `INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at) SELECT id, 1, app_no, campaign_id, now() FROM scheduler.running_tasks`)
	start(t, r.config(t))
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(r.pusher.reached()); n != 150 {
		t.Errorf("%d targets were reached", n)
	}
	if n := get[int](t, r, `SELECT targets FROM scheduler.tasks`); n != 150 {
		t.Errorf("the record says %d targets", n)
	}
}

// Fault 10: bookings in the window are the calls that were made, or may have been.
func TestFault10BookingsAreCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	apps := []string{"a", "b", "c", "d"} // a throttled app rests for a second
	for _, id := range apps {
		r.app(t, id, "alipay", nil)
	}
	r.run(t, `INSERT INTO scheduler.app_quotas SELECT app_no, 'alipay.label_send', 1000 FROM scheduler.apps`)
	var made atomic.Int64
	r.pusher.answers(func(context.Context, call) dispatch.Outcome {
		o := []dispatch.Outcome{accepted, notSent, permanent, unknown, throttled(time.Millisecond)}[rand.IntN(5)]
		if o.Class != dispatch.NotSent {
			made.Add(1)
		}
		return o
	})
	start(t, r.config(t))
	const n = 12
	for i := range n {
		r.insert(t, apps[i%len(apps)], "alipay.label_send", 0, nil, "resend_unknown", i/len(apps)%2 == 0)
	}
	r.insert(t, apps[0], "alipay.label_send", 0, nil, "status", "paused")
	until(t, "all to be decided", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`) == n })
	if booked := get[int64](t, r, `SELECT count(*) FROM scheduler.quota_uses`); booked != made.Load() {
		t.Errorf("%d bookings, %d calls that were or may have been made", booked, made.Load())
	}
	if found := r.verify(t); len(found) > 0 {
		t.Errorf("verify: %q", found)
	}
}

// Fault 10: a request that its author broke while its delivery waited makes no
// call and books none.
func TestFault10BrokenRequestBooksNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "alipay", nil)
	r.pusher.answers(func(context.Context, call) dispatch.Outcome { return notSent })
	cfg := r.config(t)
	cfg.Retry = engine.RetryPolicy{Initial: 200 * time.Millisecond, Max: 300 * time.Millisecond}
	start(t, cfg)
	id := r.insert(t, "app", "alipay.label_send", 0, nil)
	until(t, "the first attempt to be recorded", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE status = 'waiting' AND attempts = 1`) == 1
	})
	r.run(t, `UPDATE scheduler.campaigns SET request = '{"bad": "broken"}' WHERE id = $1`, id)
	if got := r.decided(t, id, 1); !strings.Contains(got[0], "broken") {
		t.Errorf("decision %q", got)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.quota_uses`); n != 0 {
		t.Errorf("%d bookings for no call", n)
	}
}

// Fault 11: an app without credentials here costs nothing, and is left to the
// daemon that has them.
func TestFault11WithoutCredentials(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "alipay", nil)
	with, p := r.daemon(t)
	without, _ := r.daemon(t)
	without.App = func(int32) *engine.App { return nil }
	start(t, without)
	first := engine.New(with)
	first.Start()
	id := r.audience(t, "app", "alipay.single_send", 1000)
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := p.count(); n != 1000 {
		t.Errorf("%d calls by the daemon with credentials", n)
	}
	if n := r.writes(t, 2000); n > 2100 {
		t.Errorf("%d rows written for 1,000 deliveries", n)
	}
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// An author who holds a campaign open, whose large audience is first in its app's
// line, holds up none of the app's other campaigns.
func TestHeldAudienceHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "alipay", &engine.App{CallsPerSecond: 100})
	start(t, r.config(t))
	large := r.audience(t, "app", "alipay.single_send", 2000)
	until(t, "the large one to begin", func() bool { return r.pusher.count() > 0 })
	tx, err := r.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `UPDATE scheduler.campaigns SET name = 'held' WHERE id = $1`, large); err != nil {
		t.Fatal(err)
	}
	other := r.audience(t, "app", "alipay.single_send", 20)
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, other, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, large); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.decided(t, large, 1)
}

// A single call of an app whose large audience waits for its rate has its turn.
func TestAudienceLeavesSingleCallsTheirTurn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", &engine.App{CallsPerSecond: 10})
	start(t, r.config(t))
	large := r.audience(t, "app", "mpaas.push_multiple", 20_000)
	until(t, "the audience to be under way", func() bool { return r.pusher.count() > 3 })
	single := r.insert(t, "app", "mpaas.push_broadcast", 0, nil)
	r.decided(t, single, 1)
	at := slices.IndexFunc(r.pusher.seen(), func(c call) bool { return c.campaign == single })
	if at < 0 || at > 60 {
		t.Errorf("the single call was the %dth", at)
	}
	r.run(t, fmt.Sprintf(`UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = %d`, large))
	r.decided(t, large, 1)
}

func throttled(hint time.Duration) dispatch.Outcome {
	return dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled, RetryAfter: hint}
}
