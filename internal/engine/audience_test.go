package engine_test

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// A large audience, two daemons, one dies half way: every target is in exactly
// one accepted call, or in a delivery that is recorded as unknown. The size can
// be set with LARGE_AUDIENCE, for example to 1000000.
func TestLargeAudienceSurvivesADaemon(t *testing.T) {
	t.Parallel()
	size := 50_000
	if n, err := strconv.Atoi(os.Getenv("LARGE_AUDIENCE")); err == nil {
		size = n
	}
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	id := r.insert(t, "app", "mpaas.push_multiple", 0, nil, "status", "paused")
	r.targets(t, id, size)
	half := make(chan struct{})
	var calls atomic.Int64
	count := func() {
		if calls.Add(1) == int64(size/200) {
			close(half)
		}
	}
	cfg, first := r.daemon(t)
	first.answers(func(ctx context.Context, _ call) dispatch.Outcome {
		count()
		select {
		case <-half: // under way when the daemon dies
			<-ctx.Done()
			return unknown
		default:
			return accepted
		}
	})
	dying := engine.New(cfg)
	dying.Start()
	cfg, second := r.daemon(t)
	second.answers(func(context.Context, call) dispatch.Outcome { count(); return accepted })
	start(t, cfg)
	until(t, "both daemons", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.daemons`) == 2 })
	began := time.Now()
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active'`)
	<-half
	dying.Abandon()
	for get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`) == 0 { // as long as it takes: the size is not ours
		<-time.After(50 * time.Millisecond)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.Logf("%d targets in %v, %d calls, %d MB from the system for two daemons and the test", size, time.Since(began), calls.Load(), memory.Sys>>20)

	type tally struct{ Calls, Unknown, Targets, Recorded int }
	var got tally
	err := r.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE status IN ('succeeded', 'unknown')), count(*) FILTER (WHERE status = 'unknown'),
		sum(target_count), (SELECT targets FROM scheduler.tasks) FROM scheduler.deliveries`).Scan(&got.Calls, &got.Unknown, &got.Targets, &got.Recorded)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tally{size / 100, got.Unknown, size, size}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	unknownTargets := list[string](t, r, `SELECT unnest(targets) FROM scheduler.deliveries WHERE status = 'unknown'`)
	reached := append(first.reached(), second.reached()...)
	slices.Sort(reached)
	if n := len(slices.Compact(slices.Clone(reached))); n != len(reached) {
		t.Errorf("%d targets were pushed to twice", len(reached)-n)
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(append(reached, unknownTargets...))))); n != size {
		t.Errorf("%d targets accounted for, want %d", n, size)
	}
	want := "succeeded"
	if got.Unknown > 0 {
		want = "unknown"
	}
	if status := get[string](t, r, `SELECT status FROM scheduler.tasks`); status != want {
		t.Errorf("the task is %s, %d deliveries are unknown", status, got.Unknown)
	}
}

// reached lists the targets of all calls.
func (p *pusher) reached() (out []string) {
	for _, c := range p.seen() {
		out = append(out, c.targets...)
	}
	return out
}
