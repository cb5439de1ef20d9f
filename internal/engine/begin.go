package engine

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/failpoint"
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
	heavy    *heavyCalls
	calls    *pool
	caller   *caller
	recorder *recorder
	quiet    *quietHours
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

// Wake asks for a new reading of ready tasks.
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

// untilNext returns how long to sleep before the next task has to begin; again
// is what begin asked for. While no slot is free, a task cannot begin sooner
// than a slot is freed, which wakes the dispatcher.
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

// begin begins the ready tasks and returns how long to wait before trying
// again; zero: until the next entry's time.
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

// beginAside begins a batch beside the running loop. Where a part of the batch
// could not begin, beginAside also waits for the pause before the next try.
func (d *dispatcher) beginAside(ctx context.Context, batch []*entry, now time.Time) {
	defer func() {
		if r := recover(); r != nil { // the tasks of the batch are found again when the daemon's lease is over
			d.faults.caught(ctx, faultBegin, r)
		}
		<-d.beginning
		signal(d.poke)
	}()
	if pause := d.beginBatch(ctx, batch, now); pause > 0 {
		sleep(ctx, pause)
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

// trouble logs a failure of the database, once until the database is back, and
// returns how long to wait before the next try.
func (d *dispatcher) trouble(ctx context.Context, what string, err error) time.Duration {
	d.lease.trouble(ctx, what, err)
	return 200 * time.Millisecond
}

// allow asks the task's app for leave to begin a call. It does not ask for a
// task that will not be pushed, nor for one whose deliveries are stored, since
// each delivery asks for itself. Where it is refused, it returns until when the
// app is held back, by this machine's clock.
func (d *dispatcher) allow(e *entry, now time.Time) (bool, time.Time) {
	if late, _ := d.late(e, now); e.compiled.app == nil && late <= e.compiled.campaign.CatchUpWindow {
		d.lease.lack(e.task.AppNo)
		return false, time.Now().Add(time.Second) // another daemon may have the credentials
	}
	if d.missed(e, now) != "" || e.compiled.message == nil || e.compiled.stored() {
		return true, time.Time{} // no call of this task's begins here
	}
	here := time.Now() // the app's bounds are held by our own clock
	var retry time.Time
	if e.leave, retry = e.compiled.app.begin(here, e.compiled.targetsOfCall()); e.leave != nil {
		return true, time.Time{}
	}
	d.causes.refuse(e.compiled.app, now)
	if retry.IsZero() {
		retry = here.Add(5 * time.Millisecond)
	}
	return false, retry
}

// missed returns why a task is not pushed any more; empty: the task is pushed.
func (d *dispatcher) missed(e *entry, now time.Time) string {
	c := &e.compiled.campaign
	late, held := d.late(e, now)
	quota := e.task.WaitsFor != "" && e.task.WaitsFor != store.WaitsForQuiet
	switch {
	case c.QuietPolicy == "skip" && !d.quiet.of(c).End(e.task.DueAt).IsZero():
		return store.QuietReason
	case late > c.CatchUpWindow && quota:
		return e.task.WaitsFor
	case late > c.CatchUpWindow && e.compiled.app == nil:
		return "no daemon has credentials for the app"
	case late > c.CatchUpWindow:
		return windowReason(c)
	case held && c.MisfirePolicy != "all" && !quota && e.overtaken(now):
		return "misfire policy " + c.MisfirePolicy + ": a later occurrence was due"
	case late <= d.misfireGrace || e.task.Origin != "scheduled" || quota:
		return ""
	case c.MisfirePolicy == "skip":
		return "misfire policy skip: it was " + late.Truncate(time.Second).String() + " late"
	case c.MisfirePolicy == "latest" && e.overtaken(now):
		return "misfire policy latest: a later occurrence was due"
	}
	return ""
}

// late returns how late the task is, and whether quiet hours have held it.
func (d *dispatcher) late(e *entry, now time.Time) (time.Duration, bool) {
	c, from := &e.compiled.campaign, e.task.DueAt
	if !e.task.WindowFrom.IsZero() {
		from = e.task.WindowFrom
	}
	return late(d.quiet.of(c), from, c.CatchUpWindow, now)
}

// overtaken says that a later occurrence of the same schedule is due.
func (e *entry) overtaken(now time.Time) bool {
	if e.task.Origin != "scheduled" || e.compiled.message == nil {
		return false
	}
	next := e.compiled.schedule.Next(e.task.DueAt)
	return !next.IsZero() && !next.After(now)
}

// beginBatch sorts a batch by what has to be done with each task, and does it.
// Each entry holds a slot; an entry that is to be claimed also holds its app's
// leave.
func (d *dispatcher) beginBatch(ctx context.Context, batch []*entry, now time.Time) (pause time.Duration) {
	var misses, starts, claims []*entry
	var unpushable []int64
	for _, e := range batch {
		switch {
		case d.missed(e, now) != "":
			misses = append(misses, e)
		case e.compiled.message == nil:
			d.limit.release(1)
			unpushable = append(unpushable, e.task.CampaignID) // the planner rejects it; its task goes away
			d.due.done(e)
		case e.compiled.stored():
			starts = append(starts, e)
		default:
			claims = append(claims, e)
		}
	}
	d.startStored(ctx, starts)
	d.rejudged(ctx, unpushable)
	return max(d.miss(ctx, misses, now), d.claim(ctx, claims))
}

// rejudged has the planner judge campaigns again that are due and cannot be
// pushed, though nobody has changed their rows.
func (d *dispatcher) rejudged(ctx context.Context, campaigns []int64) {
	if len(campaigns) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.statementTimeout)
	defer cancel()
	d.cache.forget(campaigns) // they may be good again when they are read anew
	if err := d.store.Rejudge(ctx, campaigns); err != nil {
		d.lease.trouble(ctx, "have campaigns judged again", err)
		return
	}
	d.wakes.campaignsToPlan()
}

// put gives an entry's slot and leave back without a call.
func (d *dispatcher) put(entries ...*entry) {
	for _, e := range entries {
		e.leave.end()
		e.leave = nil
	}
	d.limit.release(len(entries))
}

// miss decides tasks as missed, each on the revision it was judged by. A task
// whose campaign has another revision by now is not decided, and is read anew.
func (d *dispatcher) miss(ctx context.Context, entries []*entry, now time.Time) time.Duration {
	if len(entries) == 0 {
		return 0
	}
	defer d.limit.release(len(entries)) // they had no leave to give back
	misses := make([]store.Decision, len(entries))
	byTask := make(map[int64]*entry, len(entries))
	for i, e := range entries {
		misses[i] = store.Decision{TaskID: e.task.ID, Revision: e.compiled.campaign.Revision, Reason: d.missed(e, now)}
		byTask[e.task.ID] = e
	}
	ctx, cancel := context.WithTimeout(ctx, d.statementTimeout)
	defer cancel()
	failpoint.Hit("miss.before")
	done, err := d.store.Missed(ctx, d.lease.id(), misses)
	d.due.done(entries...)
	if err != nil {
		return d.trouble(ctx, "record missed tasks", err)
	}
	if len(done) < len(misses) {
		d.reader.Wake()
	}
	logDecisions(ctx, d.log, d.metrics, d.traces, done)
	var ended []int64
	apps := make(map[int32]bool)
	for i := range done {
		apps[done[i].AppNo] = true
		if byTask[done[i].TaskID].last() {
			ended = append(ended, done[i].CampaignID)
		}
	}
	d.wakes.tasksDecided(ended)
	d.hint(apps)
	return 0
}

// last says whether the campaign has no occurrence after the entry's.
func (e *entry) last() bool {
	return e.task.Origin != "triggered" && e.compiled.schedule.Next(e.task.DueAt).IsZero()
}

// maxStarts is how many tasks with stored deliveries are begun at once.
// startTimeout is how long one may take; it is long, since an audience may have
// millions of targets.
const (
	maxStarts    = 4
	startTimeout = 10 * time.Minute
)

// startStored begins tasks whose deliveries are stored one by one. Nothing waits
// for it, since the database takes seconds to cut a large audience.
func (d *dispatcher) startStored(ctx context.Context, entries []*entry) {
	for _, e := range entries {
		d.calls.Go(func() {
			defer d.limit.release(1)
			defer d.due.done(e)
			select {
			case d.starts <- struct{}{}:
				defer func() { <-d.starts }()
				d.startOne(ctx, e)
			case <-ctx.Done():
			}
		})
	}
}

func (d *dispatcher) startOne(ctx context.Context, e *entry) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	began := d.traces.now()
	failpoint.Hit("start.before")
	started, err := d.store.StartTask(ctx, d.lease.id(), time.Time{}, *e.compiled.start(e.task.ID))
	failpoint.Hit("start.after")
	switch {
	case err != nil:
		d.lease.trouble(ctx, "start task", err)
		return
	case !started.Begun:
		if !started.NoQuota {
			held, _ := d.hold(ctx, []int64{e.task.ID})
			if len(held) == 0 && d.quiet.hold(&e.compiled.campaign, d.clock.Now()) {
				return // somebody is changing the quiet hours: the next beat looks again
			}
		}
		d.reader.Wake() // its campaign may have been changed
		return
	case started.Decided != nil:
		logDecided(ctx, d.log, d.metrics, d.traces, started.Decided, "")
		d.wakes.tasksDecided([]int64{e.task.CampaignID})
	case started.Slices > 0:
		d.traces.started(e, began)
		if started.Note != "" {
			d.log.InfoContext(ctx, "spread shortened", "campaign", e.task.CampaignID, "task", e.task.ID, "why", started.Note)
		}
		d.causes.note(e.task.ID, d.causes.of(e, d.clock.Now(), d.lease.steadyFor(), d.lease.releasedAt()))
		d.wakes.deliveriesStored()
	}
	d.hint(map[int32]bool{e.task.AppNo: true})
}

// claim makes the intent of a batch durable and lets its calls begin.
func (d *dispatcher) claim(ctx context.Context, entries []*entry) time.Duration {
	if len(entries) == 0 {
		return 0
	}
	ids := make([]int64, len(entries))
	byTask := make(map[int64]*entry, len(entries))
	for i, e := range entries {
		ids[i] = e.task.ID
		byTask[e.task.ID] = e
	}
	daemon := d.lease.id()
	began, traced, asked := time.Now(), d.traces.now(), d.clock.Now()
	claim, tasks, err := d.ask(ctx, daemon, ids, byTask, slices.ContainsFunc(entries, func(e *entry) bool { return e.compiled.mayTakeTargets() }))
	d.due.done(entries...)
	if err != nil {
		d.put(entries...)
		return d.trouble(ctx, "claim tasks", err)
	}
	d.metrics.ClaimSeconds.Observe(time.Since(began).Seconds())
	started := d.clock.Now()
	mine := make([]*claimed, 0, len(tasks))
	apps := make(map[int32]bool)
	for _, t := range tasks {
		e := byTask[t.ID]
		delete(byTask, t.ID)
		c := &claimed{entry: e, daemon: daemon, claim: claim, ClaimedTask: t, asked: asked, started: notBefore(started, e.task.DueAt)}
		mine = append(mine, c)
		d.traces.claimed(c, traced)
		apps[e.task.AppNo] = true
	}
	d.hint(apps)
	d.launch(ctx, mine)
	pause := d.holdQuiet(ctx, byTask, started)
	return max(pause, d.passedBy(byTask, started))
}

// holdQuiet deals with tasks that a claim did not get because quiet hours hold
// them: it has them wait for the end of the quiet hours, and takes them out of
// left.
func (d *dispatcher) holdQuiet(ctx context.Context, left map[int64]*entry, now time.Time) (pause time.Duration) {
	var ids []int64
	for id, e := range left {
		if d.quiet.hold(&e.compiled.campaign, now) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, d.statementTimeout)
	defer cancel()
	held, err := d.hold(ctx, ids)
	if err != nil {
		return 200 * time.Millisecond
	}
	for _, id := range held {
		d.put(left[id])
		delete(left, id)
	}
	return 0
}

// hold has tasks wait for the end of the quiet hours that hold them.
func (d *dispatcher) hold(ctx context.Context, ids []int64) ([]int64, error) {
	failpoint.Hit("quiet.before")
	held, err := d.store.HoldTasks(ctx, ids)
	if err != nil {
		d.lease.trouble(ctx, "hold tasks until quiet hours end", err)
	}
	return held, err
}

// passedBy deals with tasks that a claim did not get. A task that became ready
// only just now is tried again in a moment, since the database's clock may be
// behind this daemon's estimate of it. Any other task was taken by another
// daemon, or is locked by an author's open transaction; the next read-ahead
// finds it again if it still stands.
func (d *dispatcher) passedBy(left map[int64]*entry, now time.Time) (pause time.Duration) {
	var again []*entry
	for _, e := range left {
		d.put(e)
		if now.Sub(e.task.ReadyAt) < 20*time.Millisecond {
			again = append(again, e)
		}
	}
	if len(again) == 0 {
		return 0
	}
	d.due.putBack(again)
	return time.Millisecond
}

// ask makes the intent durable, with the names of the targets where some may be
// listed in campaign_targets. The statement goes on when the daemon stops, since
// the database may have granted the claim already.
func (d *dispatcher) ask(ctx context.Context, daemon int64, ids []int64, byTask map[int64]*entry, listed bool) (claim int64, tasks []store.ClaimedTask, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.statementTimeout)
	defer cancel()
	d.lost.asking.RLock()
	defer d.lost.asking.RUnlock()
	failpoint.Hit("claim.before")
	generation := d.ledger.open()
	if listed {
		claim, tasks, err = d.store.ClaimListed(ctx, daemon, time.Time{}, ids, apps(byTask)...)
	} else {
		claim, tasks, err = d.store.Claim(ctx, daemon, time.Time{}, ids, apps(byTask)...)
	}
	if err != nil {
		d.lost.answerLost()
		return 0, nil, err
	}
	if !d.ledger.note(generation, func(p *page) { p.intents = append(p.intents, intents(claim, tasks, byTask)...) }) {
		d.lost.answerLost()
		return 0, nil, store.ErrUnrecognised
	}
	failpoint.Hit("claim.after")
	if len(tasks) > 0 {
		d.recorder.opened(daemon, claim, len(tasks))
	}
	return claim, tasks, nil
}

// apps returns the apps of the tasks.
func apps(tasks map[int64]*entry) []int32 {
	var out []int32
	for _, e := range tasks {
		if !slices.Contains(out, e.task.AppNo) {
			out = append(out, e.task.AppNo)
		}
	}
	return out
}

// intents returns what the ledger keeps of a claim.
func intents(claim int64, tasks []store.ClaimedTask, byTask map[int64]*entry) []store.Intent {
	out := make([]store.Intent, len(tasks))
	for i, t := range tasks {
		e := byTask[t.ID].task
		out[i] = store.Intent{
			ClaimID: claim, TaskID: t.ID, AppNo: e.AppNo, CampaignID: e.CampaignID, Revision: t.Revision, Origin: e.Origin, DueAt: e.DueAt,
		}
	}
	return out
}
