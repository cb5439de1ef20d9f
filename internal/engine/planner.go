package engine

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// PlannerConfig configures a Planner. Zero fields get defaults.
type PlannerConfig struct {
	Store *store.Store
	Log   *slog.Logger
	// Compile judges a campaign's request; the campaign is rejected when it
	// returns problems.
	Compile func(*store.Campaign) (*dispatch.Message, []dispatch.Problem)
	// Others says whether other daemons plan too; nil: none do.
	Others func() bool
	// OnReady is told of apps that got tasks due before Horizon from now.
	OnReady func(appNo int32)
	// OnRejected is told of rejected campaigns that something happened to, such as
	// the loss of targets: their requests may be good now. Nil: nobody is told.
	OnRejected func(campaign int64)
	// Horizon is how far ahead the dispatcher reads; default 2 s.
	Horizon time.Duration
	// Sweep is how often paused campaigns are looked at for occurrences that are
	// over; default 1 min. Every tenth time the pending tasks of all apps are
	// counted, for room that no hint told of.
	Sweep time.Duration
	// Patience is how long room is left empty that nothing needs soon, so that an
	// app's begun tasks are made up for many at a time; default 5 s.
	Patience time.Duration
	// Workers plan that many apps at once; default 3.
	Workers int
	// Changes bounds the changed campaigns taken in one transaction; default 2000.
	Changes int
	Metrics *Metrics
}

func (c PlannerConfig) withDefaults() PlannerConfig {
	c.Horizon = cmp.Or(c.Horizon, 2*time.Second)
	c.Sweep = cmp.Or(c.Sweep, time.Minute)
	c.Patience = cmp.Or(c.Patience, 5*time.Second)
	c.Workers = cmp.Or(c.Workers, 3)
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
type Planner struct {
	PlannerConfig
	*loop
	traces *traces

	mu     sync.Mutex
	hinted map[int32]time.Time // apps that may have room, and since when; zero: it does not matter
	// waiting holds, of the apps this planner planned, the earliest occurrence
	// that found no room; zero: none did.
	waiting map[int32]time.Time
	counted time.Time // all apps; zero: they have to be

	swept time.Time // only the running loop touches it
}

// NewPlanner makes a Planner.
func NewPlanner(cfg PlannerConfig) *Planner {
	p := &Planner{PlannerConfig: cfg.withDefaults(), hinted: make(map[int32]time.Time), waiting: make(map[int32]time.Time)}
	p.loop = newLoop("planner", p.Log, 0, p.plan)
	return p
}

// Hint says that tasks of the apps have begun, so that they have room. An app
// is looked at at once when an occurrence that is due by the given time waits for
// room, with the next heartbeat when one is due later, and not at all when none
// waits: what else may change is told by campaign_changes. Where other daemons
// plan too, one of them may have left something waiting since.
func (p *Planner) Hint(by time.Time, apps ...int32) {
	others := p.Others()
	p.mu.Lock()
	var roomy []int32
	urgent := false
	for _, a := range apps {
		next, known := p.waiting[a]
		if known && next.IsZero() && !others {
			continue
		}
		roomy = append(roomy, a)
		urgent = urgent || (known && !next.IsZero() && !next.After(by))
	}
	p.mu.Unlock()
	p.hint(time.Now(), roomy...)
	if urgent {
		p.Wake()
	}
}

// Recount has the next pass count the pending tasks of all apps: a daemon that
// begins tasks plans their apps itself, unless it is gone by then.
func (p *Planner) Recount() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counted = time.Time{}
}

// plan is one pass: every app that changed or whose room is needed, and now and
// then all that have room.
func (p *Planner) plan(ctx context.Context) error {
	if err := p.sweep(ctx); err != nil {
		return err
	}
	for {
		apps, err := p.changed(ctx)
		if err != nil {
			return err
		}
		pressing, waited, err := p.roomy(ctx)
		if err != nil {
			return err
		}
		apps = append(apps, pressing...)
		slices.Sort(apps)
		progress, err := p.planApps(ctx, slices.Compact(apps))
		if err != nil {
			p.hintLater(waited...)
			return err
		}
		if err := p.planLeisurely(ctx, waited); err != nil || !progress {
			return err
		}
	}
}

// scanTimeout bounds a look at all apps.
const scanTimeout = 10 * time.Second

func (p *Planner) changed(ctx context.Context) ([]int32, error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	return p.Store.ChangedApps(ctx, 1000)
}

// sweep looks, when it is time to, for what no hint told of.
func (p *Planner) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
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
	for _, r := range rooms {
		p.hintLater(r.AppNo)
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

// roomy returns the hinted apps that have room for what waits: those that press,
// and those whose room has waited for long enough. One look at all of them is
// cheaper than a plan of each.
func (p *Planner) roomy(ctx context.Context) (pressing, waited []int32, err error) {
	p.mu.Lock()
	hinted := maps.Clone(p.hinted)
	clear(p.hinted)
	p.mu.Unlock()
	if len(hinted) == 0 {
		return nil, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	rooms, err := p.Store.RoomsAmong(ctx, slices.Collect(maps.Keys(hinted)))
	if err != nil {
		for app, since := range hinted {
			p.hint(since, app)
		}
		return nil, nil, err
	}
	for _, r := range rooms {
		switch since := hinted[r.AppNo]; {
		case r.Pressing:
			pressing = append(pressing, r.AppNo)
		case time.Since(since) >= p.Patience:
			waited = append(waited, r.AppNo)
		default:
			p.hint(since, r.AppNo)
		}
	}
	return pressing, waited, nil
}

// planLeisurely plans apps whose room nothing needs soon one by one, with rests in
// between for the tasks that are due. When the planner is wanted for something
// else the rest of them has time.
func (p *Planner) planLeisurely(ctx context.Context, apps []int32) error {
	for i, app := range apps {
		if p.wanted() {
			p.hintLater(apps[i:]...)
			return nil
		}
		began := time.Now()
		if _, err := p.PlanApp(ctx, app, time.Time{}); err != nil {
			p.hintLater(apps[i:]...)
			return err
		}
		giveWay(ctx, began)
	}
	return nil
}

// planApps plans the apps side by side and says whether anything was done:
// changes that an author's open transaction holds are none.
func (p *Planner) planApps(ctx context.Context, apps []int32) (progress bool, err error) {
	var g errgroup.Group
	g.SetLimit(p.Workers)
	var mu sync.Mutex
	var errs []error
	for _, app := range apps {
		g.Go(func() error {
			did, err := p.PlanApp(ctx, app, time.Time{})
			mu.Lock()
			defer mu.Unlock()
			progress = progress || did
			if err != nil {
				errs = append(errs, err)
				p.hintLater(app)
			}
			return nil
		})
	}
	_ = g.Wait()
	return progress, errors.Join(errs...)
}

// hint keeps apps for the next pass, without asking for one. They may have had room
// since then.
func (p *Planner) hint(since time.Time, apps ...int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range apps {
		if before, hinted := p.hinted[a]; !hinted || since.Before(before) {
			p.hinted[a] = since
		}
	}
}

// hintLater hints at apps that need no patience any more.
func (p *Planner) hintLater(apps ...int32) { p.hint(time.Time{}, apps...) }

// PlanApp plans one app in one transaction and says whether another look may
// find more to do: there were changes, or occurrences too old to be pushed.
// now is the instant to plan for; zero means the database's clock.
func (p *Planner) PlanApp(ctx context.Context, app int32, now time.Time) (progress bool, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var ready, again bool
	var next time.Time
	var decided []store.Decision
	var refused []store.Refused
	failpoint.Hit("plan.before")
	busy, err := p.Store.PlanApp(ctx, app, now, func(tx *store.PlanTx) error {
		changes, err := tx.Changes(ctx, p.Changes)
		if err != nil {
			return err
		}
		progress = len(changes) > 0
		a, err := p.apply(ctx, tx, changes)
		if err != nil {
			return err
		}
		full, err := p.fill(ctx, tx, &a)
		if err != nil {
			return err
		}
		ready = full.ready || progress // immediate campaigns are ready at once
		again = full.again
		decided, refused = tx.Decided, tx.Refused
		failpoint.Hit("plan.middle")
		next, err = tx.NextWaiting(ctx)
		return err
	})
	if err != nil {
		return false, err
	}
	if busy {
		p.hintLater(app) // the other planner may have begun before the change
		return false, nil
	}
	failpoint.Hit("plan.after")
	p.remember(app, next)
	if again {
		p.hintLater(app)
	}
	p.Metrics.PlanSeconds.Observe(time.Since(began).Seconds())
	tellAll(ctx, p.Log, p.Metrics, p.traces, decided)
	tellRefused(ctx, p.Log, p.Metrics, refused)
	if ready {
		p.OnReady(app)
	}
	return progress || again, nil
}

func (p *Planner) remember(app int32, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting[app] = next
}

// A filled app is what fill came to.
type filled struct {
	ready bool // a task is due within the horizon
	again bool // occurrences were missed, so that there may be room for more
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
	if err := c.carryOut(ctx, &f); err != nil {
		return filled{}, err
	}
	return filled{
		ready: len(f.insert) > 0 && f.insert[0].DueAt.Before(tx.Now.Add(p.Horizon)),
		again: len(f.missed) > 0,
	}, nil
}
