package sandbox

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
)

// A rule is what the documents say of one parameter. The codes are those of
// mPaaS's table "API response code".
type rule struct {
	name    string // on the wire
	missing string // the code and message when it is missing or empty; empty: optional
	wrong   string // the code and message when check says no; empty: 3028
	check   func([]byte) bool
}

// maxRules bounds how many rules an action has.
const maxRules = 48

// An action is the rules of one mPaaS call, with their places by name.
type action struct {
	rules []rule
	place map[string]int
}

func newAction(groups ...[]rule) *action {
	a := &action{place: map[string]int{}}
	for _, g := range groups {
		for _, r := range g {
			a.place[r.name] = len(a.rules)
			a.rules = append(a.rules, r)
		}
	}
	return a
}

var identity = []rule{{name: "AppId"}, {name: "WorkspaceId"}}

// common are the parameters of all four pushes.
var common = []rule{
	{name: "TaskName", missing: "3019 TASKNAME_NULL"},
	{name: "ExpiredSeconds", missing: "3020 EXPIREDSECONDS_WRONG", wrong: "3020 EXPIREDSECONDS_WRONG", check: isPositive},
	{name: "StrategyType", check: oneOf("0", "1", "2")},
	{name: "StrategyContent"},
	{name: "NotifyType", check: oneOf("transparent", "notify")},
	{name: "ExtendedParams", wrong: "3044 INVALID_EXTEND_PARAM", check: isMap},
	{name: "Classification", check: oneOf("0", "1")},
	{name: "ThirdChannelCategory", check: isMap},
	{name: "NotifyLevel", check: isMap},
	{name: "MiChannelId"},
	{name: "ChannelId"},
	{name: "TransparentMessagePayload", check: isMap},
	{name: "TransparentMessageUrgency", check: oneOf("HIGH", "NORMAL")},
	{name: "PushAction", check: oneOf("0", "1")},
	{name: "Silent", check: oneOf("0", "1")},
	{name: "ActivityEvent", check: oneOf("update", "end")},
	{name: "ActivityContentState", check: isMap},
	{name: "DismissalDate", check: isPositive},
}

const (
	wrongDelivery = "3009 DELIVERY_TYPE_NOT_SUPPORTED"
	noTarget      = "3021 TOKEN_OR_USERID_NULL"
)

var (
	anyDelivery  = []rule{{"DeliveryType", wrongDelivery, wrongDelivery, oneOf("1", "2", "3", "5", "6", "7")}}
	pushDelivery = []rule{{"DeliveryType", wrongDelivery, wrongDelivery, oneOf("1", "2", "3", "7")}}
	castDelivery = []rule{{"DeliveryType", wrongDelivery, "3030 BROADCAST_ONLY_SUPPORT_BY_DEVICE", oneOf("1", "2", "7")}}
	template     = []rule{
		{"TemplateName", "3037 TEMPLATE_NAME_NULL", "3038 TEMPLATE_NAME_INVALID: no commas", hasNoComma},
		{name: "TemplateKeyValue", check: isMap},
	}
	period = oneOf("1", "2", "3", "4")
)

var actions = [apiCount]*action{
	apiPushSimple: newAction(identity, common, anyDelivery, []rule{
		{name: "Title", missing: "3024 PAYLOAD_NOT_ENOUGH"},
		{name: "Content", missing: "3024 PAYLOAD_NOT_ENOUGH"},
		{name: "TargetMsgkey", missing: noTarget},
		{name: "PushStyle", check: oneOf("0", "1", "2")},
		{name: "Uri"},
		{name: "ImageUrls"},
		{name: "IconUrls"},
	}),
	apiPushTemplate: newAction(identity, common, anyDelivery, template, []rule{{name: "TargetMsgkey", missing: noTarget}}),
	apiPushMultiple: newAction(identity, common, pushDelivery, template[:1]),
	apiPushBroadcast: newAction(identity, common, castDelivery, template, []rule{
		{name: "Msgkey", missing: "3028 INVALID_PARAM: Msgkey is missing"},
		{name: "PushStatus", check: oneOf("0", "1", "2")},
		{name: "BindPeriod", check: period},
		{name: "UnBindPeriod", check: period},
		{name: "AndroidChannel", check: oneOf("1", "2")},
	}),
	apiQueryScheduler: newAction(identity, []rule{
		{name: "StartTime", missing: "3028 INVALID_PARAM: StartTime is missing", check: isNumber},
		{name: "EndTime", missing: "3028 INVALID_PARAM: EndTime is missing", check: isNumber},
		{name: "Type", check: oneOf("0", "1", "2", "3")},
		{name: "UniqueId"},
		{name: "PageNumber", check: isPositive},
		{name: "PageSize", check: isPositive},
	}),
	apiRevokeTask: newAction(identity, []rule{{name: "TaskId", missing: "3028 INVALID_PARAM: TaskId is missing"}}),
	apiRevokeMessage: newAction(identity, []rule{
		{name: "MessageId", missing: "3028 INVALID_PARAM: MessageId is missing"},
		{name: "TargetId", missing: "3028 INVALID_PARAM: TargetId is missing"},
	}),
	apiCancelScheduler: newAction(identity, []rule{
		{name: "UniqueIds", missing: "3028 INVALID_PARAM: UniqueIds is missing"},
		{name: "Type", check: oneOf("0", "1", "2", "3")},
	}),
}

// apply puts each parameter in its place and holds it against its rule.
func (a *action) apply(c *call) *refusal {
	clear(c.values[:len(a.rules)])
	for _, p := range c.params {
		base, _, dotted := bytes.Cut(p.name, []byte("."))
		i, known := a.place[string(base)]
		switch {
		case string(base) == "TargetMsg" && c.api == apiPushMultiple:
		case !known:
			c.notes = append(c.notes, "unknown parameter "+string(p.name))
		case dotted:
			c.values[i] = emptyMap // a map may also travel as one parameter per key
		default:
			c.values[i] = p.value
		}
	}
	for i, r := range a.rules {
		v := c.values[i]
		if len(v) == 0 && r.missing != "" {
			return business(r.missing)
		}
		if len(v) > 0 && r.check != nil && !r.check(v) {
			if r.wrong == "" {
				return invalid("%s is %q", r.name, v)
			}
			return business(r.wrong)
		}
	}
	return nil
}

var emptyMap = []byte("{}")

// value returns what apply found for a name of the action.
func (c *call) value(name string) []byte {
	if i, ok := actions[c.api].place[name]; ok {
		return c.values[i]
	}
	return nil
}

// business takes "3019 TASKNAME_NULL" apart.
func business(text string) *refusal {
	for i := range text {
		if text[i] == ' ' {
			return &refusal{http.StatusOK, text[:i], text[i+1:]}
		}
	}
	return &refusal{http.StatusOK, text, text}
}

func oneOf(values ...string) func([]byte) bool {
	return func(v []byte) bool { return slices.Contains(values, string(v)) }
}

func isNumber(v []byte) bool {
	_, err := strconv.ParseInt(string(v), 10, 64)
	return err == nil
}

func isPositive(v []byte) bool { return isNumber(v) && v[0] != '-' && string(v) != "0" }

func hasNoComma(v []byte) bool { return bytes.IndexByte(v, ',') < 0 }
