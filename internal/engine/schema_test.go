package engine_test

import (
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// The schema goes a version back and forth under a running engine for as long as
// its tasks fall due: none is lost, and none is pushed twice.
func TestSchemaMovesUnderARunningEngine(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	e := start(t, r.config(t))
	until(t, "the engine to be ready", func() bool { return ready(t, e) })
	m, err := store.NewMigrator(r.URL, r.log)
	if err != nil {
		t.Fatal(err)
	}
	const tasks = 40
	for i := range tasks {
		r.insert(t, "app", "webhook", 1, fixed(time.Now().Add(time.Duration(1+i/10)*time.Second)))
	}
	moves := 0
	until(t, "all tasks to be decided", func() bool {
		if err := m.Down(t.Context(), 1); err != nil {
			t.Fatalf("down: %v", err)
		}
		if err := m.Up(t.Context()); err != nil {
			t.Fatalf("up: %v", err)
		}
		moves++
		return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'succeeded'`) == tasks
	})
	if n := r.pusher.count(); n != tasks {
		t.Errorf("%d pushes of %d tasks, while the schema moved %d times", n, tasks, moves)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.tasks`); n != tasks {
		t.Errorf("%d tasks are recorded, want %d", n, tasks)
	}
}
