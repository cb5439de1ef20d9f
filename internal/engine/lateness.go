package engine

import (
	"cmp"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// Causes of lateness: what a task waited for between its due time and its first
// call. Only the scheduler's own is a fault of the scheduler.
const (
	causeScheduler = "scheduler" // nothing else: planning, claiming, or nobody was there
	causeCap       = "cap"       // the app's pending limit was full when it was due
	causeQuota     = "quota"     // the channel's quota was used up
	causeQuiet     = "quiet"     // quiet hours held it
	causeThrottle  = "throttle"  // the app's own bounds, or the provider's throttling
	causeAuthor    = "author"    // the campaign was written after it was due
	causeHold      = "hold"      // everything was held
)

// lateFrom is the lateness that is worth a cause.
const lateFrom = time.Second

// latenessCauses says why tasks begin late. It is safe for concurrent use.
type latenessCauses struct {
	mu      sync.Mutex
	refused map[*App]time.Time // when an app was last refused leave to begin a call
	tasks   map[int64]string   // of begun tasks with stored deliveries, the last ones noted
	older   map[int64]string   // those noted before: other daemons may settle a task, so that nobody takes its cause
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

// of says what the task waited for that begins now. steady is how long this
// daemon has been at work without a break: what became due earlier may have
// waited for any daemon to come. released is when a hold last ended.
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

// noted is how many causes are kept at least.
const noted = 10_000

// note keeps the cause of a task whose first call others make. It is a hint, and
// the oldest are forgotten.
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

// take returns what was noted and forgets it.
func (c *latenessCauses) take(task int64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	cause := cmp.Or(c.tasks[task], c.older[task], causeScheduler)
	delete(c.tasks, task)
	delete(c.older, task)
	return cause
}
