package engine_test

import (
	"sync"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func TestInFlightBound(t *testing.T) {
	t.Parallel()
	a := &engine.App{MaxInFlight: 2}
	for range 2 {
		if ok, _ := a.Begin(noon); !ok {
			t.Fatal("refused below the bound")
		}
	}
	if ok, retry := a.Begin(noon); ok || !retry.IsZero() {
		t.Fatalf("third call: %v, retry %v; want to wait for an end", ok, retry)
	}
	a.Undo()
	if ok, _ := a.Begin(noon); !ok {
		t.Error("refused though leave was given back")
	}
	a.End(noon, accepted)
	if ok, _ := a.Begin(noon); !ok {
		t.Error("refused though a call has ended")
	}
}

// through begins and ends as many calls as are allowed from one moment for a
// while, asking every millisecond.
func through(a *engine.App, from time.Time, d time.Duration) (n int) {
	for at := from; at.Before(from.Add(d)); at = at.Add(time.Millisecond) {
		for {
			ok, _ := a.Begin(at)
			if !ok {
				break
			}
			n++
			a.End(at, accepted)
			if n > 1_000_000 {
				return n // no bound at all
			}
		}
	}
	return n
}

func TestCallsPerSecondBound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate     float64
		min, max int // calls in ten seconds
	}{{0.5, 5, 6}, {1, 10, 11}, {25, 250, 253}, {500, 5000, 5051}} {
		a := &engine.App{CallsPerSecond: c.rate}
		if n := through(a, noon, 10*time.Second); n < c.min || n > c.max {
			t.Errorf("%v calls per second: %d in 10 s", c.rate, n)
		}
	}
}

func TestRetryIsWithinReach(t *testing.T) {
	t.Parallel()
	a := &engine.App{CallsPerSecond: 2}
	a.Begin(noon)
	ok, retry := a.Begin(noon)
	if ok || !retry.After(noon) || retry.After(noon.Add(time.Second)) {
		t.Errorf("second call: %v, retry %v", ok, retry)
	}
}

func throttled(hint time.Duration) dispatch.Outcome {
	return dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled, RetryAfter: hint}
}

func TestThrottlingSlowsAndRecovers(t *testing.T) {
	t.Parallel()
	a := &engine.App{}
	for range 100 { // 100 in a second
		a.Begin(noon)
	}
	for range 98 {
		a.End(noon, accepted)
	}
	a.End(noon, throttled(3*time.Second))
	a.End(noon.Add(time.Millisecond), throttled(10*time.Second)) // another call under way is told to wait longer
	for _, wait := range []time.Duration{0, 2 * time.Second, 9 * time.Second} {
		if ok, retry := a.Begin(noon.Add(wait)); ok || !retry.Equal(noon.Add(10*time.Second+time.Millisecond)) {
			t.Errorf("after %v: %v, retry %v; the provider said 10 s", wait, ok, retry)
		}
	}
	resume := noon.Add(11 * time.Second)
	first := through(a, resume, time.Second)
	if first < 40 || first > 90 {
		t.Errorf("%d calls in the first second after the pause, of a pace of 100 before it", first)
	}
	if n := through(a, resume.Add(time.Second), 30*time.Second); n < 1_000_000 {
		t.Errorf("%d calls in the 30 s after: it never recovered", n)
	}
}

func TestPenaltyIsNeverFasterThanTheBound(t *testing.T) {
	t.Parallel()
	a := &engine.App{CallsPerSecond: 0.2}
	a.Begin(noon)
	a.End(noon, throttled(0))
	if n := through(a, noon.Add(2*time.Second), 60*time.Second); n > 14 {
		t.Errorf("%d calls in a minute, at 0.2 per second", n)
	}
	if n := through(a, noon.Add(10*time.Minute), 100*time.Second); n < 19 || n > 22 {
		t.Errorf("%d calls in 100 s after the recovery, at 0.2 per second", n)
	}
}

// A throttled answer without a hint still stops the app for a moment.
func TestThrottlingWithoutAHint(t *testing.T) {
	t.Parallel()
	a := &engine.App{}
	a.Begin(noon)
	a.End(noon, throttled(0))
	if ok, retry := a.Begin(noon.Add(500 * time.Millisecond)); ok || !retry.Equal(noon.Add(time.Second)) {
		t.Errorf("begin: %v, retry %v", ok, retry)
	}
	if ok, _ := a.Begin(noon.Add(time.Second)); !ok {
		t.Error("refused after the pause")
	}
}

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
