package sandbox

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

const (
	maxTargets  = 100 // of PushMultiple
	maxPairs    = 10  // of TargetMsgkey
	maxExtended = 20
	maxPerOne   = 9 // extended keys of one target: fewer than ten
)

// reserved are keys of ExtendedParams that the service uses itself.
var reserved = []string{"notifyType", "action", "silent", "pushType", "templateCode", "channel", "taskId"}

// judgeAction checks the parameters against the documents.
func (m *mpaas) judgeAction(c *call) *refusal {
	c.taskName = c.param("TaskName")
	targets := c.readTargets() // read before judged, so that the journal has them
	if r := actions[c.api].apply(c); r != nil {
		return r
	}
	if c.api > apiPushBroadcast {
		return nil
	}
	if targets != nil {
		return targets
	}
	for _, check := range []func(*call) *refusal{checkExtended, checkChannels, checkActivity, checkBroadcast, m.checkStrategy} {
		if r := check(c); r != nil {
			return r
		}
	}
	return nil
}

func (c *call) readTargets() *refusal {
	switch c.api {
	case apiPushSimple, apiPushTemplate:
		return c.readPairs(c.param("TargetMsgkey"))
	case apiPushMultiple:
		return c.readTargetMsg()
	case apiPushBroadcast:
		if key := c.param("Msgkey"); len(key) > 0 {
			c.msgKeys = append(c.msgKeys, key)
		}
	default:
	}
	return nil
}

// readPairs reads TargetMsgkey: a JSON object of target → msgKey.
func (c *call) readPairs(text []byte) *refusal {
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return invalid("TargetMsgkey is not a JSON object")
	}
	for dec.More() {
		target, err := dec.Token()
		if err != nil {
			return invalid("TargetMsgkey is not a JSON object")
		}
		var key string
		if err := dec.Decode(&key); err != nil || key == "" {
			return invalid("TargetMsgkey: each target needs a msgKey")
		}
		name, _ := target.(string)
		c.addTarget([]byte(name), []byte(key))
	}
	if _, err := dec.Token(); err != nil || len(bytes.TrimSpace(text[dec.InputOffset():])) > 0 {
		return invalid("TargetMsgkey is not a JSON object")
	}
	return c.checkTargets(maxPairs)
}

// readTargetMsg reads the list that is written as TargetMsg.1.Target=a,
// TargetMsg.1.MsgKey=b and so on.
func (c *call) readTargetMsg() *refusal {
	var found [maxTargets]struct{ target, key []byte }
	count := 0
	for _, p := range c.params {
		rest, ok := bytes.CutPrefix(p.name, []byte("TargetMsg."))
		if !ok {
			continue
		}
		number, field, _ := bytes.Cut(rest, []byte("."))
		n, err := strconv.Atoi(string(number))
		if err != nil || n < 1 {
			return invalid("%s: the list counts from 1", p.name)
		}
		count = max(count, n)
		if n > maxTargets {
			continue
		}
		switch string(field) {
		case "Target":
			found[n-1].target = p.value
		case "MsgKey":
			found[n-1].key = p.value
		case "TemplateKeyValue", "ExtendedParams":
			if r := checkTargetMap(string(field), p); r != nil {
				return r
			}
		default:
			c.notes = append(c.notes, "unknown parameter "+string(p.name))
		}
	}
	for _, f := range found[:min(count, maxTargets)] {
		c.addTarget(f.target, f.key)
	}
	c.targetCount = count
	return c.checkTargets(maxTargets)
}

func checkTargetMap(field string, p param) *refusal {
	if len(p.value) > 0 && !isMap(p.value) {
		return invalid("%s is not a JSON object", p.name)
	}
	if field == "ExtendedParams" && countKeys(p.value) > maxPerOne {
		return &refusal{http.StatusOK, "3049", "EXTEND_PARAM_TO_MUCH: a target takes fewer than 10"}
	}
	return nil
}

func (c *call) addTarget(target, key []byte) {
	c.targets = append(c.targets, target)
	c.msgKeys = append(c.msgKeys, key)
	c.targetCount++
}

func (c *call) checkTargets(most int) *refusal {
	if c.targetCount > most {
		return &refusal{http.StatusOK, "3029", "SINGLE_PUSH_TARGET_TOO_MUCH: at most " + strconv.Itoa(most)}
	}
	if c.targetCount == 0 {
		return business(noTarget)
	}
	for i := range c.targets {
		if len(c.targets[i]) == 0 {
			return business(noTarget)
		}
		if len(c.msgKeys[i]) == 0 {
			return invalid("target %d has no msgKey", i+1)
		}
	}
	return nil
}

func checkExtended(c *call) *refusal {
	text := c.value("ExtendedParams")
	if len(text) == 0 {
		return nil
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(text, &keys) != nil {
		return business("3044 INVALID_EXTEND_PARAM")
	}
	if len(keys) > maxExtended {
		return business("3035 EXTEND_PARAM_TO_MUCH: at most 20")
	}
	for k := range keys {
		if slices.Contains(reserved, k) {
			return business("3044 INVALID_EXTEND_PARAM: " + k + " is reserved")
		}
	}
	return nil
}

// checkChannels checks the vendors' values: hms categories are "1" to "14".
func checkChannels(c *call) *refusal {
	for _, name := range []string{"ThirdChannelCategory", "NotifyLevel"} {
		text := c.value(name)
		if len(text) == 0 {
			continue
		}
		var values map[string]string
		if json.Unmarshal(text, &values) != nil {
			return invalid("%s: the values must be strings", name)
		}
		hms, ok := values["hms"]
		n, err := strconv.Atoi(hms)
		if ok && name == "ThirdChannelCategory" && (err != nil || n < 1 || n > 14) {
			return invalid("ThirdChannelCategory: hms is %q, want 1 to 14", hms)
		}
		if ok && name == "NotifyLevel" && hms != "1" && hms != "2" {
			return invalid("NotifyLevel: hms is %q, want 1 or 2", hms)
		}
	}
	return nil
}

func checkActivity(c *call) *refusal {
	if len(c.value("DismissalDate")) > 0 && string(c.value("ActivityEvent")) != "end" {
		return invalid("DismissalDate goes with ActivityEvent end only")
	}
	return nil
}

func checkBroadcast(c *call) *refusal {
	if c.api != apiPushBroadcast {
		return nil
	}
	switch string(c.value("PushStatus")) {
	case "", "0":
		if len(c.value("BindPeriod")) == 0 {
			return invalid("BindPeriod is required when PushStatus is 0")
		}
	default:
		if len(c.value("UnBindPeriod")) == 0 {
			return invalid("UnBindPeriod is required when PushStatus is 1 or 2")
		}
	}
	return nil
}

// isMap reports whether a value is a JSON object.
func isMap(v []byte) bool {
	v = bytes.TrimSpace(v)
	return len(v) > 1 && v[0] == '{' && json.Valid(v)
}

func countKeys(v []byte) int {
	var keys map[string]json.RawMessage
	_ = json.Unmarshal(v, &keys)
	return len(keys)
}

// A rule is the documents' rule for one parameter. The codes are those of
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

// apply puts each parameter in its place and checks it against its rule.
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
			c.values[i] = emptyMap // a map may also be sent as one parameter for each key
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
