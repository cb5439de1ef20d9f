package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/campaign-scheduler/scheduler/store"
)

// A loop runs one pass each time it is woken, never two at once. All wakes
// during a pass together lead to one more pass. Every service of the engine is
// a loop: the heartbeat and hints wake it, and a test calls the pass itself.
type loop struct {
	name    string
	pass    func(ctx context.Context) error
	timeout time.Duration // of one pass; zero: none
	log     *slog.Logger

	woken  chan struct{}
	failed bool // the log knows that passes fail; only the running loop touches it
	late   int  // passes in a row that were not over in time, while the database answered; only the running loop touches it

	answers func() bool // whether the database answers others; nil: it does
}

// newLoop makes a loop. answers says whether the database answers other services;
// nil: it always does. A pass that is late while it answers is this service's
// fault.
func newLoop(name string, log *slog.Logger, timeout time.Duration, answers func() bool, pass func(ctx context.Context) error) *loop {
	return &loop{name: name, pass: pass, timeout: timeout, answers: answers, log: log, woken: make(chan struct{}, 1)}
}

// Wake asks for a pass. It never blocks.
func (l *loop) Wake() { signal(l.woken) }

// retryLater wakes the loop again after a pause that spares a database in
// trouble.
func (l *loop) retryLater(ctx context.Context) {
	t := time.AfterFunc(200*time.Millisecond, l.Wake)
	context.AfterFunc(ctx, func() { t.Stop() })
}

// wanted says whether another pass was asked for.
func (l *loop) wanted() bool { return len(l.woken) > 0 }

// Start runs passes in a goroutine of wg until ctx ends.
func (l *loop) Start(ctx context.Context, wg *sync.WaitGroup) {
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-l.woken:
				l.runOnce(ctx)
			}
		}
	})
}

// runOnce runs a pass. It logs when passes begin to fail and when they recover, not
// each failure in between. An outage of the database makes every service fail, and only
// the lease's loop logs it. Two passes in a row that are not over in time, while the
// database answers, are logged as a failure of this service.
func (l *loop) runOnce(ctx context.Context) {
	if l.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.timeout)
		defer cancel()
	}
	err := l.guarded(ctx)
	if store.IsTimeout(err) && (l.answers == nil || l.answers()) {
		l.late++
	} else {
		l.late = 0
	}
	switch {
	case err != nil && ctx.Err() == context.Canceled:
	case l.late >= 2 && !l.failed:
		l.failed = true
		l.log.WarnContext(ctx, "service is not done in time, though the database answers; will keep trying", "service", l.name, "times", l.late, "error", err)
	case l.late > 0:
		l.log.DebugContext(ctx, "service is not done in time", "service", l.name, "times", l.late, "error", err)
	case store.IsOutage(err), store.IsRefused(err):
		l.log.DebugContext(ctx, "service waits for the database", "service", l.name, "error", err)
	case err != nil && !l.failed:
		l.failed = true
		l.log.WarnContext(ctx, "service failing, will keep trying", "service", l.name, "error", err)
	case err == nil && l.failed:
		l.failed = false
		l.log.InfoContext(ctx, "service recovered", "service", l.name)
	}
}

// guarded turns a panic into an error, so that one bad row cannot end a loop.
func (l *loop) guarded(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicError(r)
		}
	}()
	return l.pass(ctx)
}

// A pulse is the heartbeat: robfig/cron, and a watch over it. cron sleeps until
// a time of the wall clock, so it stands still when that clock is set back. The
// watch goes by the monotonic clock, and starts cron again.
type pulse struct {
	cron *cron.Cron

	mu   sync.Mutex
	last time.Time // the last beat
}

// newPulse makes a pulse. Recover stands inside SkipIfStillRunning: if it stood
// outside, one panic would stop a job for ever. The jobs only wake loops.
func newPulse() *pulse {
	chain := cron.WithChain(cron.SkipIfStillRunning(cron.DiscardLogger), cron.Recover(cron.DiscardLogger))
	return &pulse{cron: cron.New(cron.WithSeconds(), cron.WithLocation(time.UTC), cron.WithLogger(cron.DiscardLogger), chain)}
}

// every adds a job.
func (p *pulse) every(s cron.Schedule, job func()) {
	p.cron.Schedule(s, cron.FuncJob(func() {
		p.mu.Lock()
		p.last = time.Now()
		p.mu.Unlock()
		job()
	}))
}

// run beats until ctx ends.
func (p *pulse) run(ctx context.Context) {
	p.cron.Start()
	defer func() { <-p.cron.Stop().Done() }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p.silent() > 2*time.Second {
			<-p.cron.Stop().Done()
			p.cron.Start() // works out the next time of each job anew
		}
	}
}

// silent returns the time since the last beat, or zero before the first.
func (p *pulse) silent() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.IsZero() {
		p.last = time.Now()
	}
	return time.Since(p.last)
}

// everySecond is a schedule that beats at a fixed time after each second of the
// wall clock.
type everySecond struct{ after time.Duration }

// Next implements cron.Schedule.
func (s everySecond) Next(t time.Time) time.Time {
	return t.Add(-s.after).Truncate(time.Second).Add(time.Second + s.after)
}
