package dispatchtest

import (
	"sync"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

const (
	goroutines = 32
	each       = 16
)

// testConcurrency has many goroutines share one pusher and one message, and wants
// every call to be whole, accepted and unlike every other. Run it with -race.
func (s Subject) testConcurrency(t *testing.T) {
	t.Parallel()
	r := s.answer(t, s.Accepted)
	outcomes := make(chan dispatch.Outcome, goroutines*each)
	var running sync.WaitGroup
	for range goroutines {
		running.Go(func() {
			for range each {
				outcomes <- r.pusher.Push(t.Context(), r.next())
			}
		})
	}
	running.Wait()
	close(outcomes)
	for o := range outcomes {
		s.checkOutcome(t, o)
		want(t, o, dispatch.Accepted)
	}
	calls := r.recorded()
	if len(calls) != goroutines*each {
		t.Errorf("%d calls arrived, want %d", len(calls), goroutines*each)
	}
	for _, c := range calls {
		if s.Check == nil {
			break
		}
		if err := s.Check(c); err != nil {
			t.Errorf("a call is not whole: %v", err)
		}
	}
	checkDistinct(t, "nonce", s.Nonce, calls)
	checkDistinct(t, "delivery id", s.DeliveryID, calls)
}

// checkDistinct wants find to find something else in every call.
func checkDistinct(t *testing.T, what string, find func(Call) string, calls []Call) {
	t.Helper()
	if find == nil {
		return
	}
	seen := map[string]bool{}
	for _, c := range calls {
		v := find(c)
		if v == "" || seen[v] {
			t.Errorf("%s %q is empty or was used before", what, v)
		}
		seen[v] = true
	}
}
