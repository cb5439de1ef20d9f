package engine

import (
	"context"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// A caller makes one call to a push API and says what it came to.
type caller struct {
	clock   *Clock
	mayPush func(daemon int64) bool // whether the lease that a call was claimed under allows it to begin
	timeout time.Duration
	metrics *Metrics
	faults  *faults
}

// call pushes and returns the outcome and when the call began; zero: none was
// made. It never lets a call begin when the lease it was claimed under may be
// lost: a daemon that was frozen finds out here, before it pushes, even when it
// has taken another lease since.
func (c *caller) call(ctx context.Context, daemon int64, app *App, p *dispatch.Push) (o dispatch.Outcome, sent time.Time) {
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
	o = app.pusher().Push(ctx, p)
	o.LeftOut = leftOut
	failpoint.Hit("call.after")
	return o, sent
}

// panicked is what the record says of a call in which an adapter panicked.
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

// inlineTargets are the request's own targets, bound to the occurrence.
func (v *compiled) inlineTargets(due time.Time) []dispatch.Target {
	out := make([]dispatch.Target, len(v.message.Inline))
	for i, t := range v.message.Inline {
		t.MsgKey = v.msgKey(due, t.Target, t.MsgKey)
		out[i] = t
	}
	return out
}

// storedTargets are rows of campaign_targets, bound to the occurrence.
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

// stored says whether the task's deliveries have to be stored one by one: more
// than one call, a quota to keep, or an audience that only the database knows.
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

// mayTakeTargets says whether rows of campaign_targets would be pushed to. The
// message of a channel that may do without targets takes none when there were
// none as it was compiled.
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

// inlineNames says whom a campaign's request names, as Store.Reap asks: nobody
// where they are more than one call carries, since such a task is cut before any
// call.
func inlineNames(compile func(*store.Campaign) (*dispatch.Message, []dispatch.Problem)) func(*store.Campaign) []string {
	return func(c *store.Campaign) []string {
		m, problems := compile(c)
		if len(problems) > 0 || m == nil || len(m.Inline) > m.Channel.MaxTargets {
			return nil
		}
		return names(m.Inline)
	}
}
