package mpaas

import (
	"slices"
	"strconv"
	"strings"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// What the documents bound [doc].
const (
	maxExtendedParams       = 20 // keys of a push, code 3035
	maxTargetExtendedParams = 9  // keys of a target: "fewer than 10", code 3049
	maxHMSCategory          = 14
)

// reservedKeys may not be used in ExtendedParams [doc].
var reservedKeys = []string{"notifyType", "action", "silent", "pushType", "templateCode", "channel", "taskId"}

// deliveryTypes are 1 Android device, 2 iOS device, 3 user, 5 Live Activity
// pushToken, 6 Live Activity activityId, 7 HarmonyOS device [doc].
func deliveryTypes(a action) []int64 {
	switch a {
	case broadcast:
		return []int64{1, 2, 7}
	case multiple:
		return []int64{1, 2, 3, 7}
	case simple, template:
		return []int64{1, 2, 3, 5, 6, 7}
	}
	return nil
}

// judgeRules holds the rules that a parameter's type does not.
func (j *judge) judgeRules() {
	if v := j.good("DeliveryType"); v != nil && !slices.Contains(deliveryTypes(j.action), v.number) {
		j.problem(v.name, "must be %s for %s, not %d", choice(deliveryTypes(j.action)), j.channel.Name, v.number)
	}
	// No bounds are published; a message that is never valid is not meant.
	if v := j.good("ExpiredSeconds"); v != nil && v.number <= 0 {
		j.problem(v.name, "must be a number of seconds greater than 0, not %d", v.number)
	}
	if v := j.good("TemplateName"); v != nil && strings.Contains(v.wire, ",") {
		j.problem(v.name, "must not hold a comma: %q", v.wire)
	}
	if v := j.good("ExtendedParams"); v != nil {
		judgeExtendedParams(j.problem, v.name, v.members, maxExtendedParams)
	}
	if v := j.good("TemplateKeyValue"); v != nil {
		judgeKeyValue(j.problem, v.name, v.members)
	}
	j.judgeVendors()
	j.judgeLiveActivity()
	if j.action == broadcast {
		j.judgeBinding()
	}
}

// good returns the parameter when it is given and of its type.
func (j *judge) good(wire string) *value {
	if v := j.given.of(wire); v != nil && v.good {
		return v
	}
	return nil
}

func judgeExtendedParams(report dispatch.Report, field string, members []member, limit int) {
	if len(members) > limit {
		report(field, "has %d keys, and at most %d are allowed", len(members), limit)
	}
	for _, m := range members {
		if slices.Contains(reservedKeys, m.name) {
			report(field, "holds %q, which is one of the reserved keys %s", m.name, choice(reservedKeys))
		}
	}
}

// judgeKeyValue wants what a placeholder can be replaced by [inferred].
func judgeKeyValue(report dispatch.Report, field string, members []member) {
	for _, m := range members {
		switch m.raw[0] {
		case '{', '[', 'n':
			report(field, "must hold texts for placeholders, and %q is %s", m.name, typeOf(m.raw))
		}
	}
}

// judgeVendors holds the values of vendor channels that are documented.
func (j *judge) judgeVendors() {
	if v := j.good("ThirdChannelCategory"); v != nil {
		if s, ok := entry(v, "hms"); ok && !isHMSCategory(s) {
			j.problem(v.name, "must have an hms category from \"1\" to \"%d\", not %q", maxHMSCategory, s)
		}
	}
	if v := j.good("NotifyLevel"); v != nil {
		if s, ok := entry(v, "hms"); ok && s != "1" && s != "2" {
			j.problem(v.name, "must have an hms level of \"1\" or \"2\", not %q", s)
		}
	}
}

func isHMSCategory(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 1 && n <= maxHMSCategory && strconv.Itoa(n) == s
}

func entry(v *value, name string) (string, bool) {
	for _, m := range v.members {
		if m.name == name {
			return asString(m.raw)
		}
	}
	return "", false
}

// judgeLiveActivity: a date of dismissal is for the end of an activity [doc].
func (j *judge) judgeLiveActivity() {
	v := j.good("DismissalDate")
	if v == nil {
		return
	}
	if e := j.given.of("ActivityEvent"); e == nil || e.good && e.wire != "end" {
		j.problem(v.name, "is for activityEvent \"end\" only")
	}
	if v.number < 0 {
		j.problem(v.name, "must be a time in Unix seconds, not %d", v.number)
	}
}

// isFinance reports whether a region is one of the finance zones, where a
// broadcast needs no BindPeriod [doc]; that their names say so is [inferred].
func isFinance(region string) bool { return strings.Contains(region, "finance") }

// judgeBinding: which period a broadcast needs, and which contradicts it, follows
// from PushStatus, 0 bound (the default), 1 all, 2 unbound. [doc] That a period
// of the other kind contradicts it is [inferred].
func (j *judge) judgeBinding() {
	status := int64(0)
	if v := j.given.of("PushStatus"); v != nil {
		if !v.good {
			return
		}
		status = v.number
	}
	bind, unbind := j.given.of("BindPeriod"), j.given.of("UnBindPeriod")
	if status == 0 && bind == nil && !isFinance(j.region) {
		j.problem("bindPeriod", "is missing: pushStatus 0, the default, needs it")
	}
	if status != 0 && unbind == nil {
		j.problem("unBindPeriod", "is missing: pushStatus %d needs it", status)
	}
	if status == 0 && unbind != nil {
		j.problem(unbind.name, "contradicts pushStatus 0, which reaches bound devices only")
	}
	if status == 2 && bind != nil {
		j.problem(bind.name, "contradicts pushStatus 2, which reaches unbound devices only")
	}
}
