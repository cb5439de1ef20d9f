package engine_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// hush gives an app quiet hours from and until instants, in UTC; both zero: none.
func (r *rig) hush(t testing.TB, app int32, from, until time.Time) {
	t.Helper()
	if from.IsZero() {
		r.run(t, `UPDATE scheduler.apps SET quiet_from = NULL, quiet_until = NULL WHERE app_no = $1`, app)
		return
	}
	r.run(t, `UPDATE scheduler.apps SET quiet_from = $2::text::time, quiet_until = $3::text::time WHERE app_no = $1`,
		app, from.UTC().Format(time.TimeOnly), until.UTC().Format(time.TimeOnly))
}

// clockNow is the database's clock.
func (r *rig) clockNow(t testing.TB) time.Time {
	t.Helper()
	return get[time.Time](t, r, `SELECT clock_timestamp()`)
}

// Whatever begins a call within quiet hours is held until they end, and then begins
// at once: a fixed time, a push at once, a trigger, a large audience, a call with a
// quota. Another app, and a campaign that may ignore them, are pushed meanwhile.
func TestQuietHoursHold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "alipay", nil)
	r.app(t, "other", "mpaas", nil)
	r.run(t, `SELECT scheduler.grant_quiet_exemption('app', '', channel => 'alipay.single_send', name => 'code')`)
	startReady(t, r.config(t))
	end := r.clockNow(t).Add(7 * time.Second).Truncate(time.Second)
	r.hush(t, app, end.Add(-time.Hour), end)
	before := func(n int) func() bool { return func() bool { return r.pusher.count() >= n } }
	ids := []int64{
		r.insert(t, "app", "alipay.single_send", 1, fixed(r.clockNow(t).Add(time.Second)), "request", `{"targets": ["a"]}`),
		r.insert(t, "app", "alipay.single_send", 0, nil, "request", `{"targets": ["a"]}`, "catch_up_window", "2 seconds"),
		r.audience(t, "app", "alipay.single_send", 5),
		r.insert(t, "app", "alipay.label_send", 0, nil),
	}
	triggered := r.insert(t, "app", "alipay.single_send", 1, fixed(time.Now().Add(24*time.Hour)), "request", `{"targets": ["a"]}`)
	r.run(t, `SELECT scheduler.trigger_campaign($1)`, triggered)
	others := []int64{
		r.insert(t, "other", "mpaas.push_broadcast", 0, nil),
		get[int64](t, r, `INSERT INTO scheduler.campaigns (name, app_id, channel, request, quiet_policy) VALUES ('code', 'app', 'alipay.single_send', '{"targets": ["a"]}', 'ignore') RETURNING id`),
		get[int64](t, r, `INSERT INTO scheduler.campaigns (name, app_id, channel, request, quiet_policy) VALUES ('code', 'app', 'alipay.single_send', '{"targets": ["a", "b"]}', 'ignore') RETURNING id`),
	}
	for _, id := range others {
		if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
			t.Errorf("what may be pushed (-want +got):\n%s", diff)
		}
	}
	until(t, "the tasks to be held", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks WHERE waits_for = 'the end of quiet hours' AND ready_at = $1`, end) == 5
	})
	if r.clockNow(t).After(end) {
		t.Fatal("the machine was too slow for this test: the quiet hours are over")
	}
	until(t, "what was held", before(4+9))
	for _, id := range append(ids, triggered) {
		if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
			t.Errorf("what was held (-want +got):\n%s", diff)
		}
	}
	for _, c := range r.pusher.seen() {
		if held := c.campaign != others[0] && c.campaign != others[1] && c.campaign != others[2]; held && c.at.Before(end.Add(-50*time.Millisecond)) {
			t.Errorf("a call of campaign %d began %v before the end of quiet hours", c.campaign, end.Sub(c.at))
		} else if held && c.at.After(end.Add(5*time.Second)) {
			t.Errorf("a call of campaign %d began %v after the end of quiet hours", c.campaign, c.at.Sub(end))
		}
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.quota_uses`); n != 1 {
		t.Errorf("%d calls are booked, want 1", n)
	}
}

// A running audience pauses as quiet hours come, and goes on when they are taken
// back, though its window has closed meanwhile. Nothing is asked of the database
// over and over.
func TestQuietHoursPauseAnAudience(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "alipay", &engine.App{MaxInFlight: 2})
	var calls atomic.Int64
	r.pusher.answers(func(context.Context, call) dispatch.Outcome {
		calls.Add(1)
		<-time.After(10 * time.Millisecond)
		return accepted
	})
	startReady(t, r.config(t))
	id := r.audience(t, "app", "alipay.single_send", 600)
	until(t, "some calls", func() bool { return calls.Load() > 20 })
	now := r.clockNow(t)
	r.hush(t, app, now.Add(-time.Hour), now.Add(time.Hour))
	until(t, "the calls under way to end", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE status = 'running'`) == 0
	})
	// It was due half an hour ago, within them, and its window would have closed.
	r.run(t, `UPDATE scheduler.campaigns SET catch_up_window = '1 minute' WHERE id = $1`, id)
	r.without(t, `UPDATE scheduler.running_tasks SET due_at = due_at - interval '30 minutes' WHERE campaign_id = $1`, id)
	paused := calls.Load()
	claims := func() int64 {
		return get[int64](t, r, `SELECT coalesce(sum(n_tup_upd), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'scheduler' AND relname = 'slices'`)
	}
	written := claims()
	<-time.After(2500 * time.Millisecond)
	if n := calls.Load(); n != paused {
		t.Fatalf("%d calls began within quiet hours", n-paused)
	}
	if n := claims() - written; n > 100 { // the statistics of what was before come late
		t.Errorf("%d deliveries were written while nothing was pushed", n)
	}
	if status := get[string](t, r, `SELECT status FROM scheduler.tasks WHERE campaign_id = $1`, id); status != "running" {
		t.Errorf("the task is %s while it is held", status)
	}
	r.hush(t, app, time.Time{}, time.Time{})
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := calls.Load(); n != 600 {
		t.Errorf("%d calls, want 600", n)
	}
}

// Skip misses what is due within quiet hours and holds what was due before; of
// several that are held together the newest is pushed, or all.
func TestQuietPolicies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "mpaas", nil)
	now := r.clockNow(t).UTC()
	first := now.Add(-30 * time.Minute).Truncate(24 * time.Hour)
	clock := func(d time.Duration) string { return now.Add(d).Format(time.TimeOnly) }
	// The times lie within the quiet hours, which end soon.
	r.hush(t, app, now.Add(-time.Hour), now.Add(5*time.Second))
	at := func(policy, misfire string, more ...time.Duration) int64 {
		times := make([]string, len(more))
		for i, d := range more {
			times[i] = clock(d)
		}
		id := get[int64](t, r, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, times, quiet_policy, misfire_policy)
			VALUES ('n', 'app', 'mpaas.push_broadcast', 2, $1, $2, $3, $4) RETURNING id`, daily(now, 2, "00:00:00"), times, policy, misfire)
		r.backdate(t, id, daily(first, 3, "00:00:00"), now.Add(-30*time.Minute-time.Second))
		return id
	}
	latest := at("hold", "latest", -30*time.Minute, -20*time.Minute, -10*time.Minute)
	all := at("hold", "all", -30*time.Minute, -20*time.Minute, -10*time.Minute)
	none := at("hold", "skip", -10*time.Minute)
	skip := at("skip", "latest", -10*time.Minute)
	start(t, r.config(t))
	overtaken := "missed: misfire policy latest: a later occurrence was due"
	for _, c := range []struct {
		what string
		id   int64
		want []string
	}{
		{"skip", skip, []string{"missed: quiet hours"}},
		{"latest", latest, []string{overtaken, overtaken, "succeeded"}},
		{"all", all, []string{"succeeded", "succeeded", "succeeded"}},
		{"none late", none, []string{"succeeded"}},
	} {
		if diff := cmp.Diff(c.want, r.decided(t, c.id, len(c.want))[:len(c.want)]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
	for _, c := range r.pusher.seen() {
		if c.at.Before(now.Add(5 * time.Second).Truncate(time.Second).Add(-50 * time.Millisecond)) {
			t.Errorf("a call of campaign %d began within quiet hours", c.campaign)
		}
	}
}

// A retry waits for the end as well, and an exemption that is taken back holds what
// it let go.
func TestQuietHoursHoldRetries(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "mpaas", nil)
	exemption := get[int64](t, r, `SELECT scheduler.grant_quiet_exemption('app', '', name => 'code')`)
	var refuse atomic.Bool
	refuse.Store(true)
	r.pusher.answers(func(context.Context, call) dispatch.Outcome {
		if refuse.Load() {
			return notSent
		}
		return accepted
	})
	startReady(t, r.config(t))
	now := r.clockNow(t)
	r.hush(t, app, now.Add(-time.Hour), now.Add(time.Hour))
	id := get[int64](t, r, `INSERT INTO scheduler.campaigns (name, app_id, channel, quiet_policy) VALUES ('code', 'app', 'mpaas.push_broadcast', 'ignore') RETURNING id`)
	until(t, "some tries", func() bool { return r.pusher.count() > 3 })
	r.run(t, `SELECT scheduler.revoke_quiet_exemption($1)`, exemption)
	until(t, "the try under way to end", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE status = 'running'`) == 0
	})
	n := r.pusher.count()
	refuse.Store(false)
	<-time.After(1500 * time.Millisecond)
	if more := r.pusher.count() - n; more > 0 {
		t.Errorf("%d tries began within quiet hours", more)
	}
	get[int64](t, r, `SELECT scheduler.grant_quiet_exemption('app', '', channel => 'mpaas.push_broadcast')`)
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Occurrences that have no task yet follow the same rules in the plan.
func TestQuietHoursInThePlan(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "mpaas", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 1 WHERE app_no = $1`, app)
	now := r.clockNow(t).UTC()
	r.hush(t, app, now.Add(-time.Hour), now.Add(time.Hour))
	ids := make(map[string]int64)
	for name, policy := range map[string]any{"held": nil, "left out": "skip"} {
		id := r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(now.Add(-time.Second)), "catch_up_window", "10 minutes", "quiet_policy", policy)
		r.backdate(t, id, fixed(now.Add(-30*time.Minute)), now.Add(-40*time.Minute))
		ids[name] = id
	}
	old := r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(now.Add(-time.Second)), "catch_up_window", "10 minutes")
	r.backdate(t, old, fixed(now.Add(-90*time.Minute)), now.Add(-2*time.Hour))
	plan(t, r.planner(t), app, time.Time{})
	if got := strings.Join(r.decided(t, ids["left out"], 1), ""); got != "missed: quiet hours" {
		t.Errorf("what is left out: %s", got)
	}
	if got := strings.Join(r.decided(t, old, 1), ""); got != "missed: older than the catch-up window of 10m0s" {
		t.Errorf("what is too old: %s", got)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks WHERE campaign_id = $1`, ids["held"]); n != 1 {
		t.Errorf("what is held has %d pending tasks, want 1", n)
	}
}
