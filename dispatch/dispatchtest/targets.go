package dispatchtest

import (
	"strings"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// A TargetCase is one target of a channel and whether it can be sent. The
// adapters' rules, a request's own targets and the database's triggers are held
// against the same cases.
type TargetCase struct {
	Name, Channel                            string
	Target, TemplateKeyValue, ExtendedParams string // the latter two are JSON, or empty
	Bad                                      string // in what is said of it; empty: it is good
}

// Of returns the case's target.
func (c TargetCase) Of() *dispatch.Target {
	t := &dispatch.Target{Target: c.Target, MsgKey: "k"}
	if c.TemplateKeyValue != "" {
		t.TemplateKeyValue = []byte(c.TemplateKeyValue)
	}
	if c.ExtendedParams != "" {
		t.ExtendedParams = []byte(c.ExtendedParams)
	}
	return t
}

// TargetCases lists good and bad targets of every channel that takes some.
func TargetCases() []TargetCase {
	const (
		multiple, template, simple = "mpaas.push_multiple", "mpaas.push_template", "mpaas.push_simple"
		single, webhook            = "alipay.single_send", "webhook"
	)
	nine, ten := keys(9), keys(10)
	cases := []TargetCase{
		{"values", multiple, "u", `{"a": "b", "n": 1, "t": true}`, `{"x": "y"}`, ""},
		{"nine extended parameters", multiple, "u", "", nine, ""},
		{"ten extended parameters", multiple, "u", "", ten, "has 10 keys"},
		{"a null value", multiple, "u", `{"name": null}`, "", `"name" is null`},
		{"a nested value", multiple, "u", `{"name": {"a": 1}}`, "", `"name" is an object`},
		{"a list", multiple, "u", `{"a": 1, "name": ["a"]}`, "", `"name" is a list`},
		{"an empty list", multiple, "u", `{"name": []}`, "", `"name" is a list`},
		{"a reserved key", multiple, "u", "", `{"action": "1"}`, `"action"`},
		{"another reserved key", multiple, "u", "", `{"a": "1", "taskId": "1"}`, `"taskId"`},
		{"odd extended values", multiple, "u", "", `{"a": null, "b": {"c": []}}`, ""},
		{"values of its own", template, "u", `{"a": "b"}`, "", "values of its own"},
		{"parameters of its own", simple, "u", "", `{"a": "b"}`, "values of its own"},
		{"keywords", single, "u", `{"first": {"value": "v", "color": "#333333"}, "keyword1": "w", "url": "https://a.example"}`, "", ""},
		{"a strange keyword", single, "u", `{"frist": "x"}`, "", "frist"},
		{"a keyword without value", single, "u", `{"first": {"color": "c"}}`, "", "first.value"},
		{"a keyword that is a number", single, "u", `{"first": 1}`, "", "first"},
		{"extended parameters", single, "u", "", `{"a": 1}`, "a single send has none"},
		{"anything", webhook, "u", `{"a": {"b": [null]}}`, `{"action": null}`, ""},
	}
	for _, channel := range []string{multiple, template, simple, single, webhook} {
		cases = append(cases,
			TargetCase{"plain", channel, "u", "", "", ""},
			TargetCase{"empty objects", channel, "u", "{}", "{}", ""},
			TargetCase{"blank", channel, " \t", "", "", "is empty"},
			TargetCase{"the longest", channel, strings.Repeat("u", dispatch.MaxTarget), "", "", ""},
		)
	}
	return cases
}

// keys is an object of n members.
func keys(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = `"k` + string(rune('a'+i)) + `": "v"`
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
