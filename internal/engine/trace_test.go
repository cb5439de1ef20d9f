package engine_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// precision is how far the engine's idea of the database's clock may be off on a
// busy machine.
const precision = 5 * time.Second

// A tracer notes the steps it is told of, and looks whether they can be right.
type tracer struct {
	mu    sync.Mutex
	steps map[int64][]string // by campaign
	wrong []string
}

func (tr *tracer) note(of engine.TracedTask, s engine.Span, step string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.steps == nil {
		tr.steps = make(map[int64][]string)
	}
	tr.steps[of.Campaign] = append(tr.steps[of.Campaign], step)
	if of.ID == 0 || of.App == 0 || of.DueAt.IsZero() || s.From.Before(of.DueAt.Add(-precision)) || s.To.Before(s.From) {
		tr.wrong = append(tr.wrong, fmt.Sprintf("%s of %+v took %+v", step, of, s))
	}
}

func (tr *tracer) Claimed(of engine.TracedTask, s engine.Span)  { tr.note(of, s, "claim") }
func (tr *tracer) Recorded(of engine.TracedTask, s engine.Span) { tr.note(of, s, "record") }

func (tr *tracer) Called(of engine.TracedTask, c engine.TracedCall) {
	tr.note(of, c.Span, fmt.Sprintf("call %d.%d %s %d targets %s", c.Slice, c.Attempt, c.Class, c.Targets, c.RequestID))
}

func (tr *tracer) Decided(of engine.TracedTask, d engine.TracedDecision) {
	tr.note(of, engine.Span{From: of.DueAt, To: d.At}, fmt.Sprintf("decided %s %s %s", of.Channel, d.Status, d.Reason))
}

// trace waits for as many steps of a campaign's one task as are wanted and
// returns them sorted: what is told from different goroutines has no order.
func (tr *tracer) trace(t testing.TB, campaign int64, n int) []string {
	t.Helper()
	var steps []string
	until(t, "the task's steps", func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		steps = slices.Sorted(slices.Values(tr.steps[campaign]))
		return len(steps) >= n
	})
	return steps
}

func TestEachTaskIsTraced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "hook", "webhook", nil)
	r.app(t, "phone", "mpaas", nil)
	r.pusher.answers(func(_ context.Context, c call) dispatch.Outcome {
		if c.channel == "webhook" && c.attempt == 1 {
			return notSent
		}
		return accepted
	})
	tr := &tracer{}
	cfg := r.config(t)
	cfg.Tracer = tr
	start(t, cfg)
	again := r.insert(t, "hook", "webhook", 0, nil)
	large := r.insert(t, "phone", "mpaas.push_multiple", 0, nil, "status", "paused")
	r.targets(t, large, 250)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, large)
	empty := r.insert(t, "phone", "mpaas.push_multiple", 0, nil)
	old := r.insert(t, "phone", "mpaas.push_broadcast", 1, fixed(time.Now().Add(-10*time.Minute)), "misfire_policy", "skip")

	for name, c := range map[string]struct {
		campaign int64
		want     []string
	}{
		"tried twice": {again, []string{"claim", "call 1.1 not_sent 0 targets ", "record", "call 1.2 accepted 0 targets req-1", "record", "decided webhook succeeded none"}},
		"three deliveries": {large, []string{
			"claim", "call 1.1 accepted 100 targets req-1", "call 2.1 accepted 100 targets req-1", "call 3.1 accepted 50 targets req-1", "record",
			"decided mpaas.push_multiple succeeded none",
		}},
		"nobody to push to": {empty, []string{"claim", "record", "decided mpaas.push_multiple succeeded empty_audience"}},
		"too late":          {old, []string{"decided mpaas.push_broadcast missed misfire_policy"}},
	} {
		slices.Sort(c.want)
		if diff := cmp.Diff(c.want, tr.trace(t, c.campaign, len(c.want))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.wrong) > 0 {
		t.Errorf("steps that cannot be right:\n%s", strings.Join(tr.wrong, "\n"))
	}
}

// Without a tracer the hot path must cost what it did before there were traces.
func TestNoTracerCostsNothing(t *testing.T) { //nolint:paralleltest // it counts allocations
	if n := testing.AllocsPerRun(100, engine.TraceNothing()); n != 0 {
		t.Errorf("%v allocations where nothing is traced", n)
	}
}
