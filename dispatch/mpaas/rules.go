package mpaas

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

// Bounds of the documents [doc].
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

// judgeRules checks the rules that go beyond a parameter's type.
func (j *judge) judgeRules() {
	if v := j.good("DeliveryType"); v != nil && !slices.Contains(deliveryTypes(j.action), v.number) {
		j.problem(v.name, "must be %s for %s, not %d", choice(deliveryTypes(j.action)), j.channel.Name, v.number)
	}
	// No bounds are published. A message that is never valid is a mistake.
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

// good returns the parameter if it is given and of its type, or nil.
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

// judgeKeyValue checks that each value can replace a placeholder [inferred].
func judgeKeyValue(report dispatch.Report, field string, members []member) {
	for _, m := range members {
		switch m.raw[0] {
		case '{', '[', 'n':
			report(field, "must hold texts for placeholders, and %q is %s", m.name, rawjson.KindOf(m.raw))
		}
	}
}

// judgeVendors checks the values of vendor channels against the documents.
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
			return rawjson.Unquote(m.raw)
		}
	}
	return "", false
}

// judgeLiveActivity allows a date of dismissal only for the end of an activity [doc].
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

// judgeBinding checks the periods of a broadcast. PushStatus, 0 bound (the
// default), 1 all, 2 unbound, decides which period is needed [doc]. That a period
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

// The documents say that scheduled and loop pushes are not supported when the
// target is a mobile-analytics audience or a custom-tag audience [doc], but none
// of the documented parameters names such an audience: targets are devices,
// users, or everyone. Our reading is only in this file [inferred]: such an
// audience replaces everyone in a broadcast and is named by one of these two
// parameters. They are sent as the author wrote them.
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

// An action is one of the four pushes.
type action uint8

const (
	simple action = 1 << iota
	template
	multiple
	broadcast
)

// actions are the pushes that have a parameter.
type actions uint8

const (
	all       = actions(simple | template | multiple | broadcast)
	mapped    = actions(simple | template) // their targets are a JSON map
	templated = actions(template | multiple | broadcast)
)

func (s actions) has(a action) bool { return s&actions(a) != 0 }

// A kind is how a parameter's value is written in a request and on the wire.
type kind uint8

const (
	// text is a JSON string, sent as it is.
	text kind = iota
	// integer is a whole JSON number, or a string of one. Both are the same
	// when sent, and the documents write both.
	integer
	// jsonText is a JSON object, or a string that holds one; sent as JSON text in
	// the author's own order.
	jsonText
	// jsonOrText is a JSON object, or any string.
	jsonOrText
	// jsonMap is a JSON object of strings, or a string that holds one; sent as
	// JSON text with its keys sorted, as the SDK's maps are [sdk].
	jsonMap
	// tree is a JSON object, or a string that holds one; sent as dotted keys [sdk].
	tree
	// targetMap is {target: msgKey}, an object or a string that holds one.
	targetMap
	// targetList is a list of objects, one for each target.
	targetList
)

// A param is a parameter of one or more actions.
type param struct {
	wire     string // the name on the wire
	doc      string // the documents' name, where it is not just wire with a small first letter
	kind     kind
	in       actions
	required actions
	numbers  []int64  // the values an integer may have; nil: any
	words    []string // the values a text may have; nil: any
}

// params are the documents' tables. [doc] for names, types, required ones and
// enumerations; [sdk] for the spelling on the wire.
//
// MsgKey, Msgkey and TargetMsgkey are required on the wire, and always sent: the
// engine makes them from the campaign, the occurrence and the target. In a
// request they are the author's own part and may be left out. Where the targets
// themselves are missing they come from campaign_targets.
var params = []param{
	{wire: "DeliveryType", kind: integer, in: all, required: all},
	{wire: "ExpiredSeconds", kind: integer, in: all, required: all},
	{wire: "NotifyType", in: all, words: []string{"transparent", "notify"}},
	{wire: "ExtendedParams", kind: jsonText, in: all},
	{wire: "Classification", in: all, words: []string{"0", "1"}},
	{wire: "ThirdChannelCategory", kind: jsonMap, in: all},
	{wire: "NotifyLevel", kind: jsonMap, in: all},
	{wire: "MiChannelId", in: all},
	{wire: "ChannelId", in: all},
	{wire: "TransparentMessagePayload", kind: tree, in: all},
	{wire: "TransparentMessageUrgency", in: all, words: []string{"HIGH", "NORMAL"}},
	{wire: "PushAction", kind: integer, in: all, numbers: []int64{0, 1}},
	{wire: "Silent", kind: integer, in: all, numbers: []int64{0, 1}},
	{wire: "ActivityEvent", in: all, words: []string{"update", "end"}},
	{wire: "ActivityContentState", kind: tree, in: all},
	{wire: "DismissalDate", kind: integer, in: all},

	{wire: "Title", in: actions(simple), required: actions(simple)},
	{wire: "Content", in: actions(simple), required: actions(simple)},
	{wire: "PushStyle", kind: integer, in: actions(simple), numbers: []int64{0, 1, 2}},
	{wire: "Uri", in: actions(simple)},
	{wire: "ImageUrls", kind: jsonOrText, in: actions(simple)},
	{wire: "IconUrls", kind: jsonOrText, in: actions(simple)},

	{wire: "TemplateName", in: templated, required: templated},
	{wire: "TemplateKeyValue", kind: jsonText, in: actions(template | broadcast)},

	{wire: "TargetMsgkey", kind: targetMap, in: mapped},
	{wire: "TargetMsg", doc: "targetMsgs", kind: targetList, in: actions(multiple)},

	{wire: "Msgkey", in: actions(broadcast)},
	{wire: "PushStatus", kind: integer, in: actions(broadcast), numbers: []int64{0, 1, 2}},
	{wire: "BindPeriod", kind: integer, in: actions(broadcast), numbers: []int64{1, 2, 3, 4}},
	{wire: "UnBindPeriod", kind: integer, in: actions(broadcast), numbers: []int64{1, 2, 3, 4}},
	{wire: "AndroidChannel", kind: integer, in: actions(broadcast), numbers: []int64{1, 2}},

	{wire: audienceID, kind: jsonOrText, in: actions(broadcast)},
	{wire: audienceTag, kind: jsonOrText, in: actions(broadcast)},
}

// targetParams are those of one entry of TargetMsg [doc].
var targetParams = []param{
	{wire: "Target", required: actions(multiple), in: actions(multiple)},
	{wire: "MsgKey", in: actions(multiple)},
	{wire: "TemplateKeyValue", kind: jsonText, in: actions(multiple)},
	{wire: "ExtendedParams", kind: jsonText, in: actions(multiple)},
}

// A Parameter says how a parameter of an action is sent.
type Parameter struct {
	Name    string // on the wire
	Integer bool
	Object  bool // sent as the text of a JSON object, or as a parameter for each of its keys
	Deep    bool // an Object whose values may be objects and lists; else they are texts
	Targets bool // a list of targets
}

// Parameters returns the parameters that requests of a channel of this adapter may
// have, as programs send them to mPaaS's actions [doc].
func Parameters(channel string) []Parameter {
	var list []Parameter
	for _, c := range channels {
		for i := range params {
			if p := &params[i]; c.Name == channel && p.in.has(c.action) {
				list = append(list, Parameter{
					Name: p.wire, Integer: p.kind == integer, Targets: p.kind == targetList,
					Deep:   p.kind == tree,
					Object: p.kind == jsonText || p.kind == jsonMap || p.kind == tree || p.kind == targetMap,
				})
			}
		}
	}
	return list
}

// columns are the parameters that are columns of a campaign.
var columns = map[string]string{
	"AppId":           "app_id",
	"WorkspaceId":     "workspace_id",
	"TaskName":        "name",
	"StrategyType":    "strategy_type",
	"StrategyContent": "strategy_content",
}

// docName returns the name that the documents use.
func (p *param) docName() string {
	if p.doc != "" {
		return p.doc
	}
	return lowerFirst(p.wire)
}

// is reports whether name is one of the parameter's spellings: the documents' or
// the wire's, each with a small or a capital first letter.
func (p *param) is(name string) bool {
	return sameButFirst(name, p.wire) || p.doc != "" && sameButFirst(name, p.doc)
}

// sameButFirst compares two names without regard to the case of their first
// letter, which is ASCII in all names of parameters.
func sameButFirst(a, b string) bool {
	return len(a) == len(b) && a[1:] == b[1:] && strings.EqualFold(a[:1], b[:1])
}

// find returns the parameter that name spells.
func find(table []param, name string) (*param, bool) {
	for i := range table {
		if table[i].is(name) {
			return &table[i], true
		}
	}
	return nil, false
}

// column returns the column of the parameter that name spells.
func column(name string) (string, bool) {
	c, ok := columns[upperFirst(name)]
	return c, ok
}

func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[n:]
}

func upperFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// String returns the action's name on the wire.
func (a action) String() string {
	switch a {
	case simple:
		return "PushSimple"
	case template:
		return "PushTemplate"
	case multiple:
		return "PushMultiple"
	case broadcast:
		return "PushBroadcast"
	}
	return "invalid"
}

// channels returns the names of the channels that have the parameter, for a hint.
func (p *param) channels() string {
	var names []string
	for _, c := range channels {
		if p.in.has(c.action) {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}
