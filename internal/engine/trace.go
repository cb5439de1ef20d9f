package engine

import (
	"cmp"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
)

// A Tracer is told of every step of a task, after the step. Times are by the
// database's clock. Its methods are called on the way to a push, so they must
// neither wait nor fail. They are called from many goroutines, and the steps of a
// task come in no certain order. None holds a target or a text of an author's or a
// provider's.
type Tracer interface {
	// Claimed: the task's intent to push was made durable.
	Claimed(TracedTask, Span)
	// Called: one attempt of one delivery was made, or was stopped right before
	// its call.
	Called(TracedTask, TracedCall)
	// Recorded: the outcome of a call was made durable.
	Recorded(TracedTask, Span)
	// Decided: the task is over. One daemon alone reports it.
	Decided(TracedTask, TracedDecision)
}

// A Span is when a step began and ended.
type Span struct{ From, To time.Time }

// A TracedTask says which task a step is of. ID, Campaign and DueAt are known at
// every step; the rest are zero where a step does not know them.
type TracedTask struct {
	ID, Campaign int64
	DueAt        time.Time
	App          int32
	Channel      string
}

// A TracedCall is one attempt of one delivery. Reason is of a closed list.
type TracedCall struct {
	Span
	Slice, Attempt int32
	Targets        int
	Class          dispatch.Class
	Reason         dispatch.Reason
	Code           string
	RequestID      string
	MessageID      string
}

// A TracedDecision is how a task ended. Reason is of a closed list; Sent is when
// its first call began, zero when none did.
type TracedDecision struct {
	Status, Reason string
	Sent, At       time.Time
	Targets        int64
}

// traces pass steps on to a Tracer. Without one they are nil, and every method
// returns at once.
type traces struct {
	to    Tracer
	clock *Clock
}

func newTraces(to Tracer, clock *Clock) *traces {
	if to == nil {
		return nil
	}
	return &traces{to: to, clock: clock}
}

// since returns the span of a step that ends now. The clock may go back a little
// in between, when it learns the database's time more precisely. The span never
// ends before it begins.
func (t *traces) since(from time.Time) Span {
	now := t.clock.Now()
	if now.Before(from) {
		now = from
	}
	return Span{from, now}
}

// now returns the start of a step, or zero where there is no Tracer.
func (t *traces) now() time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.clock.Now()
}

func (t *traces) claimed(c *claimed, from time.Time) {
	if t != nil {
		t.to.Claimed(c.traced(), t.since(from))
	}
}

func (t *traces) called(task TracedTask, slice, attempt int32, p *dispatch.Push, o dispatch.Outcome, sent time.Time) {
	if t == nil {
		return
	}
	call := TracedCall{
		Span: t.since(cmp.Or(sent, t.clock.Now())), Slice: slice, Attempt: attempt, Targets: len(p.Targets),
		Class: o.Class, Reason: o.Reason, Code: o.Code, RequestID: o.RequestID, MessageID: o.MessageID,
	}
	t.to.Called(task, call)
}

// started reports a task whose deliveries were stored. Each delivery is claimed
// later, by any daemon.
func (t *traces) started(e *entry, from time.Time) {
	if t != nil {
		t.to.Claimed(e.traced(), t.since(from))
	}
}

// settled reports a task whose deliveries have all ended.
func (t *traces) settled(d *store.Decision, from time.Time) {
	if t != nil {
		t.to.Recorded(tracedDecision(d), t.since(from))
	}
}

// recorded reports a batch of outcomes, except those that came too late.
func (t *traces) recorded(batch []*result, decided map[int64]bool, from time.Time) {
	if t == nil {
		return
	}
	span := t.since(from)
	for i := range batch {
		if task := batch[i].traced(); batch[i].retry != nil || decided[task.ID] {
			t.to.Recorded(task, span)
		}
	}
}

func (t *traces) decided(d *store.Decision) {
	if t != nil {
		t.to.Decided(tracedDecision(d), TracedDecision{
			Status: d.Status, Reason: reasonLabel(d.Reason), Sent: d.SentAt, At: t.since(d.DueAt).To, Targets: targetCount(d),
		})
	}
}

func tracedDecision(d *store.Decision) TracedTask {
	return TracedTask{ID: d.TaskID, Campaign: d.CampaignID, DueAt: d.DueAt, App: d.AppNo, Channel: d.Channel}
}

func (e *entry) traced() TracedTask {
	return TracedTask{ID: e.task.ID, Campaign: e.task.CampaignID, DueAt: e.task.DueAt, App: e.task.AppNo, Channel: e.compiled.campaign.Channel}
}

func tracedDelivery(d *store.Delivery, v *compiled) TracedTask {
	return TracedTask{ID: d.TaskID, Campaign: d.CampaignID, DueAt: d.DueAt, App: d.AppNo, Channel: v.campaign.Channel}
}

func (r *result) traced() TracedTask {
	if t := r.retry; t != nil {
		return TracedTask{ID: t.TaskID, Campaign: t.CampaignID, DueAt: t.DueAt, App: t.AppNo}
	}
	return tracedDecision(&r.decision)
}
