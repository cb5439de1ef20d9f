package engine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/store"
)

func (a *dueQueue) addTasks(tasks ...store.ReadyTask) {
	for _, t := range tasks {
		a.add([]*entry{{task: t}})
	}
}

func (a *dueQueue) takeTasks(now time.Time, n int, allow func(store.ReadyTask) (bool, time.Time)) (ids []int64) {
	for _, e := range a.take(now, n, func(e *entry) (bool, time.Time) { return allow(e.task) }) {
		ids = append(ids, e.task.ID)
	}
	return ids
}

// What was read while a task was being begun shows it as it was before: it is not
// taken in again. A reading after that may find it, as when it is tried again.
func TestDueQueueKnowsWhatIsBeingBegun(t *testing.T) {
	t.Parallel()
	a := newDueQueue()
	task := store.ReadyTask{ID: 1, AppNo: 1, ReadyAt: noon}
	all := func(store.ReadyTask) (bool, time.Time) { return true, time.Time{} }
	take := func(when string, want []int64) {
		t.Helper()
		if diff := cmp.Diff(want, a.takeTasks(noon, 10, all)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		if n := a.len(); n != 0 {
			t.Errorf("%s: %d tasks wait", when, n)
		}
	}
	a.reading()
	a.addTasks(task)
	take("at first", []int64{1})
	a.reading()
	a.addTasks(task)
	take("read while it is being begun", nil)
	a.clear()
	a.addTasks(task)
	take("read while it is being begun, though the queue was cleared", nil)
	a.reading()
	a.done(&entry{task: task})
	a.addTasks(task)
	take("read before its beginning was over", nil)
	a.reading()
	a.addTasks(task)
	take("read after its beginning was over", []int64{1})
	a.done(&entry{task: task})
	a.putBack([]*entry{{task: task}})
	a.reading()
	if n := a.len(); n != 1 {
		t.Errorf("%d tasks wait, want the one that was put back", n)
	}
	take("put back", []int64{1})
	a.reading()
	a.addTasks(task)
	take("begun again", nil)
}

// An app that is held back keeps no other from its time.
func TestDueQueue(t *testing.T) {
	t.Parallel()
	a := newDueQueue()
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	task := func(id int64, app int32, s int) store.ReadyTask {
		return store.ReadyTask{ID: id, AppNo: app, ReadyAt: at(s)}
	}
	a.addTasks(task(1, 1, 0), task(2, 1, 1), task(3, 2, 2), task(4, 2, 9), task(1, 1, 0))
	machine := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC) // whatever this machine's clock says
	a.now = func() time.Time { return machine }
	slow := func(t store.ReadyTask) (bool, time.Time) { return t.AppNo != 1, machine.Add(2 * time.Second) }
	if diff := cmp.Diff([]int64{3}, a.takeTasks(at(3), 10, slow)); diff != "" {
		t.Errorf("while app 1 is held back (-want +got):\n%s", diff)
	}
	// The pause is a length: it is what it was, wherever the database's clock goes.
	for _, jump := range []time.Duration{-time.Hour, 0} {
		if next, ok := a.next(at(3).Add(jump)); !ok || next != 2*time.Second {
			t.Errorf("next look after %v, want 2 s", next)
		}
	}
	all := func(store.ReadyTask) (bool, time.Time) { return true, time.Time{} }
	a.now = func() time.Time { return machine.Add(time.Second) }
	if diff := cmp.Diff([]int64{4}, a.takeTasks(at(4).Add(time.Hour), 10, all)); diff != "" {
		t.Errorf("an hour later by the database's clock, with app 1 held back (-want +got):\n%s", diff)
	}
	a.now = func() time.Time { return machine.Add(2 * time.Second) }
	if diff := cmp.Diff([]int64{1}, a.takeTasks(at(6), 1, all)); diff != "" {
		t.Errorf("one of two (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{2}, a.takeTasks(at(20), 10, all)); diff != "" {
		t.Errorf("the rest (-want +got):\n%s", diff)
	}
	if _, ok := a.next(at(20)); ok {
		t.Error("an empty queue has a next time")
	}
}
