package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// A decisionLog is a handler that keeps the lines that tell of decisions.
type decisionLog struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
}

func newDecisionLog() *decisionLog { return &decisionLog{Handler: slog.DiscardHandler} }

func (l *decisionLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *decisionLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "task decided" {
		return nil
	}
	of := make(map[string]slog.Value)
	r.Attrs(func(a slog.Attr) bool { of[a.Key] = a.Value; return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf("campaign %v task %v %v due %s", of["campaign"], of["task"], of["outcome"], of["due"].Time().UTC().Format(time.RFC3339)))
	return nil
}

func (l *decisionLog) sorted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(slices.Values(l.lines))
}

// TestEveryDecisionIsToldOf has tasks decided in every way there is: by a call,
// by its author, by a planner that finds them too late, and for a daemon that
// died. Each is one line in the log and counted once.
func TestEveryDecisionIsToldOf(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	now := time.Now().UTC().Truncate(time.Second)
	late := r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(now.Add(time.Hour)))
	r.backdate(t, late, fixed(now.Add(-2*time.Hour)), now.Add(-3*time.Hour))
	log := newDecisionLog()
	configure := func() engine.Config {
		cfg := r.config(t)
		cfg.Log, cfg.Alone, cfg.Metrics = slog.New(log), true, engine.NewMetrics(nil)
		return cfg
	}
	begun, _ := block(r.pusher, accepted)
	first := configure()
	dying := engine.New(first)
	dying.Start()
	r.insert(t, "app", "mpaas.push_broadcast", 0, nil)
	until(t, "a call to begin", func() bool { return begun.Load() == 1 })
	dying.Abandon()
	r.pusher.answers(nil)
	second := configure()
	start(t, second)
	for _, end := range []string{`UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, `DELETE FROM scheduler.campaigns WHERE id = $1`} {
		id := r.insert(t, "app", "mpaas.push_broadcast", 2, daily(now.AddDate(0, 0, 1), 5, "12:00:00"))
		until(t, "its tasks", func() bool {
			return get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks WHERE campaign_id = $1`, id) == 5
		})
		r.run(t, end, id)
	}
	r.decided(t, r.insert(t, "app", "mpaas.push_broadcast", 0, nil), 1)
	const rows = 1 + 1 + 5 + 5 + 1
	var want []string
	until(t, "every decision to be told of", func() bool {
		want = list[string](t, r, `SELECT format('campaign %s task %s %s due %s', campaign_id, id, status, to_char(due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
			FROM scheduler.decided_tasks`)
		return len(want) == rows && len(log.sorted()) >= rows
	})
	slices.Sort(want)
	if diff := cmp.Diff(want, log.sorted()); diff != "" {
		t.Errorf("decisions and lines (-decided +logged):\n%s", diff)
	}
	until(t, "every decision to be counted once", func() bool { // after its line
		counted := 0.0
		for _, m := range []*engine.Metrics{first.Metrics, second.Metrics} {
			for _, n := range figures(t, m.Decisions) {
				counted += n
			}
		}
		return counted == rows
	})
}
