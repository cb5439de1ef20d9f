package api

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/internal/aliyun"
)

// A push is one of the four push actions.
type push uint8

const (
	simple push = iota + 1
	template
	multiple
	broadcast
)

// pushes are the actions by name, with their channels.
var pushes = map[string]struct {
	push    push
	channel string
}{
	"PushSimple":    {simple, "mpaas.push_simple"},
	"PushTemplate":  {template, "mpaas.push_template"},
	"PushMultiple":  {multiple, "mpaas.push_multiple"},
	"PushBroadcast": {broadcast, "mpaas.push_broadcast"},
}

// types are the channels in the order of the values of parameter Type.
var types = []string{"mpaas.push_simple", "mpaas.push_template", "mpaas.push_multiple", "mpaas.push_broadcast"}

// A problem says what is wrong with one parameter.
type problem struct{ param, text string }

type problems []problem

func (p *problems) add(param, format string, args ...any) {
	*p = append(*p, problem{param, fmt.Sprintf(format, args...)})
}

// String lists every problem for ResultMsg.
func (p problems) String() string {
	lines := make([]string, len(p))
	for i, q := range p {
		lines[i] = q.param + ": " + q.text
	}
	return strings.Join(lines, "; ")
}

// code returns the documented result code of the first problem.
func (p problems) code(of push) string { return p[0].code(of) }

func (p problem) code(of push) string {
	missing := strings.Contains(p.text, "missing") || strings.Contains(p.text, "must not be empty")
	many := strings.Contains(p.text, "at most")
	base, _, listed := strings.Cut(p.param, ".")
	switch {
	case (base == "AppId" || base == "WorkspaceId") && missing:
		return "3003"
	case base == "AppId" || base == "WorkspaceId":
		return "3007"
	case base == "TaskName":
		return "3019"
	case base == "ExpiredSeconds":
		return "3020"
	case base == "DeliveryType" && of == broadcast && !missing:
		return "3030"
	case base == "DeliveryType":
		return "3009"
	case base == "Title" || base == "Content":
		return "3024"
	case base == "TargetMsg" && listed && strings.HasSuffix(p.param, "ExtendedParams") && many:
		return "3049"
	case (base == "TargetMsg" || base == "TargetMsgkey") && many && !listed && strings.HasPrefix(p.text, "names "):
		return "3029"
	case (base == "TargetMsg" || base == "TargetMsgkey") && (missing || strings.Contains(p.text, "no targets") || strings.Contains(p.text, "is empty")):
		return "3021"
	case base == "TemplateName" && strings.Contains(p.text, "comma"):
		return "3038"
	case base == "TemplateName":
		return "3037"
	case base == "ExtendedParams" && many:
		return "3035"
	case base == "ExtendedParams":
		return "3044"
	}
	return "3028"
}

// readRequest collects the parameters of a channel's action and of its targets,
// under the documents' names, as in campaigns.request. The adapter judges the
// values. An unknown parameter is ignored, as the service does.
func readRequest(p aliyun.Params, channel string, bad *problems) map[string]any {
	request := make(map[string]any)
	for _, q := range mpaas.Parameters(channel) {
		if q.Targets {
			whole, list := p.Get(q.Name), readTargets(p, bad)
			switch {
			case whole != "" && list != nil:
				bad.add(q.Name, "is given both whole and target by target")
			case whole != "": // the list as JSON
				request[documented(q.Name)] = whole
			case list != nil:
				request[documented(q.Name)] = list
			}
			continue
		}
		read := p.Map // of a single text too
		if q.Deep {
			read = p.Tree
		}
		value, err := read(q.Name)
		if err != nil {
			param, why, _ := strings.Cut(err.Error(), ": ")
			bad.add(param, "%s", why)
			continue
		}
		if value == "" {
			continue
		}
		if q.Object && !json.Valid([]byte(value)) {
			bad.add(q.Name, "is not JSON%s", mapHint(value))
			continue
		}
		if n, err := strconv.ParseInt(value, 10, 64); q.Integer && err == nil {
			request[documented(q.Name)] = n
		} else {
			request[documented(q.Name)] = value
		}
	}
	return request
}

// mapHint returns a hint for a map that was sent as a programming language
// prints it, and not as JSON.
func mapHint(value string) string {
	switch {
	case strings.HasPrefix(value, "{'"):
		return ": it is the text of a Python dict, use json.dumps"
	case strings.HasPrefix(value, "{") && strings.Contains(value, "="):
		return ": it is the text of a Java Map, use a JSON library"
	}
	return ""
}

var targetFields = []string{"Target", "MsgKey", "TemplateKeyValue", "ExtendedParams"}

func readTargets(p aliyun.Params, bad *problems) []map[string]any {
	items, err := p.List("TargetMsg")
	if err != nil {
		param, why, _ := strings.Cut(err.Error(), ": ")
		bad.add(param, "%s", why)
		return nil
	}
	var list []map[string]any
	for i, item := range items {
		if item.Number != i+1 {
			bad.add("TargetMsg."+strconv.Itoa(i+1), "is missing: the list has a gap")
			return nil
		}
		target := make(map[string]any)
		for _, name := range targetFields {
			value := item.Fields[name]
			if value == "" {
				continue
			}
			if hint := mapHint(value); (name == "TemplateKeyValue" || name == "ExtendedParams") && !json.Valid([]byte(value)) {
				bad.add(fmt.Sprintf("TargetMsg.%d.%s", i+1, name), "is not JSON%s", hint)
				continue
			}
			target[documented(name)] = value
		}
		list = append(list, target)
	}
	return list
}

// documented returns the documents' name of a parameter, and wire the name
// under which it is sent.
func documented(name string) string {
	if name == "TargetMsg" {
		return "targetMsgs"
	}
	return strings.ToLower(name[:1]) + name[1:]
}

func wire(name string) string {
	if name == "targetMsgs" {
		return "TargetMsg"
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

var fieldForm = regexp.MustCompile(`^(\w+)(?:\[(\d+)\])?(?:\.(\w+))?`)

// ofAdapter translates the adapter's problems: targetMsgs[0].target is
// TargetMsg.1.Target here.
func (p *problems) ofAdapter(found []dispatch.Problem) {
	for _, f := range found {
		field := f.Field
		switch parts := fieldForm.FindStringSubmatch(field); {
		case field == "name":
			field = "TaskName"
		case field == "channel":
			field = "AppId"
		case parts == nil:
			field = "request"
		default:
			field = wire(parts[1])
			if parts[2] != "" {
				n, _ := strconv.Atoi(parts[2])
				field += "." + strconv.Itoa(n+1)
			}
			if parts[3] != "" {
				field += "." + wire(parts[3])
			}
		}
		if !p.about(field) {
			text, _, _ := strings.Cut(f.Text, ": put them into campaign_targets") // a caller has no table
			text, _, _ = strings.Cut(text, ": leave it out when they are in campaign_targets")
			p.add(field, "%s", text)
		}
	}
}

// about says whether a parameter has a problem. A parameter that could not be
// read must not also be reported as missing.
func (p problems) about(param string) bool {
	return slices.ContainsFunc(p, func(q problem) bool { return q.param == param })
}

// columns are the parameters that have a column of their own, or a key in
// strategy_content.
var columns = map[string]string{
	"app_id": "AppId", "workspace_id": "WorkspaceId", "channel": "AppId", "name": "TaskName", "strategy_type": "StrategyType",
	"strategy_content": "StrategyContent", "time_zone": "TimeZone", "misfire_policy": "MisfirePolicy", "catch_up_window": "CatchUpWindow", "spread": "Spread",
	"short_month_policy": "ShortMonthPolicy", "dst_gap_policy": "DstGapPolicy", "times": "Times", "calendar": "Calendar", "calendar_policy": "CalendarPolicy", "quiet_policy": "QuietPolicy", "resend_unknown": "ResendUnknown", "client_token": "ClientToken",
	"fixedTime": "StrategyContent.fixedTime", "startTime": "StrategyContent.startTime", "endTime": "StrategyContent.endTime",
	"circleType": "StrategyContent.circleType", "circleValue": "StrategyContent.circleValue", "time": "StrategyContent.time",
	"targets": "TargetMsg", "request": "request",
	"target": "Target", "msg_key": "MsgKey", "template_key_value": "TemplateKeyValue", "extended_params": "ExtendedParams",
}

// columnMark finds the start of a rule in the database's text: a column and a
// colon, after "; " or at the start. unknownKey finds a rule about an unknown
// key of the strategy, whose name is the caller's text.
var (
	columnMark = regexp.MustCompile(`(?:^|; )([A-Za-z_]+): `)
	unknownKey = regexp.MustCompile(`(?:^|; )([^:;]*): ` + notAKey)
)

const notAKey = "is not a key of StrategyContent"

// ofDatabase translates the database's problems: "name: must not be empty;
// app_id: ...".
func (p *problems) ofDatabase(message string) {
	var marks [][]int
	for _, m := range columnMark.FindAllStringSubmatchIndex(message, -1) {
		if _, known := columns[message[m[2]:m[3]]]; known && !strings.HasPrefix(message[m[1]:], notAKey) { // an unknown key may have the name of a column
			marks = append(marks, m)
		}
	}
	for _, m := range unknownKey.FindAllStringSubmatchIndex(message, -1) {
		m[1] = m[3] + len(": ")
		marks = append(marks, m)
	}
	slices.SortFunc(marks, func(a, b []int) int { return a[0] - b[0] })
	if len(marks) == 0 {
		p.add("request", "%s", message)
	}
	for i, m := range marks {
		end := len(message)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		column := message[m[2]:m[3]]
		param, known := columns[column]
		if !known || strings.HasPrefix(message[m[1]:], notAKey) {
			param = "StrategyContent." + column
		}
		if !p.about(param) {
			p.add(param, "%s", message[m[1]:end])
		}
	}
}
