package engine

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A dispatcher begins tasks at their second. It reads a little ahead into its
// dueQueue. When a task's time has come, the dispatcher makes the intent to push
// durable (the claim), and only then lets the call begin. What was read ahead may
// be out of date by then: the claim takes only what still stands.
type dispatcher struct {
	dispatcherParts
	due *dueQueue

	reader   *loop
	poke     chan struct{}
	reloaded atomic.Bool
	unread   atomic.Bool   // the last read-ahead left tasks within the horizon unread
	starts   chan struct{} // slots of startStored
	// pushing outlives the dispatcher's context by the grace period, so that
	// calls under way may end.
	pushing context.Context //nolint:containedctx // it bounds calls, not this struct's methods

	claimedAt time.Time      // when the last batch was begun; only the running loop touches it
	begun     sync.WaitGroup // batches
	beginning chan struct{}  // holds one of claimers for each batch
}

// dispatcherParts is what a dispatcher is made of. All are required.
type dispatcherParts struct {
	store    *store.Store
	log      *slog.Logger
	metrics  *Metrics
	traces   *traces
	faults   *faults
	clock    *Clock
	lease    *lease
	ledger   *ledger
	cache    *compileCache
	limit    *callLimit
	calls    *pool
	caller   *caller
	recorder *recorder
	lost     *lostClaims
	causes   *latenessCauses
	wakes    wakes

	statementTimeout time.Duration // of one database call on the way to a push
	misfireGrace     time.Duration // lateness from which the misfire policy applies
	retry            RetryPolicy
	horizon          time.Duration // how far it reads ahead
	claimBatch       int           // tasks claimed at once
	capacity         int           // tasks held in memory
	maxBacklog       int           // outcomes waiting to be recorded at which no task begins
}

// claimers is how many batches are begun at once: while the claim of one waits
// for the disk, the next is made ready.
const claimers = 2

// gather is how long the dispatcher waits for slots while fewer than half are
// free: a claim of many tasks costs the database little more than a claim of one.
const gather = 5 * time.Millisecond

func newDispatcher(parts dispatcherParts) *dispatcher {
	d := &dispatcher{
		dispatcherParts: parts, due: newDueQueue(), poke: make(chan struct{}, 1), starts: make(chan struct{}, maxStarts),
		beginning: make(chan struct{}, claimers),
	}
	d.reader = newLoop("reader", parts.log, 10*time.Second, parts.lease.answers, d.readAhead)
	return d
}

// Start runs the dispatcher until ctx ends; calls under way go on until pushing
// ends.
func (d *dispatcher) Start(ctx, pushing context.Context, wg *sync.WaitGroup) {
	d.pushing = pushing
	d.reader.Start(ctx, wg)
	wg.Go(func() { d.run(ctx) })
}

// Wake asks for a fresh look at what is ready.
func (d *dispatcher) Wake() { d.reader.Wake() }

// run begins tasks whenever the next one's time comes or a slot is freed.
func (d *dispatcher) run(ctx context.Context) {
	defer d.begun.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		again := d.begin(ctx)
		timer.Reset(d.untilNext(again))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-d.poke:
		case <-d.limit.freed:
		}
	}
}

// untilNext is how long nothing has to be begun. Without a free slot there is
// nothing to wait for but a slot.
func (d *dispatcher) untilNext(again time.Duration) time.Duration {
	if again > 0 {
		return again
	}
	wait, ok := d.due.next(d.clock.Now())
	if !ok || d.limit.available() <= 0 {
		return time.Hour
	}
	return wait
}

// begin begins what is ready and returns how long to wait before trying again;
// zero: until the next entry's time.
func (d *dispatcher) begin(ctx context.Context) time.Duration {
	for ctx.Err() == nil {
		if !d.lease.alive() {
			return 100 * time.Millisecond
		}
		if d.recorder.backlog() > d.maxBacklog {
			return 10 * time.Millisecond
		}
		now := d.clock.Now()
		if wait, ok := d.due.next(now); !ok || wait > 0 {
			d.readOn()
			return 0
		}
		if wait := gather - time.Since(d.claimedAt); wait > 0 && d.limit.scarce() {
			return wait
		}
		if len(d.beginning) == claimers {
			return time.Hour // the end of one wakes us
		}
		n := d.limit.acquire(d.claimBatch)
		if n == 0 {
			return 0
		}
		batch := d.due.take(now, n, func(e *entry) (bool, time.Time) { return d.allow(e, now) })
		d.limit.release(n - len(batch))
		if len(batch) == 0 {
			return 0
		}
		d.claimedAt = time.Now()
		d.beginning <- struct{}{}
		d.begun.Go(func() { d.beginAside(ctx, batch, now) })
		if d.due.len() < d.capacity/4 {
			d.readOn()
		}
	}
	return 0
}

// readOn wakes the reader when it stopped before the end of the horizon, for
// want of room.
func (d *dispatcher) readOn() {
	if d.unread.Swap(false) {
		d.reader.Wake()
	}
}

// beginAside begins a batch beside the running loop. What it could not begin
// has a pause before the next try, which it sits out.
func (d *dispatcher) beginAside(ctx context.Context, batch []*entry, now time.Time) {
	defer func() {
		if r := recover(); r != nil { // what the batch holds is found again when the daemon's lease is over
			d.faults.caught(ctx, faultBegin, r)
		}
		<-d.beginning
		d.nudge()
	}()
	if pause := d.beginBatch(ctx, batch, now); pause > 0 {
		sleep(ctx, pause)
	}
}

// nudge wakes the running loop.
func (d *dispatcher) nudge() {
	select {
	case d.poke <- struct{}{}:
	default:
	}
}

// hint tells the planner that the apps have room.
func (d *dispatcher) hint(apps map[int32]bool) {
	if len(apps) == 0 {
		return
	}
	list := make([]int32, 0, len(apps))
	for a := range apps {
		list = append(list, a)
	}
	d.wakes.tasksBegun(d.clock.Now().Add(d.horizon), list...)
}

// trouble logs a failure of the database once per state and says how long to
// spare it.
func (d *dispatcher) trouble(ctx context.Context, what string, err error) time.Duration {
	d.lease.trouble(ctx, what, err)
	return 200 * time.Millisecond
}
