package mpaas

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// An action is one of the four pushes.
type action uint8

const (
	simple action = 1 << iota
	template
	multiple
	broadcast
)

// actions are the pushes that a parameter belongs to.
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
	// integer is a whole JSON number, or a string of one: on the wire both are
	// the same, and the documents write both.
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

// columns are the parameters that a campaign holds in columns of its own.
var columns = map[string]string{
	"AppId":           "app_id",
	"WorkspaceId":     "workspace_id",
	"TaskName":        "name",
	"StrategyType":    "strategy_type",
	"StrategyContent": "strategy_content",
}

// docName is the name an author finds in the documents.
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
// letter, which is ASCII in all that a parameter has.
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

// column returns the column that holds what name spells.
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

// channels names the channels that have the parameter, for a hint.
func (p *param) channels() string {
	var names []string
	for _, c := range channels {
		if p.in.has(c.action) {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}
