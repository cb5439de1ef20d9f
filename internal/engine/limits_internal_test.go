package engine

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

var (
	noon  = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	taken = dispatch.Outcome{Class: dispatch.Accepted}
)

func throttled(hint time.Duration) dispatch.Outcome {
	return dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled, RetryAfter: hint}
}

// end ends a call that began a moment ago.
func (a *App) end(now time.Time, o dispatch.Outcome) {
	a.heard(now.Add(-time.Microsecond), now, o)
	a.free()
}

func TestInFlightBound(t *testing.T) {
	t.Parallel()
	a := &App{MaxInFlight: 2}
	for range 2 {
		if ok, _ := a.begin(noon, 1); !ok {
			t.Fatal("refused below the bound")
		}
	}
	if ok, retry := a.begin(noon, 1); ok || !retry.IsZero() {
		t.Fatalf("third call: %v, retry %v; want to wait for an end", ok, retry)
	}
	a.undo(1)
	if ok, _ := a.begin(noon, 1); !ok {
		t.Error("refused though leave was given back")
	}
	a.end(noon, taken)
	if ok, _ := a.begin(noon, 1); !ok {
		t.Error("refused though a call has ended")
	}
}

// through begins and ends as many calls as are allowed from one moment for a
// while, asking every millisecond.
func through(a *App, from time.Time, d time.Duration) (n int) {
	for at := from; at.Before(from.Add(d)); at = at.Add(time.Millisecond) {
		for {
			ok, _ := a.begin(at, 1)
			if !ok {
				break
			}
			n++
			a.end(at, taken)
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
		a := &App{CallsPerSecond: c.rate}
		if n := through(a, noon, 10*time.Second); n < c.min || n > c.max {
			t.Errorf("%v calls per second: %d in 10 s", c.rate, n)
		}
	}
}

func TestRetryIsWithinReach(t *testing.T) {
	t.Parallel()
	a := &App{CallsPerSecond: 2}
	a.begin(noon, 1)
	ok, retry := a.begin(noon, 1)
	if ok || !retry.After(noon) || retry.After(noon.Add(time.Second)) {
		t.Errorf("second call: %v, retry %v", ok, retry)
	}
}

func TestThrottlingSlowsAndRecovers(t *testing.T) {
	t.Parallel()
	a := &App{}
	for i := range 100 { // 100 in a second
		a.begin(noon.Add(time.Duration(i)*10*time.Millisecond), 1)
	}
	last := noon.Add(time.Second)
	for range 98 {
		a.end(last, taken)
	}
	a.end(last, throttled(3*time.Second))
	a.heard(noon, last.Add(time.Millisecond), throttled(10*time.Second)) // another call under way is told to wait longer
	a.free()
	for _, wait := range []time.Duration{0, 2 * time.Second, 9 * time.Second} {
		if ok, retry := a.begin(last.Add(wait), 1); ok || !retry.Equal(last.Add(10*time.Second+time.Millisecond)) {
			t.Errorf("after %v: %v, retry %v; the provider said 10 s", wait, ok, retry)
		}
	}
	resume := last.Add(10*time.Second + time.Millisecond)
	if n := through(a, resume, 400*time.Millisecond); n < 20 || n > 40 {
		t.Errorf("%d calls in the first 0.4 s after the pause, of a pace of 100 a second before it", n)
	}
	if n := through(a, resume.Add(time.Second), 30*time.Second); n < 1_000_000 {
		t.Errorf("%d calls in the 30 s after: it never recovered", n)
	}
}

// An audience is 2,000 calls, or as many as there is time for, at a provider that
// answers after 50 ms, 64 at once. It has a clock of its own.
type audience struct {
	calls    int
	app      *App
	answers  func(n int, at time.Time) dispatch.Outcome // to the call of that number
	begun    int
	accepted int
	under    []struct { // the calls under way, the earliest first
		began time.Time
		dispatch.Outcome
	}
}

// push makes the calls, those that were throttled again, and returns how long it took.
func (p *audience) push(within time.Duration) time.Duration {
	const takes = 50 * time.Millisecond
	p.app = &App{MaxInFlight: 64}
	for now := noon; now.Sub(noon) < within; now = now.Add(time.Millisecond) {
		for len(p.under) > 0 && now.Sub(p.under[0].began) >= takes {
			c := p.under[0]
			p.under = p.under[1:]
			if c.Class == dispatch.Accepted {
				p.accepted++
			}
			p.app.heard(c.began, now, c.Outcome)
			p.app.free()
		}
		if p.accepted == p.calls {
			return now.Sub(noon)
		}
		for p.accepted+len(p.under) < p.calls {
			if ok, _ := p.app.leave(now, 1, func() {}); !ok {
				break
			}
			p.begun++
			p.under = append(p.under, struct {
				began time.Time
				dispatch.Outcome
			}{now, p.answers(p.begun, now)})
		}
	}
	return within
}

// One throttled call costs an audience at most a fifth of its time beyond the pause
// that the provider asked for.
func TestOneThrottledCallCostsLittle(t *testing.T) {
	t.Parallel()
	always := func(int, time.Time) dispatch.Outcome { return taken }
	without := (&audience{calls: 2000, answers: always}).push(time.Minute)
	for _, hint := range []time.Duration{0, 300 * time.Millisecond, 3 * time.Second} {
		for _, which := range []int{100, 500, 1000, 1900} {
			took := (&audience{calls: 2000, answers: func(n int, _ time.Time) dispatch.Outcome {
				if n == which {
					return throttled(hint)
				}
				return taken
			}}).push(time.Minute)
			if took < hint || took-hint > without*6/5 {
				t.Errorf("call %d throttled with a pause of %v: %v, without %v", which, hint, took, without)
			}
		}
	}
}

// A provider that throttles every call is hardly called any more.
func TestThrottledForGoodIsHardlyCalled(t *testing.T) {
	t.Parallel()
	late := 0
	p := &audience{calls: 2000, answers: func(_ int, at time.Time) dispatch.Outcome {
		if at.Sub(noon) > 10*time.Second {
			late++
		}
		return throttled(0)
	}}
	p.push(time.Minute)
	if p.begun > 160 || late > 50 {
		t.Errorf("%d calls in a minute, %d of them after 10 s", p.begun, late)
	}
}

// A provider that takes 100 calls a second is called about as often, and few of the
// calls are in vain.
func TestThrottledAppFindsItsPace(t *testing.T) {
	t.Parallel()
	second, n := noon, 0
	p := &audience{calls: 1_000_000, answers: func(_ int, at time.Time) dispatch.Outcome {
		if at.Sub(second) >= time.Second {
			second, n = at, 0
		}
		if n++; n > 100 {
			return throttled(0)
		}
		return taken
	}}
	p.push(2 * time.Minute)
	if p.accepted < 7000 {
		t.Errorf("%d calls were taken in two minutes, of at most 12,000", p.accepted)
	}
	if vain := p.begun - p.accepted; vain > p.begun/20 {
		t.Errorf("%d of %d calls were throttled", vain, p.begun)
	}
}

// What was under way as an app was slowed down, and is answered after the pause,
// tells nothing new, unless the provider asks for a longer one.
func TestLateAnswersSlowNothing(t *testing.T) {
	t.Parallel()
	a := &App{}
	for range 20 {
		a.begin(noon, 1)
	}
	a.heard(noon, noon.Add(time.Millisecond), throttled(0))
	pace := a.throttle.limiter.Limit()
	after := noon.Add(200 * time.Millisecond)
	for range 10 {
		a.heard(noon, after, throttled(0))
	}
	if now := a.throttle.limiter.Limit(); now != pace {
		t.Errorf("%v calls a second after late answers, %v before", now, pace)
	}
	if ok, retry := a.begin(after, 1); !ok {
		t.Errorf("refused until %v though the pause is over", retry)
	}
	a.heard(noon, after, throttled(2*time.Second))
	if ok, retry := a.begin(after, 1); ok || !retry.Equal(after.Add(2*time.Second)) {
		t.Errorf("begin: %v, retry %v; the provider said 2 s", ok, retry)
	}
}

func TestPenaltyIsNeverFasterThanTheBound(t *testing.T) {
	t.Parallel()
	a := &App{CallsPerSecond: 0.2}
	a.begin(noon, 1)
	a.end(noon, throttled(0))
	if n := through(a, noon.Add(2*time.Second), 60*time.Second); n > 14 {
		t.Errorf("%d calls in a minute, at 0.2 per second", n)
	}
	if n := through(a, noon.Add(10*time.Minute), 100*time.Second); n < 19 || n > 22 {
		t.Errorf("%d calls in 100 s after the recovery, at 0.2 per second", n)
	}
}

// A throttled answer without a hint still stops the app for a moment, and for longer
// when it comes soon after the pause of another, however long that was.
func TestThrottlingWithoutAHint(t *testing.T) {
	t.Parallel()
	for _, first := range []time.Duration{0, time.Minute} {
		a := &App{}
		a.begin(noon, 1)
		a.end(noon, throttled(first))
		resume := noon.Add(max(first, 100*time.Millisecond))
		if ok, retry := a.begin(resume.Add(-time.Millisecond), 1); ok || !retry.Equal(resume) {
			t.Errorf("begin: %v, retry %v", ok, retry)
		}
		if ok, _ := a.begin(resume, 1); !ok {
			t.Error("refused after the pause")
		}
		soon := resume.Add(10 * time.Millisecond)
		a.end(soon, throttled(0))
		if ok, retry := a.begin(soon, 1); ok || !retry.Equal(soon.Add(time.Second)) {
			t.Errorf("after the second: %v, retry %v", ok, retry)
		}
	}
}

// A reload changes the slots while the loops look at them. The race detector is
// the judge.
func TestSlotsAreResizedInUse(t *testing.T) {
	t.Parallel()
	s := newCallLimit(8)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 1000 {
				s.release(s.acquire(1))
				s.scarce()
				s.spare()
				s.available()
			}
		})
	}
	for n := range 1000 {
		s.resize(1 + n%16)
	}
	wg.Wait()
}

// What an app's calls weigh is counted, light calls apart: it leaves room for
// other apps, and what is heavier than all the room there is goes alone.
func TestHeavyCalls(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	a, b, c := &App{}, &App{}, &App{}
	type step struct {
		app   *App
		bytes int64
		want  bool
	}
	for name, steps := range map[string][]step{
		"an app takes half":              {{a, 16 * mb, true}, {a, 16 * mb, true}, {a, 1 * mb, false}, {b, 16 * mb, true}, {b, 1 * mb, false}},
		"a quarter is for others":        {{a, 32 * mb, true}, {b, 16 * mb, true}, {b, 1 * mb, false}, {c, 16 * mb, true}, {c, 1 * mb, false}},
		"light calls take nothing":       {{a, 64 * mb, true}, {b, 1 * mb, false}, {b, 256 << 10, true}, {b, 256 << 10, true}},
		"the heaviest goes alone":        {{a, 1000 * mb, true}, {b, 1 * mb, false}, {a, -1000 * mb, true}, {b, 1 * mb, true}, {a, 1000 * mb, false}},
		"what was given back is room":    {{a, 32 * mb, true}, {a, 1 * mb, false}, {a, -32 * mb, true}, {a, 1 * mb, true}, {a, 31 * mb, true}},
		"more than the half of an app's": {{a, 40 * mb, true}, {a, 1 * mb, false}},
	} {
		h := newHeavyCalls()
		for i, s := range steps {
			if s.bytes < 0 {
				h.give(s.app, -s.bytes)
				continue
			}
			if got := h.take(s.app, s.bytes); got != s.want {
				t.Errorf("%s: step %d: %v, want %v", name, i+1, got, s.want)
			}
		}
	}
}

// An app whose calls are heavy is given leave for as many as there is room for,
// until they have been light for a while.
func TestHeavyAppBeginsFewer(t *testing.T) {
	t.Parallel()
	a := &App{}
	a.weigh(noon, 4<<20)
	for i := range 8 {
		if ok, _ := a.begin(noon, 1); !ok {
			t.Fatalf("call %d is refused", i+1)
		}
	}
	if ok, retry := a.begin(noon, 1); ok || !retry.IsZero() {
		t.Errorf("ninth call: %v, retry %v; want to wait for an end", ok, retry)
	}
	if ok, _ := a.begin(noon.Add(11*time.Second), 1); !ok {
		t.Error("refused though no heavy call was seen for long")
	}
}

// asked asks every millisecond for calls of so many targets, in turn, for a while.
func asked(a *App, from time.Time, d time.Duration, targets ...int) (at []time.Time, n []int) {
	for now := from; now.Before(from.Add(d)); now = now.Add(time.Millisecond) {
		for {
			m := targets[len(n)%len(targets)]
			if ok, _ := a.begin(now, m); !ok {
				break
			}
			a.end(now, taken)
			at, n = append(at, now), append(n, m)
		}
	}
	return at, n
}

// mostIn is the most targets of calls that begin within a second.
func mostIn(at []time.Time, n []int) (most int) {
	for i, sum, first := 0, 0, 0; i < len(at); i++ {
		for sum += n[i]; at[i].Sub(at[first]) >= time.Second; first++ {
			sum -= n[first]
		}
		most = max(most, sum)
	}
	return most
}

// The ceiling of targets per second is reached and not passed: in any second begin
// at most its targets, a tenth of them, and those of one call.
func TestTargetsPerSecondBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		rate := rapid.SampledFrom([]float64{7, 50, 100, 999, 10_000}).Draw(rt, "targets per second")
		sizes := rapid.SliceOfN(rapid.SampledFrom([]int{1, 1, 10, 99, 100}), 1, 5).Draw(rt, "targets of the calls")
		a := &App{TargetsPerSecond: rate}
		largest := float64(slices.Max(sizes))
		seconds := max(20, math.Ceil(20*largest/rate)) // so long that a call more or less is little
		at, n := asked(a, noon, time.Duration(seconds)*time.Second, sizes...)
		sum := 0
		for _, m := range n {
			sum += m
		}
		if got := float64(sum); got < 0.95*rate*seconds-largest || got > rate*(seconds+0.1)+largest {
			rt.Errorf("%v targets per second on the whole, the bound is %v", got/seconds, rate)
		}
		if most := mostIn(at, n); float64(most) > 1.1*rate+largest {
			rt.Errorf("%d targets begin within a second, the bound is %v, a call has up to %v", most, rate, largest)
		}
	})
}

// A call of more targets than the bound is made, and pays for them.
func TestLargeCallTakesItsTime(t *testing.T) {
	t.Parallel()
	a := &App{TargetsPerSecond: 50}
	at, _ := asked(a, noon, 10*time.Second, 100)
	for i := 1; i < len(at); i++ {
		if d := at[i].Sub(at[i-1]); d < 1900*time.Millisecond || d > 2001*time.Millisecond {
			t.Errorf("call %d came %v after the one before it", i+1, d)
		}
	}
	if len(at) != 6 {
		t.Errorf("%d calls in 10 s, want 6", len(at))
	}
	if ok, retry := a.begin(noon.Add(10*time.Second), 1); ok || retry.Sub(at[5]) != 2*time.Second {
		t.Errorf("another call: %v, retry %v after the last", ok, retry.Sub(at[5]))
	}
}

// What a call did not use of its leave, and what it needs beyond it.
func TestTargetsAreCounted(t *testing.T) {
	t.Parallel()
	a := &App{TargetsPerSecond: 100}
	now := time.Now()
	a.begin(now, 100)
	if ok, _ := a.begin(now, 1); ok {
		t.Error("a call begins while the one before it takes a second")
	}
	a.undo(100)
	if ok, _ := a.begin(now, 1); !ok {
		t.Error("refused though leave was given back")
	}
	a.counted(now, 99)
	if ok, retry := a.begin(now, 1); ok || retry.Sub(now).Round(time.Millisecond) != 900*time.Millisecond {
		t.Errorf("a call of 100 targets that was taken for one: %v, retry after %v", ok, retry.Sub(now))
	}
	if a.setTargetsPerSecond(100) || !a.setTargetsPerSecond(1000) {
		t.Error("the change of the bound")
	}
	if ok, retry := a.begin(now, 1); !ok && retry.Sub(now) > 500*time.Millisecond {
		t.Errorf("at ten times the rate: %v, retry after %v", ok, retry.Sub(now))
	}
	a.setTargetsPerSecond(0)
	if ok, _ := a.begin(now, 1000); !ok || a.Limited() {
		t.Errorf("without a bound: %v, limited %v", ok, a.Limited())
	}
}
