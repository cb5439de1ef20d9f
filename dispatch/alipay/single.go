package alipay

import (
	"errors"
	"fmt"
	"slices"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// The two ways to name the user of a single send.
const (
	fieldUserID = "to_user_id"
	fieldOpenID = "to_open_id"
	// fieldTarget is ours, not Alipay's: it says which of the two the rows of
	// campaign_targets hold. It is not sent.
	fieldTarget = "target_field"
)

// singleSend is a template message to one user.
var singleSend = object(
	optional(fieldUserID, text),
	optional(fieldOpenID, text),
	optional(fieldTarget, oneOf(fieldUserID, fieldOpenID)),
	required("template", object(
		required("template_id", text),
		required("context", contextRule),
	)),
)

var contextRule = object(
	optional("first", keyword),
	optional("keyword1", keyword),
	optional("keyword2", keyword),
	optional("remark", keyword),
	optional("url", anyText),
	optional("action_name", anyText),
	optional("head_color", anyText),
)

var keywordObject = object(
	required("value", anyText),
	optional("color", anyText),
)

// keyword is what fills a place of the template: a value and its colour. The
// API's description leaves the type open, so a plain string passes as well.
func keyword(j *judge, field string, n node) {
	if n.kind != kindString {
		keywordObject(j, field, n)
	}
}

// singleAudience holds the ways of naming a user against each other. A request
// that names none is good: the users come from campaign_targets, which may be
// filled later.
func singleAudience(j *judge, r dispatch.Request, n node) {
	_, user := n.get(fieldUserID)
	_, open := n.get(fieldOpenID)
	_, target := n.get(fieldTarget)
	switch {
	case user && open:
		j.report(fieldOpenID, "contradicts to_user_id: give one of the two")
	case r.StoredTargets && (user || open):
		field := fieldUserID
		if open {
			field = fieldOpenID
		}
		j.report(field, "contradicts campaign_targets, which holds this campaign's targets: remove one or the other")
	}
	if target && (user || open) {
		j.report(fieldTarget, "only says what the rows of campaign_targets hold: remove it")
	}
}

// A single is a judged single send. Its document has the user's member in the
// author's place, or in front, with an empty value.
type single struct {
	document node
	field    string
}

func newSingle(n node) (*single, []dispatch.Target) {
	s := &single{document: n, field: fieldUserID}
	for _, name := range []string{fieldUserID, fieldOpenID} {
		if id, ok := n.get(name); ok {
			s.field = name
			return s, []dispatch.Target{{Target: id.text}}
		}
	}
	if name, ok := n.get(fieldTarget); ok {
		s.field = name.text
	}
	rest := slices.DeleteFunc(slices.Clone(n.members), func(m member) bool { return m.name == fieldTarget })
	s.document.members = slices.Insert(rest, 0, member{s.field, stringNode("")})
	return s, nil
}

var (
	errOneTarget      = errors.New("a single send takes exactly one target")
	errExtendedParams = errors.New("a single send has no extended_params")
)

// body returns the body for one user. The target's template_key_value replaces
// the members of template.context that it names.
func (s *single) body(targets []dispatch.Target) ([]byte, error) {
	if len(targets) != 1 {
		return nil, errOneTarget
	}
	t := targets[0]
	if !dispatch.IsEmptyObject(t.ExtendedParams) {
		return nil, errExtendedParams
	}
	document := s.document.with(s.field, stringNode(t.Target))
	if !dispatch.IsEmptyObject(t.TemplateKeyValue) {
		values, err := judgeValues(t.TemplateKeyValue)
		if err != nil {
			return nil, err
		}
		document = document.with("template", fill(document, values))
	}
	return document.appendJSON(nil), nil
}

// judgeTarget holds the rules of one target, wherever it stands.
func judgeTarget(t *dispatch.Target, report dispatch.Report) {
	t.Judge(report)
	if !dispatch.IsEmptyObject(t.ExtendedParams) {
		report(dispatch.FieldExtendedParams, "must be empty: a single send has none")
	}
	if dispatch.IsEmptyObject(t.TemplateKeyValue) {
		return
	}
	values, err := parseDocument(t.TemplateKeyValue)
	if err != nil {
		return // reported already
	}
	j := &judge{}
	contextRule(j, "", values)
	for _, p := range j.problems.List() {
		report(dispatch.FieldTemplateKeyValue, "has %s, which %s", p.Field, p.Text)
	}
}

func judgeValues(text []byte) (node, error) {
	values, err := parseDocument(text)
	if err != nil {
		return node{}, fmt.Errorf("template_key_value %w", err)
	}
	j := &judge{}
	contextRule(j, "template_key_value", values)
	if problems := j.problems.List(); len(problems) > 0 {
		return node{}, fmt.Errorf("%s %s", problems[0].Field, problems[0].Text)
	}
	return values, nil
}

func fill(document, values node) node {
	tmpl, _ := document.get("template")
	context, _ := tmpl.get("context")
	for _, m := range values.members {
		context = context.with(m.name, m.value)
	}
	return tmpl.with("context", context)
}
