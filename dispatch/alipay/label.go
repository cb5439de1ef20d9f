package alipay

import (
	"regexp"
	"slices"
	"strings"
)

// columnLabel is the only column that a merchant's labels are found in.
const columnLabel = "label_id_list"

var labelSend = object(
	required("filter", all(kindObject, object(
		required("template", text),
		required("context", mapOf(conditionRule)),
	), templateFits)),
	required("material", materialRule),
)

var (
	conditionRule = object(
		required("column_name", oneOf(columnLabel)),
		required("op", oneOf("=", "!=", "in")),
		required("values", listOf(0, text)),
	)
	materialRule = all(kindObject, object(
		required("msg_type", oneOf(msgTypeText, msgTypeArticles)),
		optional("text", textRule),
		optional("articles", articlesRule),
	), contentFits)
)

// template is ${a}, or two variables joined by "and" or "or".
var template = regexp.MustCompile(`^\s*\$\{([^{}\s]+)\}(?:\s+(?:and|or)\s+\$\{([^{}\s]+)\})?\s*$`)

// templateFits judges the filter's template, and that it and the context speak
// of the same variables: a condition left out by mistake would reach users whom
// nobody meant.
func templateFits(j *judge, field string, n node) {
	tmpl, _ := n.get("template")
	if tmpl.kind != kindString || strings.TrimSpace(tmpl.text) == "" {
		return
	}
	match := template.FindStringSubmatch(tmpl.text)
	if match == nil {
		j.report(join(field, "template"),
			`must be "${a}", or two variables joined by "and" or "or" as in "${a} and ${b}", not %q`, tmpl.text)
		return
	}
	context, ok := n.get("context")
	if !ok || context.kind != kindObject {
		return
	}
	variables := slices.DeleteFunc(match[1:], func(v string) bool { return v == "" })
	for _, v := range slices.Compact(variables) {
		if _, ok := context.get(v); !ok {
			j.report(join(field, "context."+v), "is required: filter.template names ${%s}", v)
		}
	}
	for _, m := range context.members {
		if !slices.Contains(variables, m.name) {
			j.report(join(field, "context."+m.name), "is not used: filter.template does not name ${%s}", m.name)
		}
	}
}
