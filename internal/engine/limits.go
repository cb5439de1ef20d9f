package engine

import (
	"context"
	"math"
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
	TargetsPerSecond       float64 // 0: no bound; the database's, which each heartbeat tells
	AllowAudienceSchedules bool
	Region                 string

	throttle throttle
}

// Limited says whether the app's rate is bounded, of calls or of targets. Such an
// app is served by one daemon at a time, so that the bound holds for all together;
// a bound of calls in flight is each daemon's own.
func (a *App) Limited() bool {
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	return a.CallsPerSecond > 0 || a.TargetsPerSecond > 0
}

// setTargetsPerSecond takes over the ceiling that the database has for the app, and
// says whether it is another. What earlier calls have still to pay they pay at the
// new rate.
func (a *App) setTargetsPerSecond(perSecond float64) (changed bool) {
	t := &a.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.TargetsPerSecond == perSecond {
		return false
	}
	if left := time.Until(t.paid); left > 0 && perSecond > 0 {
		t.paid = time.Now().Add(time.Duration(float64(left) * a.TargetsPerSecond / perSecond))
	}
	a.TargetsPerSecond = perSecond
	t.wakeAll() // the ceiling may be higher
	return true
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
	a.AllowAudienceSchedules, a.Region, a.TargetsPerSecond = from.AllowAudienceSchedules, from.Region, from.TargetsPerSecond
	t.wakeAll() // the bounds may be wider
}

// wakeAll has whoever waits for the app ask again. t.mu is held.
func (t *throttle) wakeAll() {
	for _, wake := range t.waiting {
		go wake()
	}
	t.waiting = nil
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
// the provider said that it is too fast. Its instants are readings of this
// machine's monotonic clock, never the database's: a pause lasts as long as it
// lasts, whatever is done to a clock.
type throttle struct {
	mu       sync.Mutex
	inFlight int
	limiter  *rate.Limiter // nil: no bound
	slowed   bool          // limiter is a penalty, not the configured bound
	resume   time.Time     // nothing begins before
	raised   time.Time     // when the penalty was last eased
	slowedAt time.Time     // when the penalty was last imposed
	growth   float64       // by which it is eased each time
	paid     time.Time     // until when the targets of earlier calls take the app's time, by its ceiling of targets
	given    amount        // what leaves are given for whose calls have not begun
	recent   lastSecond    // what has begun

	heavy   int64     // what the app's heaviest call of late weighs; zero: all were light
	weighed time.Time // when a call weighed as much last

	waiting []func()  // told once when there may be leave again
	first   time.Time // until then the next leave is kept for a task at its second
	yielded bool      // deliveries have had leave since it was last kept
}

// A leave is an app's permission to make one call. It holds the call's share of the
// app's bounds from when it is given until it ends.
type leave struct {
	app     *App
	targets int
	begun   bool // the call has begun, so that its share of the rates is spent
}

// begin asks for leave to make a call of so many targets now, for a task at its
// second. When it is refused, the leave is nil and retry says when to ask again; zero:
// when a call of the app has ended. The next leave is then kept for it, so that a
// large audience of the same app cannot take every one.
func (a *App) begin(now time.Time, targets int) (l *leave, retry time.Time) {
	t := &a.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	l, retry = a.ask(now, targets)
	switch {
	case l != nil:
		t.first = time.Time{}
	case t.yielded && !now.Before(t.resume):
		t.first, t.yielded = now.Add(keptFor), false
		if retry.After(now) {
			t.first = retry.Add(keptFor)
		}
	}
	return l, retry
}

// keptFor is how long a leave is kept beyond the moment at which there is one.
const keptFor = 20 * time.Millisecond

// leave asks for leave to make the call of a stored delivery now. When it is
// refused, the leave is nil and retry says when there will be one at the earliest;
// zero: when a call of the app has ended, of which wake is then told once.
func (a *App) leave(now time.Time, targets int, wake func()) (l *leave, retry time.Time) {
	t := &a.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.first) {
		return nil, t.first
	}
	l, retry = a.ask(now, targets)
	switch {
	case l != nil:
		t.yielded = true
	case retry.IsZero():
		t.waiting = append(t.waiting, wake)
	}
	return l, retry
}

// ask is begin and leave. t.mu is held.
func (a *App) ask(now time.Time, targets int) (l *leave, retry time.Time) {
	t := &a.throttle
	if now.Before(t.resume) {
		return nil, t.resume
	}
	if a.MaxInFlight > 0 && t.inFlight >= a.MaxInFlight || t.heavy > 0 && t.inFlight >= t.most(now) {
		return nil, time.Time{}
	}
	if free := t.paid.Add(-targetsTogether); a.TargetsPerSecond > 0 && free.After(now) {
		return nil, free
	}
	if room := a.room(now, targets); room.After(now) {
		return nil, room
	}
	if t.limiter == nil && a.CallsPerSecond > 0 {
		t.limiter = rate.NewLimiter(rate.Limit(a.CallsPerSecond), burst(a.CallsPerSecond))
	}
	if t.limiter != nil && !t.limiter.AllowN(now, 1) {
		missing := 1 - t.limiter.TokensAt(now)
		return nil, now.Add(max(time.Duration(missing/float64(t.limiter.Limit())*float64(time.Second)), time.Microsecond))
	}
	t.inFlight++
	t.given.add(1, targets)
	a.pay(now, targets)
	return &leave{app: a, targets: targets}, time.Time{}
}

// room returns when there is room for a call of so many targets, so that no second has
// more than the app's bounds, rounded up to whole calls. A call of more targets than
// the bound has the second to itself. t.mu is held.
func (a *App) room(now time.Time, targets int) time.Time {
	t := &a.throttle
	if a.CallsPerSecond <= 0 && a.TargetsPerSecond <= 0 { // the usual case
		return now
	}
	return t.recent.when(now, func(begun amount) bool {
		calls, sum := begun.calls+t.given.calls, begun.targets+t.given.targets
		return (a.CallsPerSecond <= 0 || float64(calls) < a.CallsPerSecond) &&
			(a.TargetsPerSecond <= 0 || sum == 0 || float64(sum)+float64(targets) <= a.TargetsPerSecond)
	})
}

// targetsTogether is how much of the app's time calls may have taken up ahead when
// another begins, by the ceiling of targets: a tenth of a second's begin together.
const targetsTogether = time.Second / 10

// pay takes the app's time for targets, by its ceiling; less than none gives it back.
// t.mu is held.
func (a *App) pay(now time.Time, targets int) {
	t := &a.throttle
	if a.TargetsPerSecond <= 0 || targets == 0 {
		return
	}
	if targets > 0 && t.paid.Before(now) {
		t.paid = now
	}
	t.paid = t.paid.Add(time.Duration(float64(targets) / a.TargetsPerSecond * float64(time.Second)))
}

// begins counts a call that begins now and names so many targets. l is the leave that
// it has; nil where none was asked for, since no call was expected.
func (a *App) begins(l *leave, now time.Time, targets int) {
	targets = max(targets, 1)
	asked := 0
	if l != nil {
		a, asked = l.app, l.targets
	}
	t := &a.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	if l != nil {
		t.given.add(-1, -asked)
		l.begun = true
	}
	a.pay(now, targets-asked)
	t.recent.add(now, targets)
}

// end says that the call counts no more as one in flight. Where it was not made, its
// share of the rates is given back. A nil leave holds nothing.
func (l *leave) end() {
	if l == nil {
		return
	}
	t := &l.app.throttle
	t.mu.Lock()
	t.inFlight--
	if !l.begun {
		if t.limiter != nil {
			t.limiter.AllowN(time.Now(), -1)
		}
		t.given.add(-1, -l.targets)
		l.app.pay(time.Time{}, -l.targets)
	}
	waiting := t.waiting
	t.waiting = nil
	t.mu.Unlock()
	for _, wake := range waiting {
		wake()
	}
}

// most is how many calls an app may have under way whose calls were heavy of late,
// so that few are claimed that find no room. t.mu is held.
func (t *throttle) most(now time.Time) int {
	if now.Sub(t.weighed) > heavyFor {
		t.heavy = 0
		return math.MaxInt
	}
	return int(max(heavyOfApp/t.heavy, 1))
}

// weigh keeps what a heavy call of the app weighs.
func (a *App) weigh(now time.Time, n int64) {
	t := &a.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	if n >= t.heavy || now.Sub(t.weighed) > heavyFor {
		t.heavy, t.weighed = n, now
	}
}

// heard says what a call came to that began at a moment. A throttled call stops the
// app for as long as the provider said, and lets it go on at half the pace it had;
// accepted calls then speed it up bit by bit, until the penalty is gone. Calls that
// were under way as the app was slowed down were too fast as well, and tell nothing
// new, unless the provider asks for a longer pause.
func (a *App) heard(began, now time.Time, o dispatch.Outcome) {
	t := &a.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	before := !began.After(t.slowedAt)
	switch {
	case o.Reason == dispatch.ReasonThrottled && before:
		t.stop(now.Add(o.RetryAfter))
	case o.Reason == dispatch.ReasonThrottled:
		t.slow(now, o.RetryAfter, a.CallsPerSecond)
	case t.slowed && o.Class == dispatch.Accepted && !before:
		t.recover(now, a.CallsPerSecond)
	}
}

// stop lets nothing begin until then.
func (t *throttle) stop(until time.Time) {
	if until.After(t.resume) {
		t.resume = until
	}
}

// slow stops the app for a while, and halves its pace. One throttled call may be an
// accident, or have come before the app had got going: it costs little beyond the
// provider's own pause. After another one within recoverWary of that pause's end the
// app is careful: it pauses longer, and comes back slowly.
func (t *throttle) slow(now time.Time, hint time.Duration, configured float64) {
	pause, pace := max(hint, pauseFirst), t.recent.pace(now, t.resume)
	t.growth = recoverFast
	if !t.slowedAt.IsZero() && now.Sub(t.resume) < recoverWary {
		pause, t.growth = max(hint, pauseAgain), recoverSlow
	}
	t.slowedAt = now
	t.stop(now.Add(pause))
	half := max(pace/2, 1)
	if configured > 0 {
		half = min(half, configured)
	}
	t.limiter, t.slowed, t.raised = rate.NewLimiter(rate.Limit(half), burst(half)), true, t.resume
	t.limiter.AllowN(t.resume, burst(half)-1) // one call begins at once, the others at the pace
}

// How long an app pauses after a throttled call at least, the first and another one;
// a pace at which a penalty no longer matters; and how often a penalty is eased. After
// one throttled call the pace doubles in some 0.4 s, after another one within
// recoverWary in some 1.8 s.
const (
	pauseFirst   = 100 * time.Millisecond
	pauseAgain   = time.Second
	recoverFull  = 10000
	recoverEvery = 200 * time.Millisecond
	recoverFast  = 1.41
	recoverSlow  = 1.08
	recoverWary  = 15 * time.Second
)

func (t *throttle) recover(now time.Time, configured float64) {
	if now.Sub(t.raised) < recoverEvery {
		return
	}
	t.raised = now
	faster := t.limiter.Limit() * rate.Limit(t.growth)
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

// A callLimit bounds the calls under way in this daemon: each holds a slot. The
// channel freed gets a value when a slot is free again after there was none, and
// when enough are free for a batch that is worth a claim. A callLimit is safe for
// concurrent use.
type callLimit struct {
	mu     sync.Mutex
	size   int
	free   int // less than zero while more are taken than there are since a resize
	enough int
	freed  chan struct{}
	spared chan struct{} // told when there are spare ones again after there were none
}

func newCallLimit(n int) *callLimit {
	l := &callLimit{freed: make(chan struct{}, 1), spared: make(chan struct{}, 1)}
	l.resize(n)
	return l
}

// resize changes how many slots there are. Calls under way keep theirs.
func (l *callLimit) resize(n int) {
	l.mu.Lock()
	more := n - l.size
	l.size, l.enough = n, max(n/2, 1)
	l.mu.Unlock()
	l.release(more)
}

// acquire takes up to n slots and returns how many it got.
func (l *callLimit) acquire(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = max(min(n, l.free), 0)
	l.free -= n
	return n
}

// release gives slots back.
func (l *callLimit) release(n int) {
	if n == 0 {
		return
	}
	l.mu.Lock()
	before := l.free
	l.free += n
	tell := before <= 0 && l.free > 0 || before < l.enough && l.free >= l.enough
	spare := before <= l.size/2-1 && l.free > l.size/2-1
	l.mu.Unlock()
	if tell {
		signal(l.freed)
	}
	if spare {
		signal(l.spared)
	}
}

// signal sends on a channel that holds one, unless it does already.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// scarce says that so few slots are free that it pays to wait a little for
// more before the next claim.
func (l *callLimit) scarce() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free < l.enough
}

// spare is how many slots are free beyond half of all, and one.
func (l *callLimit) spare() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free - l.size/2 + 1
}

// idle says that no call is under way.
func (l *callLimit) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free >= l.size
}

// available is how many slots are free now.
func (l *callLimit) available() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free
}

// A call weighs what it takes of this daemon's memory while it is under way: what it
// carries, as it was read and as it is encoded. Light calls are bounded by their
// number alone. Heavy ones come to heavyBytes together: an app that has one under
// way takes at most half of it, and leaves a quarter to apps that have none. So no
// author's calls keep another's out, and light calls never wait for heavy ones.
const (
	LightCall    = 256 << 10 // bytes that a light call weighs at most
	weightFactor = 4         // bytes of memory for a byte that a call carries
	heavyBytes   = 64 << 20
	heavyOfApp   = heavyBytes / 2
	heavyFor     = 10 * time.Second // how long it is remembered that an app's calls are heavy
)

// heavyCalls counts the bytes of the heavy calls under way. It is safe for
// concurrent use.
type heavyCalls struct {
	mu    sync.Mutex
	total int64
	held  map[*App]int64
}

func newHeavyCalls() *heavyCalls { return &heavyCalls{held: make(map[*App]int64)} }

// take asks for room for a call that weighs n. A call that is heavier than all
// there is goes when no other heavy one is under way.
func (h *heavyCalls) take(app *App, n int64) bool {
	if n <= LightCall {
		return true
	}
	app.weigh(time.Now(), n)
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.held[app]
	switch {
	case h.total == 0:
	case held == 0 && h.total+n <= heavyBytes:
	case held > 0 && held+n <= heavyOfApp && h.total+n <= heavyBytes/4*3:
	default:
		return false
	}
	h.held[app], h.total = held+n, h.total+n
	return true
}

// give gives the room of a call back.
func (h *heavyCalls) give(app *App, n int64) {
	if n <= LightCall {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total -= n
	if h.held[app] -= n; h.held[app] == 0 {
		delete(h.held, app)
	}
}

// weight is what a call of the compiled campaign to the targets weighs.
func (v *compiled) weight(targets []dispatch.Target) int64 {
	n := v.bytes
	for i := range targets {
		t := &targets[i]
		n += int64(len(t.Target) + len(t.MsgKey) + len(t.TemplateKeyValue) + len(t.ExtendedParams))
	}
	return n * weightFactor
}

// targetsAtOnce bounds the targets that are read at once with parameters of their
// own: each may have some 9 kB. One delivery or task is always read.
const targetsAtOnce = 1000

// fitting is how many of the items are read at once; size says how many targets
// one has.
func fitting[T any](items []T, size func(T) int) int {
	n, sum := 0, 0
	for n < len(items) {
		if sum += size(items[n]); sum > targetsAtOnce && n > 0 {
			break
		}
		n++
	}
	return n
}

// tooHeavy is why a call does not begin for which there is no room.
const tooHeavy = "the calls under way carry as much as they may"

// atOnce is how many items of early work are done between two rests.
const atOnce = 50

// pace sleeps as long as the work since began took, at most 20 ms, so that early
// work uses half a core at most and leaves room for what is due.
func pace(ctx context.Context, began time.Time) {
	sleep(ctx, min(time.Since(began), 20*time.Millisecond))
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
