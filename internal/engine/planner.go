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
	// OnReady is called with each app that got tasks due before Horizon from now.
	OnReady func(appNo int32)
	// OnRejected is called with rejected campaigns that something happened to, such as
	// the loss of targets: their requests may be good now. Nil: nobody is told.
	OnRejected func(campaign int64)
	// Horizon is how far ahead the dispatcher reads; default 2 s.
	Horizon time.Duration
	// Sweep is how often paused campaigns are looked at for occurrences that are
	// over; default 1 min. Every tenth time the pending tasks of all apps are
	// counted, for room that no hint told of.
	Sweep time.Duration
	// Patience is how long room is left empty at most that nothing needs soon, so
	// that an app's begun tasks are made up for many at a time; default 5 s.
	Patience time.Duration
	// Workers plan that many apps at once; default 4.
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
// what should be pending with what is and changes the difference, in one
// transaction per app, so that any number of planners on any number of
// machines, at any moment, come to the same result.
//
// Its loop finds the apps that need a plan and puts them into a queue, from which
// workers take them. No app waits for another's plan: one that needs what
// somebody else holds goes back into the queue for a while.
type Planner struct {
	PlannerConfig
	*loop
	queue  *planQueue
	faults *faults

	mu sync.Mutex
	// waiting holds, of the apps this planner planned, the earliest occurrence
	// that found no room; zero: none did.
	waiting map[int32]time.Time
	batches map[int32]int                 // changes taken at once, of apps whose plan fails with many
	passed  map[int32]map[int64]time.Time // campaigns that were found held, and when
	blocked map[int32]bool                // apps with campaigns among those for which a plan waited in vain
	alone   map[int64]int                 // plans that failed with one campaign alone
	counted time.Time                     // all apps; zero: they have to be

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

// Recount has the next pass count the pending tasks of all apps: a daemon that
// begins tasks plans their apps itself, unless it is gone by then.
func (p *Planner) Recount() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counted = time.Time{}
}

// scan is one pass of the loop: it puts every app into the queue that changed,
// and now and then all that have room.
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

// sweep looks, when it is time to, for what no hint told of.
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

// countDue says whether to count all apps, and that it is done. What asks for it
// meanwhile is not lost.
func (p *Planner) countDue() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := time.Since(p.counted) >= 10*p.Sweep
	if due {
		p.counted = time.Now()
	}
	return due
}

// attend plans an app of the queue, and puts it back where that fails. What is
// early leaves room for what is due.
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
	case blocked && times < 6: // a pause or two of three seconds: an author's short transaction is none of it
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

// blockers says who holds what a plan of the app needs.
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

// Unplanned lists the apps with changes that have waited for some seconds.
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

// planApp is PlanApp, and tells with errBusy that another planner is at work.
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

// An outcome of a plan.
type plannedApp struct {
	taken   map[int64]bool // changed campaigns that were brought up to date
	ready   bool           // a task is due within the horizon
	again   bool           // occurrences were decided rather than planned, so that there may be room for more
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
		if len(changes) == 0 { // a hint of room, which costs nothing where nothing waits for it
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

// errPanic is what a panic in a plan comes to.
var errPanic = errors.New("a fault of this program")

// A filled app is what fill came to.
type filled struct {
	ready bool // a task is due within the horizon
	again bool // occurrences were decided rather than planned, so that there may be room for more
}

// fill makes the app's pending tasks the earliest, and stores how far its
// campaigns are planned with that.
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
