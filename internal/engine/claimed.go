package engine

import (
	"context"
	"slices"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
)

// A claimed task is one whose push may begin.
type claimed struct {
	*entry
	store.ClaimedTask
	daemon  int64 // the lease it was claimed under
	claim   int64
	moved   bool // its campaign was changed after it was read
	started time.Time
	targets []dispatch.Target
}

// launch fetches what the calls still need and begins each.
func (d *dispatcher) launch(ctx context.Context, tasks []*claimed) {
	if err := d.refresh(ctx, tasks); err != nil {
		d.log.WarnContext(ctx, "campaign could not be read after the claim, will retry its tasks", "error", err)
		for _, t := range tasks {
			d.putOff(t)
		}
		return
	}
	for _, t := range tasks {
		d.calls.Go(func() { d.push(t) })
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
	// What was claimed goes on, though the daemon stops.
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

// recall gives each task its campaign as it was read last.
func (d *dispatcher) recall(tasks []*claimed) {
	for _, t := range tasks {
		if v := d.cache.get(t.task.CampaignID); v != nil {
			t.compiled = v.on(t.compiled.app) // a call ends on the app it began on
		}
	}
}

// listedTargets reads the targets of those tasks that have some listed.
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
	// Targets that came after the campaign was compiled without any.
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

// named are those of the targets that the claim names; all where it names none.
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

// keepNames adds to the claims whom the calls of tasks are meant for, where neither
// the claim knows, since the campaign was changed after it was read, nor the request
// of the revision that was claimed.
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

// unknownTo says that whom the task's one call is meant for could not be told
// after this daemon's death.
func (t *claimed) unknownTo() bool {
	m := t.compiled.message
	switch {
	case len(t.targets) == 0 || len(t.targets) > m.Channel.MaxTargets: // there is no call, or it is cut first
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
	if t.moved { // what it was judged by before the claim does not stand any more
		if reason := d.missed(t.entry, d.clock.Now()); reason != "" {
			d.finishMissed(t, reason)
			return
		}
	}
	switch {
	case v.message == nil: // the revision that stands now
		d.finish(t, dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: v.problem}, time.Time{})
	case v.stored() || v.needsTargets() && (n > v.message.Channel.MaxTargets || t.unnamed()):
		d.cut(t)
	case v.needsTargets() && n == 0:
		d.finishEmpty(t)
	default:
		p := v.push(t.task.ID, 1, t.task.DueAt, t.targets)
		o, sent := d.caller.call(d.pushing, t.daemon, v.app, p)
		d.traces.called(t.traced(), 1, 1, p, o, sent)
		d.finish(t, o, sent)
	}
}

// unnamed says that the claim found more targets than one call may carry, so that
// it names none.
func (t *claimed) unnamed() bool {
	return t.Listed && len(t.Names) == 0 && len(t.compiled.message.Inline) == 0
}

// putOff has a claimed task tried again whose campaign could not be read.
func (d *dispatcher) putOff(t *claimed) {
	d.finish(t, dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonCancelled, Message: "the campaign could not be read"}, time.Time{})
}

// finishEmpty decides a task that has no targets, unless they went with their
// campaign: then it is tried again, and ended as what waits of such a campaign is.
func (d *dispatcher) finishEmpty(t *claimed) {
	ctx, cancel := context.WithTimeout(d.pushing, d.statementTimeout)
	defer cancel()
	stands, err := d.store.Campaigns(ctx, []int64{t.task.CampaignID})
	if err != nil || len(stands) == 0 {
		d.putOff(t)
		return
	}
	dec := t.decision()
	dec.Status, dec.Reason = "succeeded", "empty audience"
	d.release(t, dispatch.Outcome{Class: dispatch.Accepted})
	d.recorder.put(&result{decision: dec, last: t.last()})
}

// finishMissed decides a task as missed that was changed between its reading and
// its claim, so that it is not pushed any more.
func (d *dispatcher) finishMissed(t *claimed, reason string) {
	d.release(t, dispatch.Outcome{Class: dispatch.NotSent})
	dec := t.decision()
	dec.Status, dec.Reason = "missed", reason
	d.recorder.put(&result{decision: dec, last: t.last()})
}

// cut stores the deliveries of a task whose audience grew since it was counted, or
// whose campaign was changed into one with stored deliveries. Where that cannot
// be done now, the task becomes one delivery without names, which is cut when its
// turn comes.
func (d *dispatcher) cut(t *claimed) {
	d.release(t, dispatch.Outcome{Class: dispatch.NotSent})
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

// storeCut stores the deliveries of a cut task here, where nobody waits for it,
// since a large audience takes a while.
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

// finish turns an outcome into a decision or another try. What was not sent is
// always to be tried again: whether its window closes before is seen where it
// waits, by its campaign as it stands then.
func (d *dispatcher) finish(t *claimed, o dispatch.Outcome, sent time.Time) {
	d.release(t, o)
	if !sent.IsZero() {
		sent = notBefore(sent, t.started)
	}
	v := d.retry.rule(o, 1, t.compiled.campaign.ResendUnknown, d.clock.Now(), time.Time{})
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
func (d *dispatcher) release(t *claimed, o dispatch.Outcome) {
	t.compiled.app.end(time.Now(), o)
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
		DueAt: t.task.DueAt, StartedAt: t.started, SentAt: sent, ReadyAt: v.again, Targets: names(t.targets),
		MaybeSent: o.Class == dispatch.Unknown, Reason: v.reason, Code: o.Code, Message: o.Message, RequestID: o.RequestID,
	}
}
