package engine

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// A claimed task is one whose push may begin.
type claimed struct {
	*entry
	store.ClaimedTask
	daemon  int64 // the lease it was claimed under
	claim   int64
	moved   bool      // its campaign was changed after it was read
	asked   time.Time // when the claim was asked for, by the database's clock
	started time.Time
	targets []dispatch.Target
}

// launch fetches what the calls still need and begins each.
func (d *dispatcher) launch(ctx context.Context, tasks []*claimed) {
	for len(tasks) > 0 {
		n := fitting(tasks, (*claimed).listed)
		d.launchSome(ctx, tasks[:n])
		tasks = tasks[n:]
	}
}

// listed returns the most targets of the task that may have to be read.
func (t *claimed) listed() int {
	if t.compiled.campaign.Revision != t.Revision || t.Listed && len(t.Names) == 0 {
		return maxTargets
	}
	return len(t.Names)
}

func (d *dispatcher) launchSome(ctx context.Context, tasks []*claimed) {
	if err := d.refresh(ctx, tasks); err != nil {
		d.log.WarnContext(ctx, "campaign could not be read after the claim, will retry its tasks", "error", err)
		for _, t := range tasks {
			d.putOff(t, "the campaign could not be read")
		}
		return
	}
	for _, t := range tasks {
		app, n := t.compiled.app, t.compiled.weight(t.targets)
		if !d.heavy.take(app, n) {
			d.putOff(t, tooHeavy)
			continue
		}
		d.calls.Go(func() {
			defer d.heavy.give(app, n)
			d.push(t)
		})
	}
}

// refresh makes sure that each task is pushed with the revision that stood when
// it was claimed, and to the targets that the claim names, as far as they still
// stand.
func (d *dispatcher) refresh(ctx context.Context, tasks []*claimed) error {
	var stale []want
	for _, t := range tasks {
		if t.compiled.campaign.Revision != t.Revision {
			t.moved = true
			stale = append(stale, want{id: t.task.CampaignID, revision: t.Revision})
		}
	}
	// A claimed task goes on even when the daemon stops.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.statementTimeout)
	defer cancel()
	if len(stale) > 0 {
		if err := d.cache.ensure(ctx, stale); err != nil {
			return err
		}
	}
	d.recall(tasks)
	rows, err := d.listedTargets(ctx, tasks)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		switch {
		case t.compiled.message == nil || !t.compiled.needsTargets():
		case len(t.compiled.message.Inline) > 0:
			t.targets = t.compiled.inlineTargets(t.task.DueAt)
		default:
			t.targets = t.compiled.storedTargets(t.task.DueAt, t.named(rows[t.task.CampaignID]))
		}
	}
	return d.keepNames(ctx, tasks)
}

// recall gives each task its campaign as the cache has it now.
func (d *dispatcher) recall(tasks []*claimed) {
	for _, t := range tasks {
		if v := d.cache.get(t.task.CampaignID); v != nil {
			t.compiled = v.on(t.compiled.app) // a call gives its leave back to the app that gave it
		}
	}
}

// listedTargets reads the targets of those tasks that have targets in campaign_targets.
func (d *dispatcher) listedTargets(ctx context.Context, tasks []*claimed) (map[int64][]store.Target, error) {
	var lists []int64
	for _, t := range tasks {
		if t.Listed || t.moved && t.compiled.message != nil && t.compiled.mayTakeTargets() {
			lists = append(lists, t.task.CampaignID)
		}
	}
	if len(lists) == 0 {
		return nil, nil
	}
	rows, err := d.store.StoredTargets(ctx, lists, maxTargets+1)
	if err != nil {
		return nil, err
	}
	// These targets were added after the campaign was compiled without any.
	takers := make([]want, 0, len(rows))
	for id := range rows {
		takers = append(takers, want{id: id, targets: true})
	}
	if err := d.cache.ensure(ctx, takers); err != nil {
		return nil, err
	}
	d.recall(tasks)
	return rows, nil
}

// named returns those of the targets that the claim names, or all targets where
// it names none.
func (t *claimed) named(rows []store.Target) []store.Target {
	if len(t.Names) == 0 {
		return rows
	}
	meant := make(map[string]bool, len(t.Names))
	for _, name := range t.Names {
		meant[name] = true
	}
	return slices.DeleteFunc(slices.Clone(rows), func(r store.Target) bool { return !meant[r.Target] })
}

// keepNames adds to the claims the names of the targets of those tasks for which
// unknownTo is true.
func (d *dispatcher) keepNames(ctx context.Context, tasks []*claimed) error {
	missing := make(map[int64]map[int64][]string)
	for _, t := range tasks {
		if t.unknownTo() {
			if missing[t.claim] == nil {
				missing[t.claim] = make(map[int64][]string)
			}
			missing[t.claim][t.ID] = names(t.targets)
		}
	}
	for claim, of := range missing {
		if err := d.store.KeepNames(ctx, d.recorder.daemonOf(claim), claim, of); err != nil {
			return err
		}
	}
	return nil
}

// unknownTo says whether nobody could tell the targets of the task's one call
// if this daemon died now. The claim does not have them, since the campaign was
// changed after it was read, and the request of the claimed revision does not
// name them.
func (t *claimed) unknownTo() bool {
	m := t.compiled.message
	switch {
	case len(t.targets) == 0 || len(t.targets) > m.Channel.MaxTargets: // there is no call, or the task is cut first
		return false
	case len(m.Inline) > 0:
		return t.Listed || t.compiled.campaign.Revision != t.Revision
	default:
		return t.moved && !t.Listed
	}
}

// maxTargets is the most targets any API takes in one call.
const maxTargets = 100

// push makes the task's one call and hands its outcome on.
func (d *dispatcher) push(t *claimed) {
	v := t.compiled
	n := len(t.targets)
	if t.moved { // before the claim it was judged by another revision
		if reason := d.missed(t.entry, d.clock.Now()); reason != "" {
			d.finishMissed(t, reason)
			return
		}
	}
	switch {
	case v.message == nil: // the revision that was claimed cannot be pushed
		d.finish(t, dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: v.problem}, time.Time{})
	case v.stored() || v.needsTargets() && (n > v.message.Channel.MaxTargets || t.unnamed()):
		d.cut(t)
	case v.needsTargets() && n == 0:
		d.finishEmpty(t)
	case d.quiet.began(&v.campaign, t.asked, d.clock.Now()):
		d.putOff(t, quietBegan)
	default:
		p := v.push(t.task.ID, 1, t.task.DueAt, t.targets)
		o, sent := d.caller.call(d.pushing, t.daemon, v.app, t.leave, p)
		d.traces.called(t.traced(), 1, 1, p, o, sent)
		d.finish(t, o, sent)
	}
}

// unnamed says whether the claim names no target because it found more than one
// call may carry.
func (t *claimed) unnamed() bool {
	return t.Listed && len(t.Names) == 0 && len(t.compiled.message.Inline) == 0
}

// putOff gives back a claimed task whose call could not begin; the task is tried again.
func (d *dispatcher) putOff(t *claimed, reason string) {
	d.finish(t, dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonCancelled, Message: reason}, time.Time{})
}

// finishEmpty decides a task that has no targets as succeeded. Where the targets
// are gone because the campaign was deleted, the task waits for another try
// instead, and ends like all waiting deliveries of a deleted campaign.
func (d *dispatcher) finishEmpty(t *claimed) {
	ctx, cancel := context.WithTimeout(d.pushing, d.statementTimeout)
	defer cancel()
	stands, err := d.store.Campaigns(ctx, []int64{t.task.CampaignID})
	if err != nil || len(stands) == 0 {
		d.putOff(t, "the campaign could not be read")
		return
	}
	dec := t.decision()
	dec.Status, dec.Reason = "succeeded", "empty audience"
	d.release(t)
	d.recorder.put(&result{decision: dec, last: t.last()})
}

// finishMissed decides a claimed task as missed: its campaign was changed
// between the reading and the claim, and by the new revision the task is not
// pushed any more.
func (d *dispatcher) finishMissed(t *claimed, reason string) {
	d.release(t)
	dec := t.decision()
	dec.Status, dec.Reason = "missed", reason
	d.recorder.put(&result{decision: dec, last: t.last()})
}

// cut stores the deliveries of a task whose audience grew since it was counted, or
// whose campaign was changed into one with stored deliveries. Where they cannot be
// stored now, the task becomes one delivery without names, which is cut before it
// is claimed.
func (d *dispatcher) cut(t *claimed) {
	d.release(t)
	r := t.retry(dispatch.Outcome{}, verdict{reason: "its deliveries are not stored yet"}, time.Time{})
	r.Targets, r.ReadyAt = nil, d.clock.Now()
	started := d.storeCut(t)
	d.recorder.put(&result{retry: r, stored: started.Begun})
	if started.Decided != nil {
		logDecided(d.pushing, d.log, d.metrics, d.traces, started.Decided, "")
		d.wakes.tasksDecided([]int64{t.task.CampaignID})
	}
	if started.Slices > 0 {
		d.wakes.deliveriesStored()
	}
}

// storeCut stores the deliveries of a cut task. It may wait for a slot of
// startStored and for the database, since here nothing else waits.
func (d *dispatcher) storeCut(t *claimed) store.Started {
	select {
	case d.starts <- struct{}{}:
		defer func() { <-d.starts }()
	case <-d.pushing.Done():
		return store.Started{}
	}
	ctx, cancel := context.WithTimeout(d.pushing, startTimeout)
	defer cancel()
	started, err := d.store.CutClaimed(ctx, d.recorder.daemonOf(t.claim), t.claim, *t.compiled.start(t.task.ID))
	if err != nil {
		d.lease.trouble(ctx, "cut task", err)
	}
	return started
}

// finish turns an outcome into a decision or another try. A call that was not
// sent is always tried again. Whether its window closes before the next try is
// decided where the delivery waits, by its campaign as it stands then.
func (d *dispatcher) finish(t *claimed, o dispatch.Outcome, sent time.Time) {
	d.release(t)
	if !sent.IsZero() {
		sent = notBefore(sent, t.started)
	}
	v := d.retry.rule(o, 1, t.compiled.campaign.ResendUnknown, d.clock.Now())
	if v.status == "" {
		d.recorder.put(&result{retry: t.retry(o, v, sent)})
		return
	}
	dec := t.decision()
	dec.Status, dec.Reason, dec.SentAt, dec.Targets = v.status, v.reason, sent, names(t.targets)
	dec.Code, dec.Message, dec.RequestID, dec.MessageID = o.Code, o.Message, o.RequestID, o.MessageID
	d.recorder.put(&result{decision: dec, last: t.last(), cause: d.causes.of(t.entry, sent, d.lease.steadyFor(), d.lease.releasedAt())})
}

// release gives the call's slot and its app's leave back.
func (d *dispatcher) release(t *claimed) {
	t.leave.end()
	d.limit.release(1)
}

func (t *claimed) decision() store.Decision {
	return store.Decision{
		ClaimID: t.claim, TaskID: t.task.ID, AppNo: t.task.AppNo, CampaignID: t.task.CampaignID, Revision: t.Revision,
		Channel: t.compiled.campaign.Channel, Origin: t.task.Origin, DueAt: t.task.DueAt, StartedAt: t.started,
	}
}

func (t *claimed) retry(o dispatch.Outcome, v verdict, sent time.Time) *store.Retry {
	return &store.Retry{
		ClaimID: t.claim, TaskID: t.task.ID, AppNo: t.task.AppNo, CampaignID: t.task.CampaignID, Revision: t.Revision, Origin: t.task.Origin,
		DueAt: t.task.DueAt, WindowFrom: t.task.WindowFrom, StartedAt: t.started, SentAt: sent, ReadyAt: v.again, Targets: names(t.targets),
		MaybeSent: o.Class == dispatch.Unknown, Reason: v.reason, Code: o.Code, Message: o.Message, RequestID: o.RequestID,
	}
}

// A caller makes one call to a push API and says what it came to.
type caller struct {
	clock   *Clock
	mayPush func(daemon int64) bool // whether the lease that a call was claimed under allows it to begin
	timeout time.Duration
	metrics *Metrics
	faults  *faults
}

// call pushes and returns the outcome and when the call began; zero: none was
// made. It never lets a call begin when the lease under which the call was
// claimed may be lost. A daemon that was frozen finds out here, before it
// pushes, even when it has taken another lease since.
func (c *caller) call(ctx context.Context, daemon int64, app *App, l *leave, p *dispatch.Push) (o dispatch.Outcome, sent time.Time) {
	if !c.mayPush(daemon) {
		return dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonCancelled, Message: "the lease ran out before the call"}, time.Time{}
	}
	p, leftOut := sendable(p)
	if leftOut != "" && len(p.Targets) == 0 {
		return unsendable(leftOut), time.Time{}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	c.metrics.InFlight.Inc()
	defer c.metrics.InFlight.Dec()
	sent = c.clock.Now()
	defer func() {
		if r := recover(); r != nil { // an adapter's bug must not take the daemon with it
			o = dispatch.Outcome{Class: dispatch.Unknown, Reason: dispatch.ReasonBadAnswer, Message: panicked}
			c.faults.caught(ctx, faultCall, r, "channel", p.Message.Channel.Name)
		}
		c.metrics.called(p.Message.Channel.Name, o, c.clock.Now().Sub(sent))
	}()
	failpoint.Hit("call.before")
	began := time.Now() // the app's bounds are held by our own clock
	app.begins(l, began, len(p.Targets))
	o = app.pusher().Push(ctx, p)
	app.heard(began, time.Now(), o)
	o.LeftOut = leftOut
	failpoint.Hit("call.after")
	return o, sent
}

// panicked is the reason recorded for a call in which an adapter panicked.
const panicked = "the adapter panicked, which is a fault of this program"

// push builds the call of one delivery.
func (v *compiled) push(taskID int64, slice int32, due time.Time, targets []dispatch.Target) *dispatch.Push {
	return &dispatch.Push{
		Message:    v.message,
		DeliveryID: v.deliveryID(taskID, slice),
		MsgKey:     v.msgKey(due, "", ""),
		Targets:    targets,
	}
}

// inlineTargets returns the request's own targets, with their keys for the occurrence.
func (v *compiled) inlineTargets(due time.Time) []dispatch.Target {
	out := make([]dispatch.Target, len(v.message.Inline))
	for i, t := range v.message.Inline {
		t.MsgKey = v.msgKey(due, t.Target, t.MsgKey)
		out[i] = t
	}
	return out
}

// storedTargets returns rows of campaign_targets as targets, with their keys
// for the occurrence.
func (v *compiled) storedTargets(due time.Time, rows []store.Target) []dispatch.Target {
	out := make([]dispatch.Target, len(rows))
	for i, r := range rows {
		out[i] = dispatch.Target{
			Target: r.Target, MsgKey: v.msgKey(due, r.Target, r.MsgKey),
			TemplateKeyValue: r.TemplateKeyValue, ExtendedParams: r.ExtendedParams,
		}
	}
	return out
}

// needsTargets says whether a call of the campaign must name targets.
func (v *compiled) needsTargets() bool { return v.message.Channel.MaxTargets > 0 }

// targetsOfCall returns how many targets the one call of a task has, as far as that
// is known before the claim. For a broadcast, whose targets only the provider knows,
// it returns one.
func (v *compiled) targetsOfCall() int {
	switch {
	case !v.needsTargets():
		return 1
	case len(v.message.Inline) > 0:
		return len(v.message.Inline)
	default:
		return max(v.campaign.Targets, 1)
	}
}

// stored says whether the task's deliveries have to be stored one by one: it
// needs more than one call, counts against a quota, or has an audience that
// only the database knows.
func (v *compiled) stored() bool {
	m := v.message
	switch {
	case m.Channel.WeeklyQuota > 0 || v.campaign.AudienceView != "":
		return true
	case !v.needsTargets() || len(m.Inline) > 0:
		return len(m.Inline) > m.Channel.MaxTargets
	default:
		return v.campaign.Targets > m.Channel.MaxTargets
	}
}

// mayTakeTargets says whether rows of campaign_targets would be pushed to. A
// message of a channel whose calls need no targets takes none if there were
// none when it was compiled.
func (v *compiled) mayTakeTargets() bool {
	return v.campaign.MaxTargets > 0 && len(v.message.Inline) == 0
}

// start says how the task's deliveries are stored.
func (v *compiled) start(taskID int64) *store.Start {
	m := v.message
	in := &store.Start{TaskID: taskID, Revision: v.campaign.Revision, PerCall: m.Channel.MaxTargets, Quota: m.Channel.WeeklyQuota > 0}
	for _, t := range m.Inline {
		in.Inline = append(in.Inline, t.Target)
	}
	return in
}

func names(targets []dispatch.Target) []string {
	out := make([]string, len(targets))
	for i, t := range targets {
		out[i] = t.Target
	}
	return out
}

// inlineNames returns the function by which Store.Reap asks for the targets that
// a campaign's request names. The function returns none where they are more than
// one call carries, since such a task is cut before any call.
func inlineNames(compile compileFunc) func(*store.Campaign) []string {
	return func(c *store.Campaign) []string {
		m, problems := compile(c)
		if len(problems) > 0 || m == nil || len(m.Inline) > m.Channel.MaxTargets {
			return nil
		}
		return names(m.Inline)
	}
}

// Keys name messages and deliveries to the push APIs: the same for every attempt,
// and never the same for two messages of two installations.
type Keys struct {
	Installation string // at most 10 characters of [0-9a-f]
	// Up to these numbers campaigns and tasks have keys without the installation:
	// they may have been sent before the installation had a key.
	Campaigns, Tasks int64
}

func keysOf(k store.Keys) Keys {
	return Keys{Installation: k.Installation, Campaigns: k.Campaigns, Tasks: k.Tasks}
}

// Message names one message to one target. Every occurrence has another name.
// With an author's own key, the name is that key, the campaign and the
// occurrence; else it is campaign, occurrence and a hash of the target, since
// the target may be a person's id. target is empty for pushes without one.
func (k Keys) Message(campaignID int64, due time.Time, target, author string) string {
	b := make([]byte, 0, 80)
	if author != "" {
		b = append(append(b, author...), '-')
	} else {
		b = append(b, 'c')
	}
	b = strconv.AppendInt(b, campaignID, 10)
	if campaignID > k.Campaigns && k.Installation != "" {
		b = append(append(b, 'i'), k.Installation...)
	}
	b = append(b, '-')
	b = strconv.AppendInt(b, due.UnixMicro(), 36)
	if author == "" && target != "" {
		sum := sha256.Sum256([]byte(target))
		b = append(b, '-')
		b = keyEncoding.AppendEncode(b, sum[:10])
	}
	return string(b)
}

var keyEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// Delivery names one delivery in every attempt: at most 32 characters of
// [0-9a-z-].
func (k Keys) Delivery(taskID int64, slice int32) string {
	b := strconv.AppendInt([]byte{'t'}, taskID, 36)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(slice), 36)
	if taskID > k.Tasks && k.Installation != "" {
		b = append(append(b, '-'), k.Installation...)
	}
	return string(b)
}

// msgKey names one of the campaign's messages.
func (v *compiled) msgKey(due time.Time, target, author string) string {
	return v.keys.Message(v.campaign.ID, due, target, author)
}

// deliveryID names one of the campaign's deliveries.
func (v *compiled) deliveryID(taskID int64, slice int32) string {
	return v.keys.Delivery(taskID, slice)
}

// sendable returns the push with those of its targets that can be sent, and a
// text that says how many were left out and why. One bad row of a table or a
// view so does not stop the other targets of its call. scheduler.left_out reads
// the text and adds up the numbers of a task. Targets of a request are not judged
// again: a request with a fault does not compile.
func sendable(p *dispatch.Push) (push *dispatch.Push, leftOut string) {
	if p.Message == nil || p.Message.Judge == nil || len(p.Message.Inline) > 0 {
		return p, ""
	}
	var good []dispatch.Target // nil while all targets are good
	first, bad := "", 0
	for i := range p.Targets {
		t := &p.Targets[i]
		problem := p.Message.Judge(t)
		switch {
		case problem == "" && bad > 0:
			good = append(good, *t)
		case problem == "":
		case bad == 0:
			first = fmt.Sprintf("target %q: %s", dispatch.Clip(t.Target, 64), problem)
			good = append(make([]dispatch.Target, 0, len(p.Targets)-1), p.Targets[:i]...)
			bad++
		default:
			bad++
		}
	}
	if bad == 0 {
		return p, ""
	}
	out := *p
	out.Targets = good
	return &out, fmt.Sprintf("%d of %d targets left out: %s", bad, len(p.Targets), first)
}

// unsendable returns the outcome of a call that has no sendable target.
func unsendable(leftOut string) dispatch.Outcome {
	return dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: leftOut}
}

// A pool runs calls, each in a goroutine that is kept for the next call. A call
// needs a deep stack, which a new goroutine would have to grow each time. The
// pool has as many goroutines as there have been calls at once. It is safe for
// concurrent use.
type pool struct {
	next   chan func() // to a goroutine that is free
	leave  chan struct{}
	faults *faults        // told of panics
	under  sync.WaitGroup // calls
	all    sync.WaitGroup // goroutines
}

func newPool(f *faults) *pool {
	return &pool{next: make(chan func()), leave: make(chan struct{}), faults: f}
}

// Go begins a call. It does not wait.
func (p *pool) Go(call func()) {
	p.under.Add(1)
	select {
	case p.next <- call:
	default:
		p.all.Go(func() { p.work(call) })
	}
}

func (p *pool) work(call func()) {
	for {
		p.make(call)
		select {
		case call = <-p.next:
		case <-p.leave:
			return
		}
	}
}

// make runs one call. A panic ends only that call: its intent is stored, and
// its outcome is ruled on as unknown.
func (p *pool) make(call func()) {
	defer p.under.Done()
	defer func() {
		if r := recover(); r != nil {
			p.faults.caught(context.Background(), faultCall, r)
		}
	}()
	call()
}

// Wait returns when no call is under way.
func (p *pool) Wait() { p.under.Wait() }

// Dismiss ends the goroutines once no call is under way. No call may begin any
// more.
func (p *pool) Dismiss() {
	p.under.Wait()
	close(p.leave)
	p.all.Wait()
}
