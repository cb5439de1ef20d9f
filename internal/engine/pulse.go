package engine

import (
	"context"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
)

// A pulse is the heartbeat: robfig/cron, and a watch over it. cron sleeps until
// a time of the wall clock, and where that is put back it stands still for as
// long. The watch counts by the monotonic clock, and winds it up again.
type pulse struct {
	cron *cron.Cron

	mu   sync.Mutex
	last time.Time // the last beat
}

// newPulse makes a pulse. Recover stands inside SkipIfStillRunning: outside, one
// panic would stop a job for ever. The jobs only wake loops.
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
			p.cron.Start() // works out anew when each job is next
		}
	}
}

// silent is how long there was no beat; nothing before the first.
func (p *pulse) silent() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.IsZero() {
		p.last = time.Now()
	}
	return time.Since(p.last)
}

// everySecond is some time after each second boundary.
type everySecond struct{ after time.Duration }

// Next implements cron.Schedule.
func (s everySecond) Next(t time.Time) time.Time {
	return t.Add(-s.after).Truncate(time.Second).Add(time.Second + s.after)
}
