package engine_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// What was read while a task was being begun shows it as it was before: it is not
// taken in again. A reading after that may find it, as when it is tried again.
func TestAgendaKnowsWhatIsBeingBegun(t *testing.T) {
	t.Parallel()
	a := engine.NewAgenda()
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
	take("read while it is being begun, though the agenda was cleared", nil)
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
