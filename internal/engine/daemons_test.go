package engine_test

import (
	"context"
	"fmt"
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

// Several daemons on one database: shares, quotas, deaths and late outcomes.

// daemon is an engine's configuration with a push API of its own.
func (r *rig) daemon(t testing.TB) (engine.Config, *pusher) {
	t.Helper()
	p := &pusher{}
	cfg := r.config(t)
	cfg.App = func(no int32) *engine.App {
		a := r.lookup(no)
		if a == nil {
			return nil
		}
		return &engine.App{Pusher: p, MaxInFlight: a.MaxInFlight, CallsPerSecond: a.CallsPerSecond}
	}
	cfg.Lease = 2 * time.Second
	return cfg, p
}

// block makes calls wait until release is called; begun counts them.
func block(p *pusher, then dispatch.Outcome) (begun *atomic.Int64, release func()) {
	gate := make(chan struct{})
	begun = &atomic.Int64{}
	p.answers(func(ctx context.Context, _ call) dispatch.Outcome {
		begun.Add(1)
		select {
		case <-gate:
			return then
		case <-ctx.Done():
			return dispatch.Outcome{Class: dispatch.Unknown, Reason: dispatch.ReasonCancelled}
		}
	})
	return begun, func() { close(gate) }
}

func TestQuotaIsSharedByAllDaemons(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "alipay", nil)
	for range 3 {
		start(t, r.config(t))
	}
	due := time.Now().Add(2 * time.Second)
	for range 7 {
		r.insert(t, "app", "alipay.label_send", 1, fixed(due))
	}
	until(t, "five pushes and no place for more", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE status = 'succeeded'`) == 5 &&
			get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE reason = 'waits for quota'`) == 2
	})
	short := get[int64](t, r, `UPDATE scheduler.campaigns SET catch_up_window = '1 second'
		WHERE id = (SELECT min(campaign_id) FROM scheduler.pending_tasks) RETURNING id`)
	r.run(t, `UPDATE scheduler.pending_tasks SET ready_at = due_at`) // they would look again in a minute
	if got := r.decided(t, short, 1); !strings.HasPrefix(got[0], "missed: quota") {
		t.Errorf("the one with a short window: %s", got)
	}
	until(t, "the other to wait on", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE reason = 'waits for quota'`) == 1
	})
	if n := r.pusher.count(); n != 5 {
		t.Errorf("%d calls under a quota of 5", n)
	}
	if got := get[string](t, r, `SELECT used || ' of ' || weekly_quota FROM scheduler.quota_usage WHERE channel = 'alipay.label_send'`); got != "5 of 5" {
		t.Errorf("quota usage says %s", got)
	}
}

func TestQuotaIsKeptOrReturnedByOutcome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer dispatch.Outcome
		window string
		status string
		used   int
	}{
		{"accepted", accepted, "1 hour", "succeeded", 1},
		{"unknown", unknown, "1 hour", "unknown", 1},
		{"refused", permanent, "1 hour", "failed", 1},
		{"not sent", notSent, "2 seconds", "missed", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "alipay", nil)
			r.pusher.answers(func(context.Context, call) dispatch.Outcome { return c.answer })
			start(t, r.config(t))
			id := r.insert(t, "app", "alipay.label_send", 0, nil, "catch_up_window", c.window)
			if got := r.decided(t, id, 1); !strings.HasPrefix(got[0], c.status) {
				t.Errorf("decision %q, want %s", got, c.status)
			}
			if n := get[int](t, r, `SELECT count(*) FROM scheduler.quota_uses`); n != c.used {
				t.Errorf("%d uses booked, want %d", n, c.used)
			}
		})
	}
}

// What waits for its app books nothing; one that is cancelled meanwhile has used
// no quota, and whoever comes next gets it.
func TestQuotaIsNotBookedByWhatWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "alipay", &engine.App{MaxInFlight: 1})
	r.run(t, `INSERT INTO scheduler.app_quotas VALUES ($1, 'alipay.label_send', 2)`, app)
	begun, release := block(r.pusher, accepted)
	start(t, r.config(t))
	first := r.insert(t, "app", "alipay.label_send", 0, nil)
	until(t, "the first call", func() bool { return begun.Load() == 1 })
	second := r.insert(t, "app", "alipay.label_send", 0, nil)
	until(t, "the second to wait", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE status = 'waiting'`) == 1
	})
	third := r.insert(t, "app", "alipay.label_send", 0, nil)
	until(t, "the third to wait for quota", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE reason = 'waits for quota'`) == 1
	})
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.quota_uses`); n != 1 {
		t.Errorf("%d uses booked for one call", n)
	}
	r.run(t, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, second)
	r.decided(t, second, 1)
	r.run(t, `UPDATE scheduler.pending_tasks SET ready_at = due_at`) // it would look again in a minute
	release()
	r.decided(t, first, 1)
	r.decided(t, third, 1)
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.quota_uses`); n != 2 {
		t.Errorf("%d uses booked for two calls", n)
	}
}

// An app that is held back must not lose its bookings on the way.
func TestQuotaHoldsForALimitedApp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "alipay", &engine.App{MaxInFlight: 1, CallsPerSecond: 100})
	for range 2 {
		start(t, r.config(t))
	}
	r.run(t, `INSERT INTO scheduler.campaigns (name, app_id, channel, catch_up_window) SELECT 'n', 'app', 'alipay.label_send', '1 hour' FROM generate_series(1, 12)`)
	until(t, "the quota to be used and the rest to wait for it", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE status = 'succeeded' OR reason = 'waits for quota'`) == 12
	})
	r.run(t, `UPDATE scheduler.campaigns SET catch_up_window = '1 second' WHERE status = 'active'`)
	r.run(t, `UPDATE scheduler.pending_tasks SET ready_at = due_at`) // they would look again in a minute
	until(t, "all to be decided", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`) == 12 })
	if n := r.pusher.count(); n != 5 {
		t.Errorf("%d calls under a quota of 5", n)
	}
	got := list[string](t, r, `SELECT status || coalesce(' ' || reason, '') || ' ' || count(*) FROM scheduler.tasks GROUP BY status, reason ORDER BY 1`)
	if len(got) != 2 || got[1] != "succeeded 5" || !strings.Contains(got[0], "quota") {
		t.Errorf("decisions %q", got)
	}
}

func TestCallsInFlightAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", &engine.App{MaxInFlight: 3})
	var now, most atomic.Int64
	r.pusher.answers(func(context.Context, call) dispatch.Outcome {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		<-time.After(2 * time.Millisecond)
		return accepted
	})
	start(t, r.config(t))
	r.run(t, `INSERT INTO scheduler.campaigns (name, app_id, channel) SELECT 'n', 'app', 'mpaas.push_broadcast' FROM generate_series(1, 100)`)
	id := r.insert(t, "app", "mpaas.push_multiple", 0, nil, "status", "paused")
	r.targets(t, id, 2000)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
	until(t, "all to succeed", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'succeeded'`) == 101
	})
	if most.Load() > 3 {
		t.Errorf("%d calls at once, 3 allowed", most.Load())
	}
	if diff := cmp.Diff(names(2000), r.reached(t, id)); diff != "" {
		t.Errorf("reached (-want +got):\n%s", diff)
	}
}

// TestReloadBoundsCallsAnew raises and lowers the bound of the daemon's calls
// while calls are under way.
func TestReloadBoundsCallsAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	answer := make(chan struct{})
	var now, seen atomic.Int64
	r.pusher.answers(func(ctx context.Context, _ call) dispatch.Outcome {
		seen.Add(1)
		now.Add(1)
		defer now.Add(-1)
		select {
		case <-answer:
		case <-ctx.Done():
		}
		return accepted
	})
	cfg := r.config(t)
	cfg.MaxInFlight = 2
	e := start(t, cfg)
	r.run(t, `INSERT INTO scheduler.campaigns (name, app_id, channel) SELECT 'n', 'app', 'mpaas.push_broadcast' FROM generate_series(1, 12)`)
	until(t, "two calls", func() bool { return now.Load() == 2 })
	e.Reload(5)
	until(t, "five calls", func() bool { return now.Load() == 5 })
	e.Reload(1)
	for range 4 { // those that are too many now end, and none takes their place
		answer <- struct{}{}
	}
	until(t, "four to be decided", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`) == 4 })
	if n := seen.Load(); n != 5 {
		t.Errorf("%d calls begun, want 5", n)
	}
	close(answer)
	until(t, "all to succeed", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'succeeded'`) == 12
	})
}

func TestSlicesAreShared(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	var pushers []*pusher
	both := make(chan struct{})
	var daemons atomic.Int64
	for range 2 {
		cfg, p := r.daemon(t)
		cfg.MaxInFlight, cfg.Lease = 8, 20*time.Second // on a busy machine none shall be taken for dead
		var met atomic.Bool
		p.answers(func(ctx context.Context, _ call) dispatch.Outcome {
			if met.CompareAndSwap(false, true) && daemons.Add(1) == 2 {
				close(both)
			}
			select { // so that none can take everything
			case <-both:
			case <-ctx.Done():
			}
			return accepted
		})
		start(t, cfg)
		pushers = append(pushers, p)
	}
	until(t, "both daemons to be there", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.daemons`) == 2 })
	id := r.insert(t, "app", "mpaas.push_multiple", 0, nil, "status", "paused")
	r.targets(t, id, 20000)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var reached []string
	for _, p := range pushers {
		calls := p.seen()
		if len(calls) == 0 {
			t.Error("a daemon had no part")
		}
		for _, c := range calls {
			reached = append(reached, c.targets...)
		}
	}
	slices.Sort(reached)
	if diff := cmp.Diff(names(20000), reached); diff != "" {
		t.Errorf("reached (-want +got):\n%s", diff)
	}
	if got := get[string](t, r, `SELECT deliveries_done || ' of ' || deliveries || ', ' || targets FROM scheduler.tasks`); got != "200 of 200, 20000" {
		t.Errorf("the task says %s", got)
	}
}

// A daemon dies in the middle of its calls: another rules on them.
func TestDeadDaemonsCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	cfg, dying := r.daemon(t)
	begun, _ := block(dying, accepted)
	dead := engine.New(cfg)
	dead.Start()
	once := r.insert(t, "app", "mpaas.push_broadcast", 0, nil)
	again := r.insert(t, "app", "mpaas.push_broadcast", 0, nil, "resend_unknown", true)
	sliced := r.insert(t, "app", "mpaas.push_multiple", 0, nil, "status", "paused", "resend_unknown", true)
	r.targets(t, sliced, 150)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, sliced)
	until(t, "all calls to begin", func() bool { return begun.Load() == 4 })
	dead.Abandon()
	cfg, alive := r.daemon(t)
	start(t, cfg)
	if diff := cmp.Diff([]string{"unknown: the daemon was lost while the call was under way"}, r.decided(t, once, 1)); diff != "" {
		t.Errorf("once (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, again, 1)); diff != "" {
		t.Errorf("again (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, sliced, 1)); diff != "" {
		t.Errorf("sliced (-want +got):\n%s", diff)
	}
	keys := func(p *pusher) (out []string) {
		for _, c := range p.seen() {
			if c.campaign != once {
				out = append(out, fmt.Sprint(c.msgKey, c.deliveryID, c.keys))
			}
		}
		slices.Sort(out)
		return out
	}
	if diff := cmp.Diff(keys(dying), keys(alive)); diff != "" {
		t.Errorf("a resend has other keys (-first +second):\n%s", diff)
	}
	if n := get[int](t, r, `SELECT attempts FROM scheduler.tasks WHERE campaign_id = $1`, again); n != 2 {
		t.Errorf("%d attempts recorded, want 2", n)
	}
	r.settled(t)
}

// A daemon dies in a call whose targets the request names, which names others
// afterwards (fault 8): the record says how many the call was meant for, and a
// ruling to send it again reaches exactly those that the request still names.
func TestDeadDaemonsCallToTheRequestsTargets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	cfg, dying := r.daemon(t)
	begun, _ := block(dying, accepted)
	dead := engine.New(cfg)
	dead.Start()
	id := r.insert(t, "app", "mpaas.push_multiple", 0, nil, "request", `{"targets": ["ann", "bob", "gone"]}`)
	until(t, "the call to begin", func() bool { return begun.Load() == 1 })
	dead.Abandon()
	r.run(t, `UPDATE scheduler.campaigns SET request = '{"targets": ["ann", "bob", "cy"]}'`)
	cfg, alive := r.daemon(t)
	start(t, cfg)
	if diff := cmp.Diff([]string{"unknown: the daemon was lost while the call was under way"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := get[string](t, r, `SELECT targets || ' ' || (SELECT targets::text FROM scheduler.decided_tasks) FROM scheduler.tasks`); got != "3 {ann,bob,gone}" {
		t.Errorf("the record says %s", got)
	}
	if _, err := r.store.Resolve(t.Context(), store.Ruling{TaskID: get[int64](t, r, `SELECT id FROM scheduler.tasks`), Resend: true}); err != nil {
		t.Fatal(err)
	}
	until(t, "the task to be decided", func() bool { return get[string](t, r, `SELECT status FROM scheduler.tasks`) == "succeeded" })
	if diff := cmp.Diff([]string{"ann", "bob"}, alive.reached()); diff != "" {
		t.Errorf("reached (-want +got):\n%s", diff)
	}
}

// A daemon begins tasks and dies before it has planned their app again: the room
// is filled by another, once it is known to be gone.
func TestRoomThatADeadDaemonLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 5`)
	cfg, _ := r.daemon(t)
	start(t, cfg)
	r.insert(t, "app", "webhook", 2, daily(time.Now().UTC().AddDate(0, 0, 1), 20, "02:00:00"))
	full := func() bool { return len(r.pending(t, app)) == 5 }
	until(t, "the app to be full", full)
	dying := r.enlist(t)
	r.runPending(t, r.store, dying, app)
	r.run(t, `UPDATE scheduler.daemons SET seen_at = now(), leased_until = now() WHERE id = $1`, dying)
	until(t, "the room to be filled", full)
}

// A daemon that was ruled dead comes back with outcomes: they do not count.
func TestLateOutcomesAreFenced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	begun, release := block(r.pusher, accepted)
	start(t, r.config(t))
	id := r.insert(t, "app", "mpaas.push_broadcast", 0, nil)
	sliced := r.insert(t, "app", "mpaas.push_multiple", 0, nil, "status", "paused")
	r.targets(t, sliced, 150)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, sliced)
	until(t, "the calls to begin", func() bool { return begun.Load() == 3 })
	// As another daemon sees one whose lease has run out.
	r.run(t, `UPDATE scheduler.daemons SET ended_at = now()`)
	if _, err := r.open(t).Reap(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	release()
	after := r.insert(t, "app", "mpaas.push_broadcast", 0, nil) // the daemon goes on under another identity
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, after, 1)); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"unknown: the daemon was lost while the call was under way"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("fenced (-want +got):\n%s", diff)
	}
	got := r.decided(t, sliced, 1)
	if len(got) != 1 || !strings.HasPrefix(got[0], "unknown: 0 of 2 deliveries accepted, 0 failed, 2 unknown") {
		t.Errorf("sliced and fenced: %q", got)
	}
	if n := get[int](t, r, `SELECT count(DISTINCT daemon_id) FROM scheduler.decided_tasks WHERE status = 'succeeded'`); n != 1 {
		t.Errorf("%d daemons recorded", n)
	}
	r.settled(t)
}

// A stop lets calls under way end and records their outcomes.
func TestStopRecordsCallsUnderWay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	begun, release := block(r.pusher, accepted)
	e := engine.New(r.config(t))
	e.Start()
	id := r.insert(t, "app", "mpaas.push_broadcast", 0, nil)
	sliced := r.insert(t, "app", "mpaas.push_multiple", 0, nil, "status", "paused")
	r.targets(t, sliced, 150)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, sliced)
	until(t, "the calls to begin", func() bool { return begun.Load() == 3 })
	stopped := make(chan error, 1)
	go func() { stopped <- e.Stop(context.WithoutCancel(t.Context())) }()
	release()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if got := get[string](t, r, `SELECT status FROM scheduler.tasks WHERE campaign_id = $1`, id); got != "succeeded" {
		t.Errorf("the task is %s after the stop", got)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE status = 'accepted'`); n != 2 {
		t.Errorf("%d deliveries recorded, want 2", n)
	}
	if !get[bool](t, r, `SELECT bool_and(ended_at IS NOT NULL) FROM scheduler.daemons`) {
		t.Error("the lease was not given up")
	}
	// What it left, the next one finishes.
	start(t, r.config(t))
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, sliced, 1)); diff != "" {
		t.Errorf("sliced (-want +got):\n%s", diff)
	}
}
