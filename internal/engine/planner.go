package engine

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// PlannerConfig configures a Planner. Zero fields get defaults.
type PlannerConfig struct {
	Store *store.Store
	Log   *slog.Logger
	// Compile judges a campaign's request; the campaign is rejected when it
	// returns problems, or panics.
	Compile func(*store.Campaign) (*dispatch.Message, []dispatch.Problem)
	// Others says whether other daemons plan too; nil: none do.
	Others func() bool
	// OnReady is called with each app that got tasks which are due within Horizon.
	OnReady func(appNo int32)
	// OnRejected is called with rejected campaigns to which something has happened,
	// such as the loss of targets, so that their requests may be good now; nil: nobody
	// is told.
	OnRejected func(campaign int64)
	// Horizon is how far ahead the dispatcher reads; default 2 s.
	Horizon time.Duration
	// Sweep is how often paused campaigns are looked at for occurrences whose
	// window has closed; default 1 min. Ten times as rarely the pending tasks of
	// all apps are counted, to find room that no hint told of.
	Sweep time.Duration
	// Patience is the longest time for which room that nothing needs soon is left
	// empty, so that one plan makes up for many begun tasks; default 5 s.
	Patience time.Duration
	// Workers is how many apps are planned at once; default 4.
	Workers int
	// Changes bounds the changed campaigns taken in one transaction; default 2000.
	Changes int
	Metrics *Metrics

	traces  *traces     // nil: no traces
	answers func() bool // whether the database answers other services; nil: it does
}

func (c PlannerConfig) withDefaults() PlannerConfig {
	c.Horizon = cmp.Or(c.Horizon, 2*time.Second)
	c.Sweep = cmp.Or(c.Sweep, time.Minute)
	c.Patience = cmp.Or(c.Patience, 5*time.Second)
	c.Workers = cmp.Or(c.Workers, 4)
	c.Changes = cmp.Or(c.Changes, 2000)
	if c.Others == nil {
		c.Others = func() bool { return false }
	}
	if c.OnReady == nil {
		c.OnReady = func(int32) {}
	}
	if c.OnRejected == nil {
		c.OnRejected = func(int64) {}
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	return c
}

// A Planner keeps the right tasks pending: per app, the earliest undecided
// occurrences of its active campaigns, as many as its limit allows. It compares
// the tasks that should be pending with those that are, and changes the
// difference in one transaction per app. Any number of planners on any number
// of machines come to the same result.
//
// Its loop finds the apps that need a plan and puts them into a queue, from which
// workers take them. No app waits for another's plan: an app whose plan needs a
// lock that somebody else holds goes back into the queue for a while.
type Planner struct {
	PlannerConfig
	*loop
	queue  *planQueue
	faults *faults

	mu sync.Mutex
	// waiting holds, for each app that this planner has planned, the earliest
	// occurrence that found no room; zero: all found room.
	waiting map[int32]time.Time
	batches map[int32]int                 // changes taken at once, of apps whose plan fails with many
	passed  map[int32]map[int64]time.Time // campaigns of the app that were found held, and when
	blocked map[int32]bool                // apps that have passed campaigns for whose locks a plan waited in vain
	alone   map[int64]int                 // plans that failed with one campaign alone
	counted time.Time                     // when all apps' tasks were counted; zero: they have to be counted

	swept time.Time // only the running loop touches it
}

// NewPlanner makes a Planner.
func NewPlanner(cfg PlannerConfig) *Planner {
	p := &Planner{
		PlannerConfig: cfg.withDefaults(), queue: newPlanQueue(), waiting: make(map[int32]time.Time),
		batches: make(map[int32]int), passed: make(map[int32]map[int64]time.Time), alone: make(map[int64]int), blocked: make(map[int32]bool),
	}
	p.faults = newFaults(p.Log, p.Metrics)
	p.Compile = p.faults.guard(p.Compile)
	p.loop = newLoop("planner", p.Log, 0, cfg.answers, p.scan)
	return p
}

// Start runs the loop and the workers in goroutines of wg until ctx ends.
func (p *Planner) Start(ctx context.Context, wg *sync.WaitGroup) {
	p.loop.Start(ctx, wg)
	for range p.Workers {
		wg.Go(func() { p.work(ctx) })
	}
}

// work plans apps of the queue until ctx ends.
func (p *Planner) work(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		e, rest, wait := p.queue.take()
		if e != nil {
			p.attend(ctx, e, rest)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-p.queue.added:
		}
	}
}

// Hint reports that tasks of these apps have begun, so that each app may have room.
// An app whose next waiting occurrence is due before by is planned now. If it is due
// later, the app is planned after half the time that is left, at most Patience. An
// app for which nothing waits is not planned, since other changes come by
// campaign_changes. Beside other daemons every such app is planned within a second:
// one of them may have left an occurrence waiting.
func (p *Planner) Hint(by time.Time, apps ...int32) {
	others := p.Others()
	for _, a := range apps {
		p.mu.Lock()
		next, known := p.waiting[a]
		p.mu.Unlock()
		switch {
		case known && !next.IsZero():
			p.queue.add(a, min(max(next.Sub(by)/2, 0), p.Patience))
		case !known || others:
			p.queue.add(a, min(time.Second, p.Patience))
		}
	}
}

// Recount has the next pass count the pending tasks of all apps. A daemon that
// begins tasks plans their apps itself; when it is gone, the others have to
// find its apps' room.
func (p *Planner) Recount() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counted = time.Time{}
}

// scan is one pass of the loop. It puts every app with changes into the queue,
// and now and then all apps that have room.
func (p *Planner) scan(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	changed, err := p.Store.ChangedApps(ctx, 1000)
	if err != nil {
		return err
	}
	p.queue.changes(changed)
	p.Metrics.Unplanned.Set(float64(len(p.queue.unplanned(unplannedAfter))))
	return p.sweep(ctx)
}

// scanTimeout bounds a look at all apps.
const scanTimeout = 10 * time.Second

// sweep looks at fixed times for work that no hint told of.
func (p *Planner) sweep(ctx context.Context) error {
	if time.Since(p.swept) >= p.Sweep {
		if _, err := p.Store.RevisitPaused(ctx, time.Time{}, 10000); err != nil {
			return err
		}
		p.swept = time.Now()
	}
	if !p.countDue() {
		return nil
	}
	rooms, err := p.Store.Rooms(ctx)
	if err != nil {
		p.Recount()
		return err
	}
	for _, app := range rooms {
		p.queue.add(app, 0)
	}
	return nil
}

// countDue says whether to count the tasks of all apps now, and notes that this
// is done. A Recount during the counting is not lost.
func (p *Planner) countDue() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := time.Since(p.counted) >= 10*p.Sweep
	if due {
		p.counted = time.Now()
	}
	return due
}

// attend plans an app of the queue, and puts the app back where the plan fails.
// With rest, it then rests as long as the plan took, so that early plans leave
// the processor to pushes that are due.
func (p *Planner) attend(ctx context.Context, e *queuedApp, rest bool) {
	began := time.Now()
	again, err := p.planApp(ctx, e.app, time.Time{})
	switch {
	case err == nil && p.passedBlocked(e.app):
		p.queue.donePartly(e, again)
	case err == nil:
		if p.queue.done(e, again) {
			p.Log.InfoContext(ctx, "app is planned again", "app_no", e.app)
		}
	case errors.Is(err, errBusy):
		p.queue.failed(e) // the other planner may have begun before the change
	default:
		p.trouble(ctx, e, err, p.queue.failed(e))
	}
	if rest {
		pace(ctx, began)
	}
}

// errBusy says that another planner is at work on the app.
var errBusy = errors.New("another planner is at work on the app")

// unplannedAfter is how long changes wait before they are reported.
const unplannedAfter = 3 * time.Second

// trouble logs that an app cannot be planned, once until it is planned again, and
// looks for who is in the way.
func (p *Planner) trouble(ctx context.Context, e *queuedApp, err error, times int) {
	blocked := store.IsBlocked(err)
	switch {
	case ctx.Err() != nil:
	case store.IsOutage(err) && times < 2:
		p.Log.DebugContext(ctx, "planner waits for the database", "app_no", e.app, "error", err)
	case blocked && times < 6: // not yet: an author's short transaction may be over in a few seconds
		p.Log.DebugContext(ctx, "app waits to be planned", "app_no", e.app, "error", err)
	default:
		var who string
		if blocked {
			who = p.blockers(ctx, e.app)
		}
		if first := p.queue.report(e, who); first && !store.IsOutage(err) {
			p.Log.WarnContext(ctx, "app cannot be planned, will keep trying", "app_no", e.app, "blocked_by", who, "error", err)
		}
	}
}

// blockers returns in words who holds the locks that a plan of the app needs.
func (p *Planner) blockers(ctx context.Context, app int32) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	list, err := p.Store.Blockers(ctx, app)
	if err != nil {
		p.Log.DebugContext(ctx, "who blocks an app could not be found", "app_no", app, "error", err)
	}
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = b.String()
	}
	return strings.Join(out, "; ")
}

// Unplanned lists the apps whose changes have waited for unplannedAfter.
func (p *Planner) Unplanned() []UnplannedApp { return p.queue.unplanned(unplannedAfter) }

// PlanApp plans one app and says whether another look may find more to do: there
// were changes, or occurrences too old to be pushed. now is the instant to plan
// for; zero means the database's clock. The changed campaigns are judged before
// the one transaction in which everything is written, which takes only those that
// are still as they were judged. While another planner is at work on the app
// nothing is done.
func (p *Planner) PlanApp(ctx context.Context, app int32, now time.Time) (progress bool, err error) {
	progress, err = p.planApp(ctx, app, now)
	if errors.Is(err, errBusy) {
		return false, nil
	}
	return progress, err
}

// planApp is PlanApp, but returns errBusy where another planner is at work on the app.
func (p *Planner) planApp(ctx context.Context, app int32, now time.Time) (progress bool, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	failpoint.Hit("plan.before")
	looked, err := p.look(ctx, app)
	if err != nil {
		return false, err
	}
	failpoint.Hit("plan.judged")
	out, err := p.planOnce(ctx, app, now, looked)
	if err != nil {
		return p.narrow(ctx, app, looked, err)
	}
	failpoint.Hit("plan.after")
	p.mu.Lock()
	p.waiting[app] = out.next
	if n := p.batches[app]; n > 0 {
		if p.batches[app] = 4 * n; p.batches[app] >= p.Changes {
			delete(p.batches, app)
		}
	}
	p.mu.Unlock()
	held := p.pass(app, looked, out.taken)
	p.Metrics.PlanSeconds.Observe(time.Since(began).Seconds())
	logDecisions(ctx, p.Log, p.Metrics, p.traces, out.decided)
	logRefused(ctx, p.Log, p.Metrics, out.refused)
	if out.ready {
		p.OnReady(app)
	}
	return len(out.taken) > 0 || out.again || held, nil
}

// A plannedApp is the result of an app's plan.
type plannedApp struct {
	taken   map[int64]bool // changed campaigns that were brought up to date
	ready   bool           // a task is due within the horizon
	again   bool           // occurrences were decided without a task, so that there may be room for more
	next    time.Time      // the earliest occurrence that waits for room
	decided []store.Decision
	refused []store.Refused
}

// planOnce plans an app in one transaction. A panic in it is an error.
func (p *Planner) planOnce(ctx context.Context, app int32, now time.Time, looked *judged) (out plannedApp, err error) {
	defer func() {
		if r := recover(); r != nil {
			p.faults.caught(ctx, faultPlan, r, "app_no", app)
			err = errPanic
		}
	}()
	busy, err := p.Store.PlanApp(ctx, app, now, func(tx *store.PlanTx) error {
		out = plannedApp{taken: make(map[int64]bool)}
		changes, err := tx.Changes(ctx, looked.changes, looked.campaigns)
		if err != nil {
			return err
		}
		for _, c := range changes {
			out.taken[c.CampaignID] = true
		}
		if len(changes) == 0 { // a hint of room, which costs nothing where no occurrence waits for room
			if out.next, err = tx.NextWaiting(ctx); err != nil || out.next.IsZero() {
				return err
			}
		}
		a, err := p.apply(ctx, tx, changes, looked.problems)
		if err != nil {
			return err
		}
		full, err := p.fill(ctx, tx, &a)
		if err != nil {
			return err
		}
		out.ready = full.ready || len(changes) > 0 // immediate campaigns are ready at once
		out.again, out.decided, out.refused = full.again, tx.Decided, tx.Refused
		failpoint.Hit("plan.middle")
		out.next, err = tx.NextWaiting(ctx)
		return err
	})
	if err == nil && busy {
		err = errBusy
	}
	return out, err
}

// errPanic is the error of a plan that panicked.
var errPanic = errors.New("a fault of this program")

// A filled is the result of fill.
type filled struct {
	ready bool // a task is due within the horizon
	again bool // occurrences were decided without a task, so that there may be room for more
}

// fill makes the app's earliest occurrences its pending tasks, and stores how
// far its campaigns are then planned.
func (p *Planner) fill(ctx context.Context, tx *store.PlanTx, a *applied) (filled, error) {
	c, err := newComparison(ctx, tx, a)
	if err != nil {
		return filled{}, err
	}
	f, err := c.filling(ctx)
	if err != nil {
		return filled{}, err
	}
	roomLeft, err := c.carryOut(ctx, &f)
	if err != nil {
		return filled{}, err
	}
	return filled{
		ready: len(f.insert) > 0 && f.insert[0].DueAt.Before(tx.Now.Add(p.Horizon)),
		again: len(f.missed) > 0 || roomLeft,
	}, nil
}
