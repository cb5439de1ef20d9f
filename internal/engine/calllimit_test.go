package engine_test

import (
	"sync"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// A reload changes the slots while the loops look at them. The race detector is
// the judge.
func TestSlotsAreResizedInUse(t *testing.T) {
	t.Parallel()
	s := engine.NewCallLimit(8)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 1000 {
				s.Look()
			}
		})
	}
	for n := range 1000 {
		s.Resize(1 + n%16)
	}
	wg.Wait()
}
