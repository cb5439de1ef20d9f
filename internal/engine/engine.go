// Package engine does the daemon's work: it plans tasks, begins each at its
// second, makes outcomes durable and rules on what others left behind.
//
// Every service is a loop with one pass (loop.go). robfig/cron is the heartbeat
// that wakes them; notifications wake them sooner; a pass works from the stored
// rows, so any number of missed beats loses nothing. No SQL is here.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// Config configures an Engine. Store, Log, Compile and App are required; zero
// values of the rest get the defaults named.
type Config struct {
	Store *store.Store
	Log   *slog.Logger
	// Compile judges a campaign's request and encodes it.
	Compile func(*store.Campaign) (*dispatch.Message, []dispatch.Problem)
	// App returns an app's settings and bounds in this daemon, or nil when the
	// daemon has no credentials for the app.
	App func(appNo int32) *App
	// Alone says that no other daemon can use the database, as with an embedded
	// one. Calls that an earlier run left behind are then ruled on at once.
	Alone bool
	// LimitedApps lists the apps whose rate the configuration bounds; nil: none.
	LimitedApps func() []int32
	// Name and Version say who this daemon is in scheduler.daemons.
	Name, Version string

	Lease            time.Duration // how long a daemon may be silent before others rule on its calls; 5 s
	PushTimeout      time.Duration // of one call; 30 s
	StatementTimeout time.Duration // of one database call on the way to a push; 5 s
	Grace            time.Duration // for calls under way at a stop; 30 s
	Retry            RetryPolicy   // 1 s to 1 min
	MisfireGrace     time.Duration // lateness from which the misfire policy applies; 1 min
	Horizon          time.Duration // how far the dispatcher reads ahead; 2 s
	MaxInFlight      int           // calls under way in this daemon; 256
	ClaimBatch       int           // tasks claimed at once; 256
	ReadAhead        int           // tasks held in memory; 8192
	MaxBacklog       int           // outcomes waiting to be recorded at which no task begins; 8192
	Retention        Retention     // of decided tasks; the zero value: for ever
	Sweep            time.Duration // between looks for work that no hint told of; 1 min, and ten times as long for looks that cost much
	Metrics          *Metrics
	Tracer           Tracer // nil: no traces
	Guard            Guard  // against a restored or cloned database
}

func (c Config) withDefaults() Config {
	c.Lease = cmp.Or(c.Lease, 5*time.Second)
	c.PushTimeout = cmp.Or(c.PushTimeout, 30*time.Second)
	c.StatementTimeout = cmp.Or(c.StatementTimeout, 5*time.Second)
	c.Grace = cmp.Or(c.Grace, 30*time.Second)
	c.Retry.Initial = cmp.Or(c.Retry.Initial, time.Second)
	c.Retry.Max = cmp.Or(c.Retry.Max, time.Minute)
	c.MisfireGrace = cmp.Or(c.MisfireGrace, time.Minute)
	c.Horizon = cmp.Or(c.Horizon, 2*time.Second)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 256)
	c.ClaimBatch = cmp.Or(c.ClaimBatch, 256)
	c.ReadAhead = cmp.Or(c.ReadAhead, 8192)
	c.MaxBacklog = cmp.Or(c.MaxBacklog, 8192)
	c.Sweep = cmp.Or(c.Sweep, time.Minute)
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.LimitedApps == nil {
		c.LimitedApps = func() []int32 { return nil }
	}
	return c
}

// An Engine runs one daemon's services.
type Engine struct {
	cfg        Config
	clock      *Clock
	lease      *lease
	cache      *compileCache
	limit      *callLimit
	calls      *pool
	planner    *Planner
	dispatcher *dispatcher
	deliveries *deliveries
	settler    *settler
	recorder   *recorder
	lost       *lostClaims
	finisher   *finisher
	pruner     *pruner
	lockWaits  *lockWaits
	revoker    *revoker
	rejudge    *rejudge
	zoneRules  *zoneRules
	pulse      *pulse
	wakes      wakes

	wg, late      sync.WaitGroup // services; services that go on after them until outcomes are recorded
	stop          context.CancelFunc
	stopCalls     context.CancelFunc
	stopRecorders context.CancelFunc
}

// New makes an Engine. Its parts stand in the order of one push, as
// docs/architecture.md describes it. A part that is made later is reached through
// e.wakes, or through a function that is called once the engine runs.
func New(cfg Config) *Engine {
	cfg = cfg.withDefaults()
	e := &Engine{cfg: cfg, clock: &Clock{}, pulse: newPulse()}
	e.wakes = wakes{e}
	faults, traces, causes := newFaults(cfg.Log, cfg.Metrics), newTraces(cfg.Tracer, e.clock), newLatenessCauses()

	// The lease allows pushes to begin; campaigns are compiled once and kept.
	e.cache = newCompileCache(cfg.ReadAhead, faults.guard(cfg.Compile), cfg.App, cfg.Store.LoadCampaigns, e.revisit)
	e.lease = newLease(&cfg, e.clock, traces, e.wakes, inlineNames(faults.guard(cfg.Compile)), e.cache.setKeys, e.lostAgain)

	// Calls under way are bounded.
	e.limit, e.calls = newCallLimit(cfg.MaxInFlight), newPool(faults)

	// Step 1: tasks are planned, and campaigns are judged again where need be.
	e.planner = NewPlanner(PlannerConfig{
		Store: cfg.Store, Log: cfg.Log, Compile: cfg.Compile, Horizon: cfg.Horizon, Sweep: cfg.Sweep, Metrics: cfg.Metrics,
		OnReady: e.ready, Others: e.hasOthers, OnRejected: e.wakes.rejectedTouched, traces: traces, answers: e.lease.answers,
	})
	e.rejudge = newRejudge(&cfg, e.limit.idle, e.wakes)
	e.zoneRules = newZoneRules(&cfg, e.wakes)

	// Steps 2 to 5: a task is read ahead, claimed, called and recorded.
	heavy := newHeavyCalls()
	quiet := newQuietHours(cfg.Store, func() {
		e.cache.reset()
		e.dispatcher.reloaded.Store(true)
	})
	call := &caller{clock: e.clock, mayPush: e.lease.mayPush, timeout: cfg.PushTimeout, metrics: cfg.Metrics, faults: faults}
	e.recorder = newRecorder(cfg.Store, cfg.Log, cfg.Metrics, traces, e.lease, e.wakes)
	e.lost = newLostClaims(&cfg, e.clock, e.lease, e.recorder, func() []int64 { return e.deliveries.ids() })
	e.dispatcher = newDispatcher(dispatcherParts{
		store: cfg.Store, log: cfg.Log, metrics: cfg.Metrics, traces: traces, faults: faults, clock: e.clock,
		lease: e.lease, ledger: e.lease.ledger, cache: e.cache, limit: e.limit, heavy: heavy, calls: e.calls, caller: call,
		recorder: e.recorder, quiet: quiet, lost: e.lost, causes: causes, wakes: e.wakes,
		statementTimeout: cfg.StatementTimeout, misfireGrace: cfg.MisfireGrace, retry: cfg.Retry, horizon: cfg.Horizon,
		claimBatch: cfg.ClaimBatch, capacity: cfg.ReadAhead, maxBacklog: cfg.MaxBacklog,
	})
	// The same for a stored delivery. The settler decides its task.
	e.deliveries = newDeliveries(deliveriesParts{
		store: cfg.Store, log: cfg.Log, metrics: cfg.Metrics, traces: traces, clock: e.clock,
		lease: e.lease, ledger: e.lease.ledger, cache: e.cache, limit: e.limit, heavy: heavy, calls: e.calls, caller: call,
		quiet: quiet, lost: e.lost, causes: causes, wakes: e.wakes, app: cfg.App, limited: e.othersLimited,
		statementTimeout: cfg.StatementTimeout, retry: cfg.Retry, horizon: cfg.Horizon, claimBatch: cfg.ClaimBatch,
	})
	e.settler = newSettler(settlerParts{
		store: cfg.Store, log: cfg.Log, metrics: cfg.Metrics, traces: traces, lease: e.lease, causes: causes,
		reporter: newReporter(cfg.Store, cfg.Log, e.lease.share), wakes: e.wakes, statementTimeout: cfg.StatementTimeout,
	})

	// Step 6: campaigns are finished. Then the services beside the way of a push.
	e.finisher = newFinisher(cfg.Store, cfg.Log, cfg.Sweep, e.lease.answers, e.cache.forget)
	e.pruner = newPruner(cfg.Store, cfg.Log, cfg.Metrics, e.clock, e.lease.answers, cfg.Retention)
	e.revoker = newRevoker(cfg.Store, cfg.Log, faults, cfg.App, e.cache.namedBy, cfg.PushTimeout, cfg.Retry)
	e.lockWaits = newLockWaits(&cfg)
	return e
}

// Clock returns the engine's estimate of the database's clock.
func (e *Engine) Clock() *Clock { return e.clock }

// Start begins the services. They end with Stop.
func (e *Engine) Start() {
	ctx, stop := context.WithCancel(context.Background())
	pushing, stopCalls := context.WithCancel(context.Background())
	recording, stopRecorders := context.WithCancel(context.Background())
	e.stop, e.stopCalls, e.stopRecorders = stop, stopCalls, stopRecorders
	e.lease.Start(recording, &e.late) // the lease is needed as long as outcomes come in
	e.recorder.Start(recording, &e.late)
	e.planner.Start(ctx, &e.wg)
	e.dispatcher.Start(ctx, pushing, &e.wg)
	e.deliveries.Start(ctx, pushing, recording, &e.wg, &e.late)
	e.settler.Start(ctx, &e.wg)
	e.lost.Start(ctx, &e.wg)
	e.finisher.Start(ctx, &e.wg)
	e.pruner.Start(ctx, &e.wg)
	e.lockWaits.Start(ctx, &e.wg)
	e.revoker.Start(ctx, &e.wg)
	e.rejudge.Start(ctx, &e.wg)
	e.zoneRules.Start(ctx, &e.wg)
	e.wg.Go(func() { e.listen(ctx) })
	e.startPulse(ctx)
	e.wakes.everything()
}

// startPulse sets the heartbeat. It beats some time after each second, since
// tasks are due at the second and need the processor then. Each daemon beats at
// another time.
func (e *Engine) startPulse(ctx context.Context) {
	apart := rand.N(200 * time.Millisecond)
	e.pulse.every(everySecond{after: 200*time.Millisecond + apart}, e.wakes.beat)
	e.pulse.every(everySecond{after: 500*time.Millisecond + apart}, e.wakes.prepare)
	e.pulse.every(cron.Every(time.Minute), e.pruner.Wake)
	e.pulse.every(cron.Every(2*time.Second), e.lockWaits.Wake)
	e.wg.Go(func() { e.pulse.run(ctx) })
}

// ready is called by the planner for each app that got tasks that are due soon.
func (e *Engine) ready(appNo int32) {
	e.wakes.tasksReady()
	if e.hasOthers() {
		ctx, cancel := context.WithTimeout(context.Background(), e.cfg.StatementTimeout)
		defer cancel()
		_ = e.cfg.Store.NotifyReady(ctx, appNo) // a hint: the others look every second anyway
	}
}

// listen turns notifications into wakes, and connects again when the connection breaks.
//
// The lease's loop reports an outage. Where only notifications are missing, polling
// finds everything.
func (e *Engine) listen(ctx context.Context) {
	reported := false
	for ctx.Err() == nil {
		err := e.cfg.Store.Listen(ctx, func() { reported = false; e.wakes.everything() }, func(h store.Hint) {
			if h.Changes {
				e.wakes.campaignsChanged()
			} else {
				e.wakes.tasksReady()
			}
		})
		if ctx.Err() == nil && err != nil {
			e.cfg.Store.Discard() // idle connections may be dead as well
		}
		if ctx.Err() == nil && err != nil && !store.IsOutage(err) && !reported {
			reported = true
			e.cfg.Log.WarnContext(ctx, "no notifications from the database, changes are found by polling", "error", err)
		}
		sleep(ctx, time.Second)
	}
}

// revisit has the planner judge campaigns again that cannot be pushed, though
// nobody has changed them. The planner rejects them and logs it.
func (e *Engine) revisit(campaigns []int64) {
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.StatementTimeout)
	defer cancel()
	if err := e.cfg.Store.Revisit(ctx, campaigns); err != nil {
		e.lease.trouble(ctx, "revisit campaigns", err)
		return
	}
	e.wakes.campaignsToPlan()
}

// Unplanned lists the apps with changed campaigns that could not be planned for
// some seconds.
func (e *Engine) Unplanned() []UnplannedApp { return e.planner.Unplanned() }

// hasOthers says whether there are other daemons.
func (e *Engine) hasOthers() bool {
	_, shares, ok := e.lease.share()
	return ok && shares > 1
}

// othersLimited lists the apps whose rate is bounded and that another daemon
// serves.
func (e *Engine) othersLimited() []int32 {
	if !e.hasOthers() {
		return nil
	}
	var out []int32
	for _, no := range e.cfg.LimitedApps() {
		if !e.lease.owns(no) {
			out = append(out, no)
		}
	}
	return out
}

// Ready returns why the engine cannot do its work now. It returns nil when the
// engine has a lease, nothing is held, and its last heartbeat was written. All
// this is known from the heartbeat, so that Ready costs the database nothing.
func (e *Engine) Ready(context.Context) error {
	if !e.lease.hasLease() {
		return errors.New("no lease: the database does not answer or has just come back")
	}
	if held := e.lease.holding(); held != "" {
		return errors.New(held)
	}
	return e.lease.failing()
}

// Reload forgets campaigns that were compiled with the old configuration, and
// bounds the calls under way anew. Calls under way go on.
func (e *Engine) Reload(maxInFlight int) {
	strategy.ForgetZones()
	e.cache.reset()
	e.zoneRules.look()
	e.rejudge.everything()
	e.lease.forgetLacks()
	e.limit.resize(maxInFlight)
	e.dispatcher.reloaded.Store(true)
	e.deliveries.reload()
	e.wakes.everything()
}

func panicError(r any) error { return fmt.Errorf("panic: %v\n%s", r, debug.Stack()) }

// Errors of Stop. Neither loses anything: another daemon, or the next start,
// rules on calls whose outcome is not recorded.
var (
	ErrNotRecorded = errors.New("outcomes could not be recorded within the grace period; another daemon will rule on them")
	ErrCutShort    = errors.New("stopped before every outcome was recorded; another daemon will rule on the rest")
)

// Stop ends the services. Nothing new begins, calls under way may end within
// the grace period, and their outcomes are recorded. Then the lease is given
// up, so that other daemons go on with the rest at once. When ctx ends, Stop
// cuts the calls and returns early.
func (e *Engine) Stop(ctx context.Context) error {
	rest := e.beatOn()
	e.stop()
	e.wg.Wait()
	e.waitForCalls(ctx)
	e.stopCalls()
	e.calls.Dismiss()
	err := e.flush(ctx)
	rest()
	e.stopRecorders()
	e.late.Wait()
	return errors.Join(err, e.retire(ctx))
}

// beatOn keeps the lease while calls end and outcomes are recorded, until the
// returned function is called.
func (e *Engine) beatOn() (rest func()) {
	ctx, cancel := context.WithCancel(context.Background())
	e.late.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				e.wakes.draining()
			}
		}
	})
	return cancel
}

func (e *Engine) waitForCalls(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		e.calls.Wait()
		close(done)
	}()
	timer := time.NewTimer(e.cfg.Grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// flush waits until every outcome is recorded.
func (e *Engine) flush(ctx context.Context) error {
	timer := time.NewTimer(e.cfg.Grace)
	defer timer.Stop()
	for _, drained := range []<-chan struct{}{e.recorder.drained(), e.deliveries.drained()} {
		select {
		case <-drained:
			continue
		default:
		}
		select {
		case <-drained:
		case <-timer.C:
			return ErrNotRecorded
		case <-ctx.Done():
			return ErrCutShort
		}
	}
	return nil
}

// retire gives the lease up. When ctx has ended it does not wait for a database
// that does not answer: the lease runs out by itself.
func (e *Engine) retire(ctx context.Context) error {
	id := e.lease.id()
	if id == 0 {
		return nil
	}
	patience := e.cfg.StatementTimeout
	if ctx.Err() != nil {
		patience = time.Second
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	err := e.cfg.Store.Retire(ctx, id)
	if store.IsOutage(err) && ctx.Err() == nil { // a failover may have broken this connection
		e.cfg.Store.Discard()
		err = e.cfg.Store.Retire(ctx, id)
	}
	return err
}
