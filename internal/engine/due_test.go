package engine_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// What was read while a task was being begun shows it as it was before: it is not
// taken in again. A reading after that may find it, as when it is tried again.
func TestDueQueueKnowsWhatIsBeingBegun(t *testing.T) {
	t.Parallel()
	a := engine.NewDueQueue()
	task := store.ReadyTask{ID: 1, AppNo: 1, ReadyAt: noon}
	all := func(store.ReadyTask) (bool, time.Time) { return true, time.Time{} }
	take := func(when string, want []int64) {
		t.Helper()
		if diff := cmp.Diff(want, a.Take(noon, 10, all)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		if n := a.Len(); n != 0 {
			t.Errorf("%s: %d tasks wait", when, n)
		}
	}
	a.Reading()
	a.Add(task)
	take("at first", []int64{1})
	a.Reading()
	a.Add(task)
	take("read while it is being begun", nil)
	a.Clear()
	a.Add(task)
	take("read while it is being begun, though the queue was cleared", nil)
	a.Reading()
	a.Done(1)
	a.Add(task)
	take("read before its beginning was over", nil)
	a.Reading()
	a.Add(task)
	take("read after its beginning was over", []int64{1})
	a.Done(1)
	a.PutBack(task)
	a.Reading()
	if n := a.Len(); n != 1 {
		t.Errorf("%d tasks wait, want the one that was put back", n)
	}
	take("put back", []int64{1})
	a.Reading()
	a.Add(task)
	take("begun again", nil)
}

// An app that is held back keeps no other from its time.
func TestDueQueue(t *testing.T) {
	t.Parallel()
	a := engine.NewDueQueue()
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	task := func(id int64, app int32, s int) store.ReadyTask {
		return store.ReadyTask{ID: id, AppNo: app, ReadyAt: at(s)}
	}
	a.Add(task(1, 1, 0), task(2, 1, 1), task(3, 2, 2), task(4, 2, 9), task(1, 1, 0))
	machine := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC) // whatever this machine's clock says
	a.At(machine)
	slow := func(t store.ReadyTask) (bool, time.Time) { return t.AppNo != 1, machine.Add(2 * time.Second) }
	if diff := cmp.Diff([]int64{3}, a.Take(at(3), 10, slow)); diff != "" {
		t.Errorf("while app 1 is held back (-want +got):\n%s", diff)
	}
	// The pause is a length: it is what it was, wherever the database's clock goes.
	for _, jump := range []time.Duration{-time.Hour, 0} {
		if next, ok := a.Next(at(3).Add(jump)); !ok || next != 2*time.Second {
			t.Errorf("next look after %v, want 2 s", next)
		}
	}
	all := func(store.ReadyTask) (bool, time.Time) { return true, time.Time{} }
	a.At(machine.Add(time.Second))
	if diff := cmp.Diff([]int64{4}, a.Take(at(4).Add(time.Hour), 10, all)); diff != "" {
		t.Errorf("an hour later by the database's clock, with app 1 held back (-want +got):\n%s", diff)
	}
	a.At(machine.Add(2 * time.Second))
	if diff := cmp.Diff([]int64{1}, a.Take(at(6), 1, all)); diff != "" {
		t.Errorf("one of two (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{2}, a.Take(at(20), 10, all)); diff != "" {
		t.Errorf("the rest (-want +got):\n%s", diff)
	}
	if _, ok := a.Next(at(20)); ok {
		t.Error("an empty queue has a next time")
	}
}
