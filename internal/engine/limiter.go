package engine

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// An App is what the daemon knows of an app beyond its row: how to push for it,
// and how fast. The fields are set before the App is used; later changes come
// through Reconfigure, so that calls under way end on the App they began on.
type App struct {
	Pusher                 dispatch.Pusher
	MaxInFlight            int     // calls under way at once; 0: no bound of its own
	CallsPerSecond         float64 // 0: no bound
	AllowAudienceSchedules bool
	Region                 string

	throttle throttle
}

// Limited says whether the app's rate is bounded by configuration. Such an app
// is served by one daemon at a time, so that the bound holds for all together;
// a bound of calls in flight is each daemon's own.
func (a *App) Limited() bool {
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	return a.CallsPerSecond > 0
}

// Reconfigure gives the App what another was made with. Calls that have begun
// go on as they are; a penalty of the provider stays. It is safe for concurrent
// use with everything but another Reconfigure from the same App.
func (a *App) Reconfigure(from *App) {
	t := &a.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.CallsPerSecond != from.CallsPerSecond && !t.slowed {
		t.limiter = nil // made anew with the new bound
	}
	a.Pusher, a.MaxInFlight, a.CallsPerSecond = from.Pusher, from.MaxInFlight, from.CallsPerSecond
	a.AllowAudienceSchedules, a.Region = from.AllowAudienceSchedules, from.Region
}

// pusher returns what pushes for the app now.
func (a *App) pusher() dispatch.Pusher {
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	return a.Pusher
}

// Qualify adds to a request what the configuration says now of the app's.
func (a *App) Qualify(r *dispatch.Request) {
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	r.AllowAudienceSchedules, r.Region = a.AllowAudienceSchedules, a.Region
}

// A throttle holds an app to its bounds, and slows it down for a while after
// the provider said that it is too fast.
type throttle struct {
	mu       sync.Mutex
	inFlight int
	limiter  *rate.Limiter // nil: no bound
	slowed   bool          // limiter is a penalty, not the configured bound
	resume   time.Time     // nothing begins before
	raised   time.Time     // when the penalty was last eased
	pace     pace
}

// begin asks for leave to begin a call now. When it is refused, retry says when
// to ask again; zero: when a call of the app has ended.
func (a *App) begin(now time.Time) (ok bool, retry time.Time) {
	t := &a.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.resume) {
		return false, t.resume
	}
	if a.MaxInFlight > 0 && t.inFlight >= a.MaxInFlight {
		return false, time.Time{}
	}
	if t.limiter == nil && a.CallsPerSecond > 0 {
		t.limiter = rate.NewLimiter(rate.Limit(a.CallsPerSecond), burst(a.CallsPerSecond))
	}
	if t.limiter != nil && !t.limiter.AllowN(now, 1) {
		wait := time.Duration(float64(time.Second) / float64(t.limiter.Limit()))
		return false, now.Add(max(wait/2, time.Millisecond))
	}
	t.inFlight++
	t.pace.add(now)
	return true, time.Time{}
}

// undo gives back the leave to begin a call that was not made.
func (a *App) undo() {
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	a.throttle.inFlight--
}

// end says what a call came to. A throttled call stops the app for as long as
// the provider said, at least a second, and lets it go on at half the pace it
// had; accepted calls then speed it up bit by bit, until the penalty is gone.
func (a *App) end(now time.Time, o dispatch.Outcome) {
	t := &a.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inFlight--
	switch {
	case o.Reason == dispatch.ReasonThrottled:
		t.slow(now, max(o.RetryAfter, time.Second), a.CallsPerSecond)
	case t.slowed && o.Class == dispatch.Accepted:
		t.recover(now, a.CallsPerSecond)
	}
}

// slow stops the app for a while. Calls that were under way then tell nothing
// new, unless the provider asks for longer.
func (t *throttle) slow(now time.Time, pause time.Duration, configured float64) {
	stopped := now.Before(t.resume)
	if until := now.Add(pause); until.After(t.resume) {
		t.resume = until
	}
	if stopped {
		return
	}
	half := max(t.pace.perSecond(now)/2, 1)
	if configured > 0 {
		half = min(half, configured)
	}
	t.limiter, t.slowed, t.raised = rate.NewLimiter(rate.Limit(half), 1), true, t.resume
}

// recoverFull is a pace at which a penalty no longer matters, and recoverEvery
// how often a penalty is eased by a tenth: the pace doubles in some 1.5 s.
const (
	recoverFull  = 10000
	recoverEvery = 200 * time.Millisecond
)

func (t *throttle) recover(now time.Time, configured float64) {
	if now.Sub(t.raised) < recoverEvery {
		return
	}
	t.raised = now
	faster := t.limiter.Limit() * 1.1
	bound := rate.Limit(recoverFull)
	if configured > 0 {
		bound = rate.Limit(configured)
	}
	if faster < bound {
		t.limiter.SetLimitAt(now, faster)
		t.limiter.SetBurstAt(now, burst(float64(faster)))
		return
	}
	t.slowed, t.limiter = false, nil // the configured bound, if any, is made anew
}

// burst lets a tenth of a second's calls begin together.
func burst(perSecond float64) int { return max(1, int(perSecond/10)) }

// pace counts the calls of the last one to two seconds.
type pace struct {
	second    int64
	last, now float64
}

func (p *pace) add(now time.Time) {
	p.turn(now)
	p.now++
}

func (p *pace) perSecond(now time.Time) float64 {
	p.turn(now)
	return max(p.last, p.now)
}

func (p *pace) turn(now time.Time) {
	switch s := now.Unix(); s {
	case p.second:
	case p.second + 1:
		p.second, p.last, p.now = s, p.now, 0
	default:
		p.second, p.last, p.now = s, 0, 0
	}
}
