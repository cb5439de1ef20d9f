package engine

import (
	"cmp"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// Causes of lateness: the reason for which a task waited between its due time
// and its first call. Only causeScheduler is a fault of the scheduler.
const (
	causeScheduler = "scheduler" // no other cause: planning, claiming, or no daemon was there
	causeCap       = "cap"       // the app's pending limit was full when it was due
	causeQuota     = "quota"     // the channel's quota was used up
	causeQuiet     = "quiet"     // quiet hours held it
	causeThrottle  = "throttle"  // the app's own bounds, or the provider's throttling
	causeAuthor    = "author"    // the campaign was written after it was due
	causeHold      = "hold"      // everything was held
)

// lateFrom is the least lateness for which a cause is looked for.
const lateFrom = time.Second

// latenessCauses says why tasks begin late. It is safe for concurrent use.
type latenessCauses struct {
	mu      sync.Mutex
	refused map[*App]time.Time // when an app was last refused leave to begin a call
	tasks   map[int64]string   // causes of tasks that have begun and have stored deliveries, noted lately
	older   map[int64]string   // causes noted before; nobody takes the cause of a task that another daemon settles
}

func newLatenessCauses() *latenessCauses {
	return &latenessCauses{refused: make(map[*App]time.Time), tasks: make(map[int64]string)}
}

// refuse notes that an app was held back.
func (c *latenessCauses) refuse(app *App, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[app] = now
}

// of returns the cause of lateness of a task that begins now. steady is how
// long this daemon has worked without a break: a task that was due before may
// have waited for a daemon. released is when a hold last ended.
func (c *latenessCauses) of(e *entry, now time.Time, steady time.Duration, released time.Time) string {
	late := now.Sub(e.task.DueAt)
	switch {
	case e.task.WaitsFor == store.WaitsForQuiet:
		return causeQuiet
	case e.task.WaitsFor != "":
		return causeQuota
	case late < lateFrom:
		return causeScheduler
	case e.compiled.campaign.WrittenAt.After(e.task.DueAt):
		return causeAuthor
	case released.After(e.task.DueAt):
		return causeHold
	case c.throttled(e.compiled.app, e.task.DueAt):
		return causeThrottle
	case e.task.Origin == "scheduled" && e.seen.Sub(e.task.DueAt) >= lateFrom && steady > late:
		return causeCap
	}
	return causeScheduler
}

func (c *latenessCauses) throttled(app *App, since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused[app].After(since)
}

// noted is the least number of causes that are kept.
const noted = 10_000

// note keeps the cause of a task until the task is settled. The cause is a hint,
// and the oldest are forgotten.
func (c *latenessCauses) note(task int64, cause string) {
	if cause == causeScheduler {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tasks) >= noted {
		c.older, c.tasks = c.tasks, make(map[int64]string)
	}
	c.tasks[task] = cause
}

// take returns the noted cause and forgets it.
func (c *latenessCauses) take(task int64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	cause := cmp.Or(c.tasks[task], c.older[task], causeScheduler)
	delete(c.tasks, task)
	delete(c.older, task)
	return cause
}
