package engine

import (
	"sync"
	"time"
)

// A planQueue holds the apps that are to be planned, each once. A worker takes
// one app at a time. A plan that is asked for while the app is being planned is
// made afterwards. The instants are of this machine's monotonic clock. It is
// safe for concurrent use.
type planQueue struct {
	mu    sync.Mutex
	apps  map[int32]*queuedApp
	added chan struct{} // wakes one worker, which wakes the next
}

// A queuedApp is an app that is to be planned, or is being planned.
type queuedApp struct {
	app      int32
	at       time.Time // when its plan may begin; zero: it is being planned, and no other plan is asked for
	rest     bool      // nothing is due soon: the worker rests as long as the plan took
	busy     bool      // a worker has it
	changed  time.Time // since when changes have waited; zero: none wait
	failures int       // in a row
	partly   bool      // the last plan left out campaigns that somebody holds, and planned the rest
	blockers string    // who held the locks that the plan needs, as last seen
	reported bool      // the log says that its plan fails
}

func newPlanQueue() *planQueue {
	return &planQueue{apps: make(map[int32]*queuedApp), added: make(chan struct{}, 1)}
}

// Bounds of the pause after a failed plan. The pause doubles from the first to
// the last.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 3 * time.Second
)

// add asks for a plan of an app that begins after the given time at the latest.
func (q *planQueue) add(app int32, after time.Duration) {
	q.mu.Lock()
	q.want(app, after)
	q.mu.Unlock()
	q.wake()
}

func (q *planQueue) want(app int32, after time.Duration) *queuedApp {
	e := q.apps[app]
	if e == nil {
		e = &queuedApp{app: app}
		q.apps[app] = e
	}
	at := time.Now().Add(after)
	if e.failures > 0 && !e.partly && !e.at.IsZero() {
		return e // its pause is kept
	}
	if e.at.IsZero() || at.Before(e.at) {
		e.at, e.rest = at, after > 0
	}
	return e
}

// changes notes which apps have changes that wait, as just read; the list is complete.
func (q *planQueue) changes(apps []int32) {
	q.mu.Lock()
	waiting := make(map[int32]bool, len(apps))
	for _, app := range apps {
		waiting[app] = true
		if e := q.want(app, 0); e.changed.IsZero() {
			e.changed = time.Now()
		}
	}
	for app, e := range q.apps {
		if !waiting[app] {
			e.changed, e.blockers = time.Time{}, "" // another daemon has planned it
		}
	}
	q.mu.Unlock()
	q.wake()
}

// take returns to a worker the app whose time came first, and whether nothing of
// the app is due soon. Where no app's time has come, it returns nil and how long
// to wait.
func (q *planQueue) take() (e *queuedApp, rest bool, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now, wait := time.Now(), time.Hour
	for _, a := range q.apps {
		switch {
		case a.busy || a.at.IsZero():
		case a.at.After(now):
			wait = min(wait, a.at.Sub(now))
		case e == nil || a.at.Before(e.at):
			e = a
		}
	}
	if e != nil {
		e.busy, e.at, rest = true, time.Time{}, e.rest
		q.wake() // there may be more
	}
	return e, rest, wait
}

// done notes that a worker has planned an app; again says whether there is more
// to do. It returns whether the log says that the app could not be planned
// before.
func (q *planQueue) done(e *queuedApp, again bool) (reported bool) {
	q.mu.Lock()
	reported = e.reported
	e.busy, e.failures, e.partly, e.changed, e.blockers, e.reported = false, 0, false, time.Time{}, "", false
	if again {
		q.want(e.app, 0)
	}
	if e.at.IsZero() {
		delete(q.apps, e.app)
	}
	q.mu.Unlock()
	q.wake()
	return reported
}

// donePartly notes that a worker has planned an app without the campaigns that
// somebody holds, which are tried again later. again says whether there is more to
// do now.
func (q *planQueue) donePartly(e *queuedApp, again bool) {
	q.mu.Lock()
	e.busy, e.partly = false, true
	if again {
		q.want(e.app, 0)
	} else {
		q.want(e.app, passFor)
	}
	q.mu.Unlock()
	q.wake()
}

// failed puts an app back for a pause, and returns how many of its plans in a row
// have failed.
func (q *planQueue) failed(e *queuedApp) int {
	q.mu.Lock()
	e.busy, e.partly = false, false
	pause := min(firstPause<<min(e.failures, 10), lastPause)
	e.failures++
	e.at, e.rest = time.Now().Add(pause), false
	n := e.failures
	q.mu.Unlock()
	q.wake()
	return n
}

// report keeps who is in the way of an app's plan. It returns true where the log
// does not say yet that the app cannot be planned.
func (q *planQueue) report(e *queuedApp, blockers string) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first, e.reported, e.blockers = !e.reported, true, blockers
	return first
}

func (q *planQueue) wake() { signal(q.added) }

// An UnplannedApp has had changes waiting for some seconds.
type UnplannedApp struct {
	App      int32
	For      time.Duration
	Blockers string // empty: not known
}

// unplanned lists the apps whose changes have waited for at least so long.
func (q *planQueue) unplanned(least time.Duration) []UnplannedApp {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []UnplannedApp
	for _, e := range q.apps {
		if e.changed.IsZero() {
			continue
		}
		if d := time.Since(e.changed); d >= least {
			out = append(out, UnplannedApp{e.app, d, e.blockers})
		}
	}
	return out
}
