package engine

import (
	"fmt"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// sendable returns the push with those of its targets that can be sent, and says
// in words how many were left out and why: a row of a table or a view that
// cannot be sent costs itself and not the others of its call. The text is read
// by scheduler.left_out, which adds up those of a task.
func sendable(p *dispatch.Push) (push *dispatch.Push, leftOut string) {
	if p.Message == nil || p.Message.Judge == nil {
		return p, ""
	}
	var good []dispatch.Target // nil as long as all are
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

// unsendable is the outcome of a call of which no target is left.
func unsendable(leftOut string) dispatch.Outcome {
	return dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: leftOut}
}
