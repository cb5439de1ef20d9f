package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// deliveries runs stored deliveries: those of large audiences, calls that count
// against a quota, and further attempts. Any daemon runs any of them, except
// those of apps with a bounded rate, which one daemon at a time runs.
//
// A claim says that the call begins now. So the app is asked for leave first, and
// a slot is taken. The deliveries that may begin are then claimed, all in one
// statement, and begin. Leave and slot are kept until the outcome is recorded. So
// a kill leaves no more calls unknown than may be under way.
type deliveries struct {
	deliveriesParts

	queue   *deliveryQueue
	reader  *loop
	writer  *loop
	poke    chan struct{}
	aside   sync.WaitGroup  // batches that are claimed and have not begun all their calls
	pushing context.Context //nolint:containedctx // it bounds calls, not this struct's methods

	apart time.Duration // by how much the database's clock was ahead of ours at the last reading; only the reader touches it

	cutting chan struct{} // slots of recut
	reading chan struct{} // slots of launchRest

	mu       sync.Mutex
	outcomes []attemptEnd
	held     map[int64]*heldCampaign
	running  map[int64]int32 // the attempt under way of each delivery
	moving   map[int64]bool  // tasks whose deliveries are being spread anew
	idle     chan struct{}   // closed when nothing is under way; nil: nobody waits
}

// deliveriesParts is what deliveries are made of. All are required.
type deliveriesParts struct {
	store   *store.Store
	log     *slog.Logger
	metrics *Metrics
	traces  *traces
	clock   *Clock
	lease   *lease
	ledger  *ledger
	cache   *compileCache
	limit   *callLimit
	heavy   *heavyCalls
	calls   *pool
	caller  *caller
	quiet   *quietHours
	lost    *lostClaims
	causes  *latenessCauses
	wakes   wakes

	app              func(appNo int32) *App // nil for an app without credentials here
	limited          func() []int32         // apps another daemon serves, since their rate is bounded
	statementTimeout time.Duration          // of one database call on the way to a push
	retry            RetryPolicy
	horizon          time.Duration // how far they are read ahead
	claimBatch       int           // deliveries claimed at once
}

// readers is how many batches read the parameters of targets at once.
const readers = 2

// lineSize is how many deliveries of one app are held in memory.
const lineSize = 512

// A heldCampaign is a campaign of which claims got no delivery: its author may
// hold a lock on it. One claim in vain may be due to deliveries that were read
// before a change. After the second one, the campaign is left out of the
// readings for heldFor.
type heldCampaign struct {
	misses int
	until  time.Time
}

const heldFor = 200 * time.Millisecond

// An attempt is a delivery that was claimed and whose outcome is not recorded yet.
type attempt struct {
	store.Delivery
	daemon   int64     // the lease it was claimed under
	asked    time.Time // when its claim was asked for, by the database's clock
	compiled *compiled
	leave    *leave
}

// An attemptEnd is an outcome that waits to be recorded.
type attemptEnd struct {
	store.DeliveryOutcome
	attempt *attempt // nil: the attempt ended before, and the database lost its record
}

func newDeliveries(parts deliveriesParts) *deliveries {
	s := &deliveries{
		deliveriesParts: parts, queue: newDeliveryQueue(), poke: make(chan struct{}, 1), cutting: make(chan struct{}, maxStarts),
		reading: make(chan struct{}, readers),
		running: make(map[int64]int32), held: make(map[int64]*heldCampaign), moving: make(map[int64]bool),
	}
	s.reader = newLoop("delivery reader", parts.log, 10*time.Second, nil, s.readAhead)
	s.writer = newLoop("delivery recorder", parts.log, 0, nil, s.record)
	return s
}

// Start runs deliveries until ctx ends; calls under way go on until pushing
// ends, and their outcomes are recorded until recording ends.
func (s *deliveries) Start(ctx, pushing, recording context.Context, wg, late *sync.WaitGroup) {
	s.pushing = pushing
	s.reader.Start(ctx, wg)
	wg.Go(func() { s.run(ctx) })
	s.writer.Start(recording, late)
}

// Wake asks for a new reading of ready deliveries.
func (s *deliveries) Wake() { s.reader.Wake() }

// reload forgets deliveries that were read with the old configuration.
func (s *deliveries) reload() {
	s.queue.clear()
	s.Wake()
}

// run begins deliveries whenever the next one's time or its app's next leave
// comes, or a slot is free again.
func (s *deliveries) run(ctx context.Context) {
	defer s.aside.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(s.begin(ctx))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.poke:
		case <-s.limit.spared:
		}
	}
}

// begin begins what may begin now and returns how long there is nothing to do.
func (s *deliveries) begin(ctx context.Context) time.Duration {
	const nothing = time.Hour // until something wakes us
	for ctx.Err() == nil {
		if !s.lease.alive() {
			return 100 * time.Millisecond
		}
		now := time.Now()
		at, ok := s.queue.next()
		if !ok {
			return nothing
		}
		if wait := at.Sub(now); wait > 0 {
			return wait
		}
		// Half of the slots at most, so that tasks at their second find room.
		n := s.limit.acquire(min(s.claimBatch, s.limit.spare()))
		if n == 0 {
			return nothing
		}
		batch := s.queue.take(now, n, func(w *waiting) (headRuling, time.Time) { return s.mayBegin(w, now) })
		s.limit.release(n - len(batch))
		if s.queue.low() {
			s.reader.Wake()
		}
		if len(batch) > 0 && !s.claim(ctx, batch) {
			return 200 * time.Millisecond
		}
	}
	return nothing
}

// mayBegin asks a delivery's app for leave, if the delivery is about to make a call.
func (s *deliveries) mayBegin(w *waiting, now time.Time) (headRuling, time.Time) {
	v := w.compiled
	switch {
	case v.app == nil:
		return dropIt, time.Time{}
	case v.message == nil || s.uncut(w):
		return takeIt, time.Time{} // no call is made
	}
	var retry time.Time
	w.leave, retry = v.app.leave(now, w.Targets, func() {
		s.queue.release(w.AppNo)
		signal(s.poke)
	})
	if w.leave != nil {
		return takeIt, time.Time{}
	}
	if w.Attempts == 0 {
		s.causes.note(w.TaskID, causeThrottle)
	}
	if retry.IsZero() {
		retry = now.Add(time.Hour) // a call that ends wakes us
	}
	return holdIt, retry
}

// uncut says whether a delivery needs targets and its targets are not known any more.
func (s *deliveries) uncut(w *waiting) bool { return !w.Named && w.compiled.needsTargets() }

// claim makes the intent of a batch durable and lets its calls begin. It returns
// whether the database answered.
func (s *deliveries) claim(ctx context.Context, batch []*waiting) bool {
	want := make([]store.WaitingDelivery, 0, len(batch))
	byID := make(map[int64]*waiting, len(batch))
	kept := batch[:0]
	for _, w := range batch {
		if w.compiled.message != nil && s.uncut(w) {
			s.limit.release(1)
			s.aside.Go(func() { s.recut(ctx, w) })
			continue
		}
		kept = append(kept, w)
		want = append(want, w.WaitingDelivery)
		byID[w.ID] = w
	}
	if len(want) == 0 {
		return true
	}
	daemon := s.lease.id()
	asked := s.clock.Now()
	got, err := s.ask(ctx, daemon, want)
	begun := make(map[int64]bool, len(got))
	attempts := make([]*attempt, len(got))
	for i, d := range got {
		begun[d.ID] = true
		attempts[i] = &attempt{Delivery: d, daemon: daemon, asked: asked, compiled: byID[d.ID].compiled, leave: byID[d.ID].leave}
	}
	for _, w := range kept {
		if !begun[w.ID] {
			w.leave.end()
			s.limit.release(1)
		}
	}
	s.queue.done(kept...)
	if err == nil {
		s.notePassedBy(kept, begun)
	}
	if len(got) < len(kept) {
		s.reader.Wake()
	}
	if len(attempts) > 0 {
		s.aside.Go(func() { s.launch(ctx, attempts) })
	}
	return err == nil
}

// notePassedBy remembers the campaigns of which a claim got no delivery.
func (s *deliveries) notePassedBy(asked []*waiting, begun map[int64]bool) {
	type campaign struct {
		app int32
		id  int64
	}
	got := make(map[campaign]bool)
	for _, w := range asked {
		c := campaign{w.AppNo, w.CampaignID}
		got[c] = got[c] || begun[w.ID]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, some := range got {
		if some {
			delete(s.held, c.id)
			continue
		}
		s.queue.drop(c.app, c.id)
		h := s.held[c.id]
		if h == nil {
			h = &heldCampaign{}
			s.held[c.id] = h
		}
		h.until = time.Now()
		if h.misses++; h.misses > 1 {
			h.until = h.until.Add(heldFor)
			time.AfterFunc(heldFor, s.reader.Wake)
		}
	}
}

// heldBack lists the campaigns that are left out of the reading now.
func (s *deliveries) heldBack() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, out := time.Now(), []int64{}
	for id, h := range s.held {
		switch {
		case now.Before(h.until):
			out = append(out, id)
		case now.Sub(h.until) > time.Minute:
			delete(s.held, id)
		}
	}
	return out
}

// ask makes the intent of attempts durable. The request is not given up when the
// daemon stops: it may have been granted.
func (s *deliveries) ask(ctx context.Context, daemon int64, want []store.WaitingDelivery) ([]store.Delivery, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.statementTimeout)
	defer cancel()
	s.lost.asking.RLock()
	defer s.lost.asking.RUnlock()
	failpoint.Hit("slice.claim.before")
	generation := s.ledger.open()
	got, err := s.store.ClaimDeliveries(ctx, daemon, time.Time{}, want)
	if err != nil {
		s.lost.answerLost()
		s.lease.trouble(ctx, "claim deliveries", err)
		return nil, err
	}
	if !s.ledger.note(generation, func(p *page) {
		for i := range got {
			p.attempts = append(p.attempts, attemptOf(&got[i]))
		}
	}) {
		s.lost.answerLost()
		return nil, store.ErrUnrecognised
	}
	failpoint.Hit("slice.claim.after")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range got {
		s.running[d.ID] = d.Attempts
	}
	return got, nil
}

// respread gives a task's waiting deliveries new times to begin, because they are so
// late that they would go out at once. Nothing waits for it, since it writes each
// delivery. Where it fails, the next reading asks again.
func (s *deliveries) respread(task int64) {
	s.mu.Lock()
	moving := s.moving[task]
	s.moving[task] = true
	s.mu.Unlock()
	if moving {
		return
	}
	s.calls.Go(func() {
		if respread(s.pushing, s.store, s.lease, s.log, task) { // a pass of the reader ends before
			defer s.reader.Wake()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.moving, task)
	})
}

// respread spreads a task's waiting deliveries anew, logs it, and returns whether it
// has moved any.
func respread(ctx context.Context, s *store.Store, l *lease, log *slog.Logger, task int64) bool {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	failpoint.Hit("respread.before")
	spread, err := s.Respread(ctx, l.id(), time.Time{}, task)
	failpoint.Hit("respread.after")
	if err != nil {
		l.trouble(ctx, "spread deliveries anew", err)
	}
	if spread.Waiting > 0 {
		log.InfoContext(ctx, "deliveries spread anew", "task", task, "deliveries", spread.Waiting, "until", spread.Until, "shortened", spread.Note)
	}
	return spread.Waiting > 0
}

// recut slices a delivery anew whose targets are not known any more.
func (s *deliveries) recut(ctx context.Context, w *waiting) {
	defer s.reader.Wake()
	defer s.queue.done(w)
	select {
	case s.cutting <- struct{}{}:
		defer func() { <-s.cutting }()
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if _, err := s.store.Recut(ctx, w.WaitingDelivery, *w.compiled.start(w.TaskID)); err != nil {
		s.lease.trouble(ctx, "slice a delivery anew", err)
	}
	s.wakes.deliveriesEnded(w.TaskID) // there may be nobody to push to
}

// launch fetches what the calls still need and begins each. Claimed deliveries go
// on even when the daemon stops.
func (s *deliveries) launch(ctx context.Context, attempts []*attempt) {
	ctx = context.WithoutCancel(ctx)
	var listed, viewed []*attempt
	for _, a := range attempts {
		switch v := a.compiled; {
		case v.message != nil && a.stored():
			listed = append(listed, a)
		case v.message != nil && v.needsTargets() && len(v.message.Inline) == 0:
			viewed = append(viewed, a)
		default:
			s.launchOne(ctx, a, nil)
		}
	}
	s.launchRest(ctx, s.launchWhole(ctx, listed), s.store.NamedTargets)
	s.launchRest(ctx, viewed, s.store.ViewTargets)
}

// launchWhole begins the calls whose targets all still stand and have no
// parameters of their own. It returns the other attempts.
func (s *deliveries) launchWhole(ctx context.Context, attempts []*attempt) (rest []*attempt) {
	rows, ok := s.readTargets(ctx, attempts, s.store.WholeTargets)
	for _, a := range attempts {
		targets, whole := rows[a.ID]
		switch {
		case whole:
			s.launchOne(ctx, a, targets)
		case ok:
			rest = append(rest, a)
		}
	}
	return rest
}

type readTargets = func(context.Context, []store.Delivery) (map[int64][]store.Target, error)

// launchRest begins the calls whose targets may have parameters of their own. It
// reads the targets of some calls at a time, since parameters are large.
func (s *deliveries) launchRest(ctx context.Context, attempts []*attempt, read readTargets) {
	if len(attempts) == 0 {
		return
	}
	s.reading <- struct{}{}
	defer func() { <-s.reading }()
	for len(attempts) > 0 {
		n := fitting(attempts, func(a *attempt) int { return len(a.Targets) })
		if rows, ok := s.readTargets(ctx, attempts[:n], read); ok {
			for _, a := range attempts[:n] {
				s.launchOne(ctx, a, rows[a.ID])
			}
		}
		attempts = attempts[n:]
	}
}

// readTargets reads the targets of attempts. Where the reading fails, it puts
// the attempts off.
func (s *deliveries) readTargets(ctx context.Context, attempts []*attempt, read readTargets) (rows map[int64][]store.Target, ok bool) {
	if len(attempts) == 0 {
		return nil, true
	}
	ctx, cancel := context.WithTimeout(ctx, s.statementTimeout)
	defer cancel()
	asked := make([]store.Delivery, len(attempts))
	for i, a := range attempts {
		asked[i] = a.Delivery
	}
	rows, err := read(ctx, asked)
	if err == nil {
		return rows, true
	}
	s.lease.trouble(ctx, "read targets", err)
	for _, a := range attempts {
		s.putOff(a, time.Second, "the targets could not be read")
	}
	return nil, false
}

// stored says whether the delivery's targets are rows of campaign_targets.
func (a *attempt) stored() bool {
	v := a.compiled
	return v.needsTargets() && len(v.message.Inline) == 0 && v.campaign.AudienceView == ""
}

// launchOne begins one call, where there is room for it.
func (s *deliveries) launchOne(ctx context.Context, a *attempt, rows []store.Target) {
	v := a.compiled
	if v.message == nil {
		s.finish(a, dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: v.problem}, false)
		return
	}
	targets := a.targets(rows)
	switch {
	case !v.needsTargets() || len(targets) > 0:
		n := v.weight(targets)
		if !s.heavy.take(v.app, n) {
			s.putOff(a, time.Second, tooHeavy)
			return
		}
		s.calls.Go(func() {
			defer s.heavy.give(v.app, n)
			s.push(a, targets)
		})
	case a.stored() && a.Revision == a.TaskRevision:
		s.finishEmpty(ctx, a)
	default: // the campaign has another audience than the one this delivery was cut from
		s.finish(a, dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: audienceChanged}, false)
	}
}

// audienceChanged is the reason recorded for a delivery whose targets are not in
// its campaign any more.
const audienceChanged = "audience changed: none of its targets is in the campaign any more"

func (s *deliveries) push(a *attempt, targets []dispatch.Target) {
	if s.quiet.began(&a.compiled.campaign, a.asked, s.clock.Now()) {
		s.putOff(a, quietAge, quietBegan)
		return
	}
	p := a.compiled.push(a.TaskID, a.SliceNo, a.DueAt, targets)
	o, sent := s.caller.call(s.pushing, a.daemon, a.compiled.app, a.leave, p)
	s.traces.called(tracedDelivery(&a.Delivery, a.compiled), a.SliceNo, a.Attempts, p, o, sent)
	s.finish(a, o, !sent.IsZero())
}

// finishEmpty ends a delivery whose targets were all deleted, since there is
// nobody to push to. Where the whole campaign was deleted, it gives the delivery
// back, and the settler ends it.
func (s *deliveries) finishEmpty(ctx context.Context, a *attempt) {
	ctx, cancel := context.WithTimeout(ctx, s.statementTimeout)
	defer cancel()
	stands, err := s.store.Campaigns(ctx, []int64{a.CampaignID})
	switch {
	case err != nil:
		s.putOff(a, time.Second, "the campaign could not be read")
	case len(stands) == 0:
		s.putOff(a, 0, "")
	default:
		s.finish(a, dispatch.Outcome{Class: dispatch.Accepted}, false)
	}
}

// targets returns the delivery's targets with their parameters as they stand
// now, or, for an audience view, as they stood when the task began.
func (a *attempt) targets(rows []store.Target) []dispatch.Target {
	v := a.compiled
	switch {
	case !v.needsTargets():
		return nil
	case len(v.message.Inline) > 0:
		return pick(v.inlineTargets(a.DueAt), a.Targets)
	}
	return v.storedTargets(a.DueAt, rows)
}

// pick returns those of the targets that are named.
func pick(targets []dispatch.Target, named []string) []dispatch.Target {
	set := make(map[string]bool, len(named))
	for _, n := range named {
		set[n] = true
	}
	var out []dispatch.Target
	for _, t := range targets {
		if set[t.Target] {
			out = append(out, t)
		}
	}
	return out
}

// earlierAttempt is the reason recorded where a delivery ends as unknown though
// the outcome of its last attempt is known.
const earlierAttempt = "an earlier attempt may have been taken"

// finish turns a call's outcome into the outcome of its delivery, and has it recorded.
func (s *deliveries) finish(a *attempt, o dispatch.Outcome, sent bool) {
	r := s.retry.rule(o, int(a.Attempts), a.compiled.campaign.ResendUnknown, s.clock.Now())
	out := store.DeliveryOutcome{
		Delivery: a.Delivery, DaemonID: a.daemon, Status: r.status, ReadyAt: r.again, Reason: r.reason, Code: o.Code, Message: o.Message,
		RequestID: o.RequestID, MessageID: o.MessageID, Sent: sent,
		MaybeSent: o.Class == dispatch.Unknown, KeepQuota: o.Class != dispatch.NotSent,
	}
	switch r.status {
	case "":
		out.Status = "waiting"
	case "succeeded":
		out.Status = "accepted"
	case "failed":
		if a.MaybeSent { // only this attempt was refused for certain
			out.Status, out.Reason = "unknown", r.reason+"; "+earlierAttempt
		}
	}
	s.put(a, out)
}

// putOff gives a delivery back, without an attempt, for a while.
func (s *deliveries) putOff(a *attempt, pause time.Duration, reason string) {
	s.put(a, store.DeliveryOutcome{Delivery: a.Delivery, DaemonID: a.daemon, Status: "waiting", ReadyAt: s.clock.Now().Add(pause), Reason: reason})
}

// put has the end of an attempt recorded.
func (s *deliveries) put(a *attempt, o store.DeliveryOutcome) {
	s.mu.Lock()
	s.outcomes = append(s.outcomes, attemptEnd{o, a})
	s.mu.Unlock()
	s.writer.Wake()
}

// record makes all waiting outcomes durable in one statement, and gives back
// the slots and leaves of their attempts.
func (s *deliveries) record(ctx context.Context) error {
	for {
		s.mu.Lock()
		batch := s.outcomes
		s.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		if err := s.write(ctx, batch); err != nil {
			s.writer.retryLater(ctx)
			return err
		}
	}
}

func (s *deliveries) write(ctx context.Context, batch []attemptEnd) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	outcomes := make([]store.DeliveryOutcome, len(batch))
	for i := range batch {
		outcomes[i] = batch[i].DeliveryOutcome
	}
	failpoint.Hit("slice.record.before")
	generation := s.ledger.open()
	recorded, err := s.store.RecordDeliveries(ctx, outcomes)
	if err != nil {
		return err
	}
	if !s.ledger.note(generation, func(p *page) { p.keepOutcomes(outcomes) }) {
		return store.ErrUnrecognised // this write may be among those that were lost, so it is done again
	}
	failpoint.Hit("slice.record.after")
	again := s.forget(ctx, batch, recorded)
	slots := 0
	for i := range batch {
		a := batch[i].attempt
		if a == nil { // it was recorded before, and lost
			continue
		}
		slots++
		a.leave.end()
	}
	s.limit.release(slots)
	signal(s.poke)
	if again {
		s.reader.Wake()
	}
	return nil
}

// forget drops outcomes that are recorded, and says whether any of their
// deliveries wait again.
func (s *deliveries) forget(ctx context.Context, batch []attemptEnd, recorded map[int64]bool) (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcomes = s.outcomes[len(batch):]
	if len(s.outcomes) == 0 {
		s.outcomes = nil
	}
	ended := make([]int64, 0, len(batch))
	for i := range batch {
		o := &batch[i].DeliveryOutcome
		if s.running[o.Delivery.ID] == o.Delivery.Attempts { // not a later attempt, which began after this one was fenced
			delete(s.running, o.Delivery.ID)
		}
		switch {
		case !recorded[o.Delivery.ID]:
			s.metrics.Fenced.Inc()
			s.log.WarnContext(ctx, "outcome came too late, the delivery was ruled on already", "task", o.Delivery.TaskID, "slice", o.Delivery.SliceNo)
		case o.Status == "waiting":
			again = true
		default:
			ended = append(ended, o.Delivery.TaskID)
		}
	}
	s.wakes.deliveriesEnded(ended...)
	s.tellIdle()
	return again
}

// drained returns a channel that is closed once no attempt is under way and
// every outcome is recorded.
func (s *deliveries) drained() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := make(chan struct{})
	s.idle = ch
	s.tellIdle()
	return ch
}

// tellIdle closes idle when no attempt is under way and no outcome waits. s.mu is held.
func (s *deliveries) tellIdle() {
	if s.idle != nil && len(s.running) == 0 {
		close(s.idle)
		s.idle = nil
	}
}

// ids lists the attempts under way.
func (s *deliveries) ids() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]int64, 0, len(s.running))
	for id := range s.running {
		out = append(out, id)
	}
	return out
}
