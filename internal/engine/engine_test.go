package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

func id(n int64) string { return strconv.FormatInt(n, 10) }

// stop ends an engine before the test ends.
func stop(t *testing.T, e *engine.Engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	if err := e.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// running starts an engine that the test stops itself.
func running(t *testing.T, cfg engine.Config) *engine.Engine {
	t.Helper()
	e := engine.New(cfg)
	e.Start()
	until(t, "the engine to be ready", func() bool { return ready(t, e) })
	return e
}

// TestStopWaitsForCalls stops a daemon whose calls take longer than its lease:
// they end, and are recorded, though another daemon looks for the dead.
func TestStopWaitsForCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "webhook", nil)
	slow := make(chan struct{})
	r.pusher.answers(func(context.Context, call) dispatch.Outcome {
		<-slow
		return accepted
	})
	cfg := r.config(t)
	cfg.Lease = 5 * time.Second
	first := running(t, cfg)
	var campaigns []int64
	for range 3 {
		campaigns = append(campaigns, r.insert(t, "shop", "webhook", 0, nil))
	}
	until(t, "the calls", func() bool { return r.pusher.count() == 3 })
	other := r.config(t)
	other.Lease = 5 * time.Second
	start(t, other)
	time.AfterFunc(8*time.Second, func() { close(slow) })
	stop(t, first)
	for _, c := range campaigns {
		if d := cmp.Diff([]string{"succeeded"}, r.decided(t, c, 1)); d != "" {
			t.Errorf("campaign %d (-want +got):\n%s", c, d)
		}
	}
	if n := r.pusher.count(); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

// TestStopLeavesTheRest stops a daemon in the middle of a large audience. Its
// lease, far longer than the test, keeps nothing from the next daemon.
func TestStopLeavesTheRest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "mpaas", nil)
	campaign := r.insert(t, "shop", "mpaas.push_multiple", 1, fixed(time.Now().Add(2*time.Second)))
	r.run(t, `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, 'user-' || n FROM generate_series(1, 2500) n`, campaign)
	gate := make(chan struct{})
	r.pusher.answers(func(context.Context, call) dispatch.Outcome {
		<-gate
		<-time.After(300 * time.Millisecond) // so that the stop comes before the last, however late it comes
		return accepted
	})
	cfg := r.config(t)
	cfg.Lease, cfg.MaxInFlight = 10*time.Minute, 4
	first := running(t, cfg)
	until(t, "calls", func() bool { return r.pusher.count() >= 2 })
	time.AfterFunc(100*time.Millisecond, func() { close(gate) })
	stop(t, first)
	early := r.pusher.count()
	if early >= 25 {
		t.Fatalf("all %d calls were made before the stop", early)
	}
	r.pusher.answers(nil)
	if left := get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE status = 'running'`); left != 0 {
		t.Errorf("%d deliveries are still the stopped daemon's", left)
	}
	cfg.Store = r.open(t)
	start(t, cfg)
	if d := cmp.Diff([]string{"succeeded"}, r.decided(t, campaign, 1)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	times := make(map[string]int)
	for _, c := range r.pusher.seen() {
		for _, target := range c.targets {
			times[target]++
		}
	}
	for n := range 2500 {
		if got := times[fmt.Sprint("user-", n+1)]; got != 1 {
			t.Fatalf("user-%d was pushed to %d times", n+1, got)
		}
	}
}

// TestStopCutShort ends the wait for calls, as a second signal does: the next
// daemon rules on them, and makes none of them again.
func TestStopCutShort(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "webhook", nil)
	r.pusher.answers(func(ctx context.Context, _ call) dispatch.Outcome {
		<-ctx.Done()
		return unknown
	})
	first := running(t, r.config(t))
	campaign := r.insert(t, "shop", "webhook", 0, nil)
	until(t, "the call", func() bool { return r.pusher.count() == 1 })
	ctx, cut := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cut)
	if err := first.Stop(ctx); err != nil && !errors.Is(err, engine.ErrCutShort) {
		t.Errorf("stop: %v", err)
	}
	cfg := r.config(t)
	cfg.Lease = time.Second
	start(t, cfg)
	got := r.decided(t, campaign, 1)
	if len(got) != 1 || got[0][:len("unknown")] != "unknown" {
		t.Errorf("the call that was cut: %s", got)
	}
	if n := r.pusher.count(); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}
