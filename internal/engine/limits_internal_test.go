package engine

import (
	"math"
	"math/rand/v2"
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

// ends makes the call that there is leave for, and ends it a moment later.
func (a *App) ends(l *leave, now time.Time, o dispatch.Outcome) {
	began := now.Add(-time.Microsecond)
	a.begins(l, began, l.targets)
	a.heard(began, now, o)
	l.end()
}

func TestInFlightBound(t *testing.T) {
	t.Parallel()
	a := &App{MaxInFlight: 2}
	first, _ := a.begin(noon, 1)
	second, _ := a.begin(noon, 1)
	if first == nil || second == nil {
		t.Fatal("refused below the bound")
	}
	if l, retry := a.begin(noon, 1); l != nil || !retry.IsZero() {
		t.Fatalf("third call: %v, retry %v; want to wait for an end", l, retry)
	}
	first.end()
	if l, _ := a.begin(noon, 1); l == nil {
		t.Error("refused though leave was given back")
	}
	a.ends(second, noon, taken)
	if l, _ := a.begin(noon, 1); l == nil {
		t.Error("refused though a call has ended")
	}
}

// through begins and ends as many calls as are allowed from one moment for a
// while, asking every millisecond.
func through(a *App, from time.Time, d time.Duration) (n int) {
	for at := from; at.Before(from.Add(d)); at = at.Add(time.Millisecond) {
		for {
			l, _ := a.begin(at, 1)
			if l == nil {
				break
			}
			n++
			a.ends(l, at, taken)
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
	}{{0.5, 5, 6}, {1, 10, 10}, {25, 246, 250}, {500, 4938, 5000}} {
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
	l, retry := a.begin(noon, 1)
	if l != nil || !retry.After(noon) || retry.After(noon.Add(time.Second)) {
		t.Errorf("second call: %v, retry %v", l, retry)
	}
}

func TestThrottlingSlowsAndRecovers(t *testing.T) {
	t.Parallel()
	a := &App{}
	var under []*leave
	for i := range 100 { // 100 in a second
		at := noon.Add(time.Duration(i) * 10 * time.Millisecond)
		l, _ := a.begin(at, 1)
		a.begins(l, at, 1)
		under = append(under, l)
	}
	last := noon.Add(time.Second)
	a.heard(last.Add(-time.Microsecond), last, throttled(3*time.Second))
	a.heard(noon, last.Add(time.Millisecond), throttled(10*time.Second)) // another call under way is told to wait longer
	for _, l := range under {
		l.end()
	}
	for _, wait := range []time.Duration{0, 2 * time.Second, 9 * time.Second} {
		if l, retry := a.begin(last.Add(wait), 1); l != nil || !retry.Equal(last.Add(10*time.Second+time.Millisecond)) {
			t.Errorf("after %v: %v, retry %v; the provider said 10 s", wait, l, retry)
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
		leave *leave
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
			c.leave.end()
		}
		if p.accepted == p.calls {
			return now.Sub(noon)
		}
		for p.accepted+len(p.under) < p.calls {
			l, _ := p.app.leave(now, 1, func() {})
			if l == nil {
				break
			}
			p.app.begins(l, now, 1)
			p.begun++
			p.under = append(p.under, struct {
				began time.Time
				leave *leave
				dispatch.Outcome
			}{now, l, p.answers(p.begun, now)})
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

// A provider that takes so many calls a second is called about as often, and few of
// the calls are in vain. Where its seconds and the app's pauses keep step, more of its
// room is left.
func TestThrottledAppFindsItsPace(t *testing.T) {
	t.Parallel()
	var room, taken, begun float64
	for _, perSecond := range []int{70, 85, 100, 120, 150} {
		second, n := noon, 0
		p := &audience{calls: 1_000_000, answers: func(_ int, at time.Time) dispatch.Outcome {
			if at.Sub(second) >= time.Second {
				second, n = at, 0
			}
			if n++; n > perSecond {
				return throttled(0)
			}
			return dispatch.Outcome{Class: dispatch.Accepted}
		}}
		p.push(2 * time.Minute)
		room, taken, begun = room+float64(120*perSecond), taken+float64(p.accepted), begun+float64(p.begun)
		if p.accepted < 120*perSecond*11/20 {
			t.Errorf("%d calls were taken in two minutes, of at most %d", p.accepted, 120*perSecond)
		}
	}
	if taken < 0.6*room || begun-taken > begun/20 {
		t.Errorf("%.0f of %.0f calls were taken, of at most %.0f", taken, begun, room)
	}
}

// What was under way as an app was slowed down, and is answered after the pause,
// tells nothing new, unless the provider asks for a longer one.
func TestLateAnswersSlowNothing(t *testing.T) {
	t.Parallel()
	a := &App{}
	for range 20 {
		l, _ := a.begin(noon, 1)
		a.begins(l, noon, 1)
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
	if l, retry := a.begin(after, 1); l == nil {
		t.Errorf("refused until %v though the pause is over", retry)
	}
	a.heard(noon, after, throttled(2*time.Second))
	if l, retry := a.begin(after, 1); l != nil || !retry.Equal(after.Add(2*time.Second)) {
		t.Errorf("begin: %v, retry %v; the provider said 2 s", l, retry)
	}
}

func TestPenaltyIsNeverFasterThanTheBound(t *testing.T) {
	t.Parallel()
	a := &App{CallsPerSecond: 0.2}
	l, _ := a.begin(noon, 1)
	a.ends(l, noon, throttled(0))
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
		l, _ := a.begin(noon, 1)
		a.ends(l, noon, throttled(first))
		resume := noon.Add(max(first, 100*time.Millisecond))
		if l, retry := a.begin(resume.Add(-time.Millisecond), 1); l != nil || !retry.Equal(resume) {
			t.Errorf("begin: %v, retry %v", l, retry)
		}
		l, _ = a.begin(resume, 1)
		if l == nil {
			t.Fatal("refused after the pause")
		}
		soon := resume.Add(10 * time.Millisecond)
		a.ends(l, soon, throttled(0))
		if l, retry := a.begin(soon, 1); l != nil || !retry.Equal(soon.Add(time.Second)) {
			t.Errorf("after the second: %v, retry %v", l, retry)
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
		if l, _ := a.begin(noon, 1); l == nil {
			t.Fatalf("call %d is refused", i+1)
		}
	}
	if l, retry := a.begin(noon, 1); l != nil || !retry.IsZero() {
		t.Errorf("ninth call: %v, retry %v; want to wait for an end", l, retry)
	}
	if l, _ := a.begin(noon.Add(11*time.Second), 1); l == nil {
		t.Error("refused though no heavy call was seen for long")
	}
}

// asked asks for calls of so many targets, in turn, for a while: each time when it is
// told to, and a millisecond later at the earliest.
func asked(a *App, from time.Time, d time.Duration, targets ...int) (at []time.Time, n []int) {
	for now := from; now.Before(from.Add(d)); {
		m := targets[len(n)%len(targets)]
		l, retry := a.begin(now, m)
		if l == nil {
			if now = now.Add(time.Millisecond); retry.After(now) {
				now = retry
			}
			continue
		}
		a.ends(l, now, taken)
		at, n = append(at, now), append(n, m)
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

// The ceiling of targets per second is reached as nearly as whole calls can reach it.
func TestTargetsPerSecondBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		rate := rapid.SampledFrom([]float64{7, 50, 100, 999, 10_000}).Draw(rt, "targets per second")
		sizes := rapid.SliceOfN(rapid.SampledFrom([]int{1, 1, 10, 99, 100}), 1, 5).Draw(rt, "targets of the calls")
		a := &App{TargetsPerSecond: rate}
		largest := float64(slices.Max(sizes))
		seconds := max(20, math.Ceil(20*largest/rate)) // so long that a call more or less is little
		at, n := asked(a, noon, time.Duration(seconds)*time.Second, sizes...)
		sum, alone := 0.0, 0.0
		for _, m := range n {
			sum += float64(m)
			if float64(m) > rate {
				alone++
			}
		}
		reached := rate // in a second of small calls
		if largest <= rate && (len(slices.Compact(slices.Sorted(slices.Values(sizes)))) > 1 || math.Mod(rate, largest) > 0) {
			reached = rate - largest + 1
		}
		if least := 0.95 * reached * (seconds - 1.1*alone); sum < least-largest || sum > rate*(seconds+0.1)+largest {
			rt.Errorf("%v targets per second on the whole, the bound is %v", sum/seconds, rate)
		}
		if most := mostIn(at, n); float64(most) > max(rate, largest) {
			rt.Errorf("%d targets begin within a second, the bound is %v, a call has up to %v", most, rate, largest)
		}
	})
}

// No second has more calls, or more targets, than the bounds: whenever the calls begin
// that have leave, whether some are not made or name other targets than they had leave
// for, and though some are longer on their way than others.
func TestNoSecondIsAboveTheBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		a := &App{
			CallsPerSecond:   rapid.SampledFrom([]float64{0, 0.5, 1, 2.5, 20, 200}).Draw(rt, "calls per second"),
			TargetsPerSecond: rapid.SampledFrom([]float64{0, 10, 100, 1000, 20_000}).Draw(rt, "targets per second"),
		}
		largest := rapid.SampledFrom([]int{1, 10, 100}).Draw(rt, "targets of a call at most")
		slow := rapid.SampledFrom([]int{1, 30, 400}).Draw(rt, "ms from leave to call at most")
		const milliseconds = 5000
		var under [milliseconds + 400][]*leave // by the millisecond of the call
		var at []time.Time
		var targets, ones []int
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		for ms := range milliseconds {
			now := noon.Add(time.Duration(ms) * time.Millisecond)
			for random.IntN(50) > 0 {
				l, retry := a.begin(now, 1+random.IntN(largest))
				if l == nil {
					if !retry.After(now) {
						rt.Fatalf("refused until %v, which is not after %v", retry, now)
					}
					break
				}
				call := ms + random.IntN(slow)
				under[call] = append(under[call], l)
			}
			for _, l := range under[ms] {
				if random.IntN(10) > 0 {
					n := max(l.targets-random.IntN(2), 1)
					a.begins(l, now, n)
					at = append(at, now.Add(time.Duration(random.IntN(7))*time.Millisecond))
					targets, ones = append(targets, n), append(ones, 1)
				}
				l.end()
			}
		}
		for _, late := range under[milliseconds:] {
			for _, l := range late {
				l.end()
			}
		}
		if a.throttle.inFlight != 0 || a.throttle.given != (amount{}) {
			rt.Errorf("all is over, and %d are in flight, %+v given", a.throttle.inFlight, a.throttle.given)
		}
		byArrival(at, targets)
		if most := mostIn(at, ones); a.CallsPerSecond > 0 && float64(most) > math.Ceil(a.CallsPerSecond) {
			rt.Errorf("%d calls arrive within a second, the bound is %v", most, a.CallsPerSecond)
		}
		if most := mostIn(at, targets); a.TargetsPerSecond > 0 && float64(most) > max(a.TargetsPerSecond, float64(largest)) {
			rt.Errorf("%d targets arrive within a second, the bound is %v", most, a.TargetsPerSecond)
		}
	})
}

// byArrival orders the calls by when they arrive.
func byArrival(at []time.Time, targets []int) {
	type call struct {
		at      time.Time
		targets int
	}
	calls := make([]call, len(at))
	for i := range at {
		calls[i] = call{at[i], targets[i]}
	}
	slices.SortFunc(calls, func(a, b call) int { return a.at.Compare(b.at) })
	for i, c := range calls {
		at[i], targets[i] = c.at, c.targets
	}
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
	if l, retry := a.begin(noon.Add(10*time.Second), 1); l != nil || retry.Sub(at[5]) != 2*time.Second {
		t.Errorf("another call: %v, retry %v after the last", l, retry.Sub(at[5]))
	}
}

// What a call did not use of its leave, and what it needs beyond it.
func TestTargetsAreCounted(t *testing.T) {
	t.Parallel()
	a := &App{TargetsPerSecond: 100}
	now := time.Now()
	l, _ := a.begin(now, 100)
	if l, _ := a.begin(now, 1); l != nil {
		t.Error("a call begins while the one before it takes a second")
	}
	l.end()
	if l, _ = a.begin(now, 1); l == nil {
		t.Fatal("refused though leave was given back")
	}
	a.begins(l, now, 100)
	if l, retry := a.begin(now, 1); l != nil || retry.Sub(now).Round(time.Millisecond) != 900*time.Millisecond {
		t.Errorf("a call of 100 targets that had leave for one: %v, retry after %v", l, retry.Sub(now))
	}
	a.begins(nil, now, 50) // a call for which no leave was asked
	if l, retry := a.begin(now, 1); l != nil || retry.Sub(now).Round(time.Millisecond) != 1400*time.Millisecond {
		t.Errorf("with another call of 50: %v, retry after %v", l, retry.Sub(now))
	}
	if a.setTargetsPerSecond(100) || !a.setTargetsPerSecond(1000) {
		t.Error("the change of the bound")
	}
	if l, retry := a.begin(now, 1); l == nil && retry.Sub(now) > 500*time.Millisecond {
		t.Errorf("at ten times the rate: %v, retry after %v", l, retry.Sub(now))
	}
	a.setTargetsPerSecond(0)
	if l, _ := a.begin(now, 1000); l == nil || a.Limited() {
		t.Errorf("without a bound: %v, limited %v", l, a.Limited())
	}
}
