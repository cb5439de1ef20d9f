package engine

import (
	"context"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
)

// A claimed task is one whose push may begin.
type claimed struct {
	*entry
	daemon   int64 // the lease it was claimed under
	claim    int64
	revision int32
	started  time.Time
	targets  []dispatch.Target
}

// launch fetches what the calls still need and begins each.
func (d *dispatcher) launch(ctx context.Context, tasks []*claimed) {
	if err := d.refresh(ctx, tasks); err != nil {
		d.Log.WarnContext(ctx, "campaign could not be read after the claim, will retry its tasks", "error", err)
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
// it was claimed, and with the targets that stand now.
func (d *dispatcher) refresh(ctx context.Context, tasks []*claimed) error {
	var stale []want
	var lists []int64
	for _, t := range tasks {
		if t.content.campaign.Revision != t.revision {
			stale = append(stale, want{id: t.task.CampaignID, revision: t.revision})
		}
		if t.content.mayTakeTargets() {
			lists = append(lists, t.task.CampaignID)
		}
	}
	// What was claimed goes on, though the daemon stops.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.StatementTimeout)
	defer cancel()
	if len(stale) > 0 {
		if err := d.contents.ensure(ctx, stale); err != nil {
			return err
		}
	}
	var rows map[int64][]store.Target
	if len(lists) > 0 {
		var err error
		if rows, err = d.Store.StoredTargets(ctx, lists, maxTargets+1); err != nil {
			return err
		}
		// Targets that came after the campaign was compiled without any.
		takers := make([]want, 0, len(rows))
		for id := range rows {
			takers = append(takers, want{id: id, targets: true})
		}
		if err := d.contents.ensure(ctx, takers); err != nil {
			return err
		}
	}
	for _, t := range tasks {
		if v := d.contents.get(t.task.CampaignID); v != nil {
			t.content = v.on(t.content.app) // a call ends on the app it began on
		}
		switch {
		case t.content.message == nil || !t.content.needsTargets():
		case len(t.content.message.Inline) > 0:
			t.targets = t.content.inlineTargets(t.task.DueAt)
		default:
			t.targets = t.content.storedTargets(t.task.DueAt, rows[t.task.CampaignID])
		}
	}
	return nil
}

// maxTargets is the most targets any API takes in one call.
const maxTargets = 100

// push makes the task's one call and hands its outcome on.
func (d *dispatcher) push(t *claimed) {
	v := t.content
	switch n := len(t.targets); {
	case v.message == nil: // the revision that stands now
		d.finish(t, dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: v.problem}, time.Time{})
	case v.stored() || v.needsTargets() && n > v.message.Channel.MaxTargets:
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

// putOff has a claimed task tried again whose campaign could not be read.
func (d *dispatcher) putOff(t *claimed) {
	d.finish(t, dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonCancelled, Message: "the campaign could not be read"}, time.Time{})
}

// finishEmpty decides a task that has no targets, unless they went with their
// campaign: then it is tried again, and ended as what waits of such a campaign is.
func (d *dispatcher) finishEmpty(t *claimed) {
	ctx, cancel := context.WithTimeout(d.pushing, d.StatementTimeout)
	defer cancel()
	stands, err := d.Store.Campaigns(ctx, []int64{t.task.CampaignID})
	if err != nil || len(stands) == 0 {
		d.putOff(t)
		return
	}
	dec := t.decision()
	dec.Status, dec.Reason = "succeeded", "empty audience"
	d.release(t, dispatch.Outcome{Class: dispatch.Accepted})
	d.recorder.put(&result{decision: dec, last: t.last()})
}

// cut hands a task to the slicer whose audience grew since it was counted, or
// whose campaign was changed into one with stored deliveries.
func (d *dispatcher) cut(t *claimed) {
	d.release(t, dispatch.Outcome{Class: dispatch.NotSent})
	expires := t.task.DueAt.Add(t.content.campaign.CatchUpWindow)
	r := t.retry(dispatch.Outcome{}, verdict{}, time.Time{}, expires)
	r.Cut = t.content.start(t.task.ID)
	stored := d.storeCut(t, r)
	d.recorder.put(&result{retry: r, stored: stored})
	if stored {
		d.sliced()
	}
}

// storeCut stores the deliveries of a cut task here, where nobody waits for it,
// since a large audience takes a while. When it fails, the recorder tries again.
func (d *dispatcher) storeCut(t *claimed, r *store.Retry) bool {
	select {
	case d.starts <- struct{}{}:
		defer func() { <-d.starts }()
	case <-d.pushing.Done():
		return false
	}
	ctx, cancel := context.WithTimeout(d.pushing, startTimeout)
	defer cancel()
	stored, err := d.Store.RetryClaimed(ctx, d.recorder.daemonOf(t.claim), []store.Retry{*r}, nil)
	if err != nil {
		d.heart.trouble(ctx, "cut task", err)
	}
	return err == nil && stored[t.task.ID]
}

// finish turns an outcome into a decision or another try.
func (d *dispatcher) finish(t *claimed, o dispatch.Outcome, sent time.Time) {
	d.release(t, o)
	if !sent.IsZero() {
		sent = notBefore(sent, t.started)
	}
	c := &t.content.campaign
	expires := t.task.DueAt.Add(c.CatchUpWindow)
	v := d.Retry.rule(o, 1, c.ResendUnknown, d.clock.Now(), expires)
	if v.status == "" {
		d.recorder.put(&result{retry: t.retry(o, v, sent, expires)})
		return
	}
	dec := t.decision()
	dec.Status, dec.Reason, dec.SentAt, dec.Targets = v.status, v.reason, sent, names(t.targets)
	dec.Code, dec.Message, dec.RequestID, dec.MessageID = o.Code, o.Message, o.RequestID, o.MessageID
	d.recorder.put(&result{decision: dec, last: t.last(), cause: d.causes.of(t.entry, sent, d.heart.steadyFor(), d.heart.releasedAt())})
}

// release gives the call's slot and its app's leave back.
func (d *dispatcher) release(t *claimed, o dispatch.Outcome) {
	t.content.app.end(time.Now(), o)
	d.slots.release(1)
}

func (t *claimed) decision() store.Decision {
	return store.Decision{
		ClaimID: t.claim, TaskID: t.task.ID, AppNo: t.task.AppNo, CampaignID: t.task.CampaignID, Revision: t.revision,
		Channel: t.content.campaign.Channel, Origin: t.task.Origin, DueAt: t.task.DueAt, StartedAt: t.started,
	}
}

func (t *claimed) retry(o dispatch.Outcome, v verdict, sent, expires time.Time) *store.Retry {
	return &store.Retry{
		ClaimID: t.claim, TaskID: t.task.ID, AppNo: t.task.AppNo, CampaignID: t.task.CampaignID, Revision: t.revision, Origin: t.task.Origin,
		DueAt: t.task.DueAt, ExpiresAt: expires, StartedAt: t.started, SentAt: sent, ReadyAt: v.again, Targets: names(t.targets),
		MaybeSent: o.Class == dispatch.Unknown, Reason: v.reason, Code: o.Code, Message: o.Message, RequestID: o.RequestID,
	}
}
