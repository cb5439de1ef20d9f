package mpaas

import "github.com/campaign-scheduler/scheduler/dispatch"

// The documents say that scheduled and loop pushes are not supported when the
// target is a mobile-analytics audience or a custom-tag audience [doc], but none
// of the documented parameters names such an audience: targets are devices,
// users, or everyone. This file is our reading and the only place that holds it
// [inferred]: such an audience replaces everyone in a broadcast and is named by
// one of these two parameters, which are sent as the author wrote them.
const (
	audienceID  = "AudienceId" // of a mobile-analytics audience
	audienceTag = "TagId"      // of a custom-tag audience
)

// judgeAudience enforces the rule. It binds only the provider's own scheduler,
// and our calls carry strategyType 0, so the app's configuration may lift it.
func (j *judge) judgeAudience(r dispatch.Request) {
	if r.StrategyType == 0 || r.AllowAudienceSchedules {
		return
	}
	for _, wire := range []string{audienceID, audienceTag} {
		if v := j.given.of(wire); v != nil {
			j.problem(v.name, "names an analytics or tag audience, and scheduled and loop pushes to those are not supported: "+
				"set strategy_type to 0, or allow_audience_schedules for the app")
		}
	}
}
