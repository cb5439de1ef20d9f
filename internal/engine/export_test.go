package engine

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// Internals that the tests look at from outside.

var (
	First      = first
	Parse      = schedule
	OnSchedule = onSchedule
	NewLoop    = newLoop
	RunOnce    = func(l *loop, ctx context.Context) { l.runOnce(ctx) }
)

// LedgerPages is how many heartbeats the ledger remembers.
const LedgerPages = ledgerPages

// EverySecond is the schedule of the heartbeat.
type EverySecond = everySecond

// A Filling is what fill came to.
type Filling struct {
	Insert   []store.NewTask
	Displace []store.PendingTask
	Missed   []store.Decision
	Cursors  []store.Cursor
}

// A Candidate is what fill takes.
type Candidate struct {
	Campaign *store.Campaign
	Schedule strategy.Schedule
	Next     time.Time
}

// Fill calls fill.
func Fill(pending []store.PendingTask, candidates []Candidate, limit int, now time.Time) Filling {
	in := make([]candidate, len(candidates))
	for i, c := range candidates {
		in[i] = candidate{campaign: c.Campaign, schedule: c.Schedule, next: c.Next}
	}
	f := fill(pending, in, limit, now)
	return Filling{Insert: f.insert, Displace: f.displace, Missed: f.missed, Cursors: f.advanced}
}

// Abandon ends an engine as kill -9 does: nothing is recorded, and the lease
// is not given up. It waits until nothing of the engine is left running.
func (e *Engine) Abandon() {
	e.stopRecorders()
	e.late.Wait()
	e.stop()
	e.stopCalls()
	e.wg.Wait()
	e.calls.Dismiss()
}

// DaemonID is the lease the daemon holds; zero: none.
func (e *Engine) DaemonID() int64 { return e.lease.id() }

// MayPush says whether a call claimed under a lease may begin now.
func (e *Engine) MayPush(daemon int64) bool { return e.dispatcher.caller.mayPush(daemon) }

// Beats is how many heartbeats the daemon has written and remembers.
func (e *Engine) Beats() int64 { return e.lease.written() }

// Pruner removes what is old, a pass at a time.
type Pruner = pruner

// NewPruner makes one.
func NewPruner(s *store.Store, log *slog.Logger, r Retention) *Pruner {
	return newPruner(s, log, NewMetrics(nil), &Clock{}, nil, r)
}

// Pass makes one pass.
func (p *Pruner) Pass(ctx context.Context) error { return p.prune(ctx) }

// Later lets time pass until the next pass.
func (p *Pruner) Later(d time.Duration) { p.booked = p.booked.Add(-d) }

// Trouble tells of a failed call of the database.
func (e *Engine) Trouble(ctx context.Context, err error) { e.lease.trouble(ctx, "test", err) }

// Recovers tells that the database answers.
func (e *Engine) Recovers() { e.lease.recovers() }

// ReasonLabel is the label of a decision's reason.
var ReasonLabel = reasonLabel

// TraceNothing returns what a push's steps cost where nothing is traced.
func TraceNothing() func() {
	t := newTraces(nil, &Clock{})
	c := &claimed{entry: &entry{compiled: &compiled{}}}
	batch := slices.Repeat([]*result{{}}, 10)
	return func() {
		from := t.now()
		t.claimed(c, from)
		t.called(c.traced(), 1, 1, &dispatch.Push{}, dispatch.Outcome{}, from)
		t.recorded(batch, nil, from)
		t.decided(&batch[0].decision)
	}
}

// HaltCron makes cron stand still, as it does when the wall clock is put back.
func (e *Engine) HaltCron() { e.pulse.cron.Stop() }

// Enlist takes a lease, before any heartbeat.
func (e *Engine) Enlist(ctx context.Context) error { return e.lease.enlist(ctx) }

// RunOnce runs one pass.
func (p *Planner) RunOnce(ctx context.Context) {
	p.runOnce(ctx)
	for e, rest, _ := p.queue.take(); e != nil; e, rest, _ = p.queue.take() {
		p.attend(ctx, e, rest)
	}
}

// GiveBack gives back what the daemon does not know to be its own.
func (e *Engine) GiveBack(ctx context.Context) error { return e.lost.giveBack(ctx) }

// Sightings are what a daemon has seen of the others.
type Sightings struct{ s sightings }

// Look takes in what a heartbeat was told.
func (s *Sightings) Look(now time.Time, peers []store.Peer, self int64, lease time.Duration) (alive []int64, dead []store.Peer) {
	return s.s.look(now, peers, self, lease)
}
