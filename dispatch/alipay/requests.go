package alipay

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/rawjson"
	"github.com/campaign-scheduler/scheduler/internal/spelling"
)

// A rule judges one value of a request. Rules report to the judge and go on, so
// that an author sees every problem at once.
type rule func(j *judge, field string, n node)

// A judge collects the problems of one request.
type judge struct {
	problems dispatch.Problems
}

func (j *judge) report(field, format string, args ...any) {
	j.problems.Add(field, format, args...)
}

// is reports whether n is of kind k, and a problem when it is not.
func (j *judge) is(field string, n node, k rawjson.Kind) bool {
	if n.kind != k {
		j.report(field, "must be %s, not %s", k, n.kind)
		return false
	}
	return true
}

// text is the rule of a string that is not empty.
func text(j *judge, field string, n node) {
	if j.is(field, n, rawjson.String) && strings.TrimSpace(n.text) == "" {
		j.report(field, "must not be empty")
	}
}

// anyText is the rule of a string that may be empty.
func anyText(j *judge, field string, n node) { j.is(field, n, rawjson.String) }

// oneOf is the rule of a string out of a closed list.
func oneOf(words ...string) rule {
	choice := fmt.Sprintf("must be %q", words[0])
	if len(words) > 1 {
		choice = fmt.Sprintf("must be one of %q", words)
	}
	return func(j *judge, field string, n node) {
		if j.is(field, n, rawjson.String) && !slices.Contains(words, n.text) {
			j.report(field, "%s, not %q%s", choice, n.text, j.suggest(n.text, words))
		}
	}
}

// listOf is the rule of a list with at least one item. limit 0 means no limit.
func listOf(limit int, item rule) rule {
	return func(j *judge, field string, n node) {
		if !j.is(field, n, rawjson.List) {
			return
		}
		if len(n.items) == 0 {
			j.report(field, "must not be empty")
		}
		if limit > 0 && len(n.items) > limit {
			j.report(field, "holds %d items; at most %d are allowed", len(n.items), limit)
			return // the author has to choose which items to keep; they are judged then
		}
		for i, v := range n.items {
			item(j, fmt.Sprintf("%s[%d]", field, i), v)
		}
	}
}

// mapOf is the rule of an object with at least one member, of any names.
func mapOf(value rule) rule {
	return func(j *judge, field string, n node) {
		if !j.is(field, n, rawjson.Object) {
			return
		}
		if len(n.members) == 0 {
			j.report(field, "must not be empty")
		}
		j.duplicates(field, n)
		for _, m := range n.members {
			value(j, join(field, m.name), m.value)
		}
	}
}

// A spec is one member that an object may have.
type spec struct {
	name     string
	required bool
	rule     rule
}

func required(name string, r rule) spec { return spec{name, true, r} }
func optional(name string, r rule) spec { return spec{name, false, r} }

// object is the rule of an object with these members and no others.
func object(specs ...spec) rule {
	names := make([]string, len(specs))
	rules := make(map[string]rule, len(specs))
	for i, s := range specs {
		names[i], rules[s.name] = s.name, s.rule
	}
	return func(j *judge, field string, n node) {
		if !j.is(fieldOrRequest(field), n, rawjson.Object) {
			return
		}
		j.duplicates(field, n)
		for _, m := range n.members {
			if r, ok := rules[m.name]; ok {
				r(j, join(field, m.name), m.value)
			} else {
				j.report(join(field, m.name), "is not a parameter of this call%s", j.suggest(m.name, names))
			}
		}
		for _, s := range specs {
			if _, ok := n.get(s.name); s.required && !ok {
				j.report(join(field, s.name), "is required")
			}
		}
	}
}

// all applies several rules to one value. The rules after the first see only
// values of the kind k.
func all(k rawjson.Kind, first rule, more ...rule) rule {
	return func(j *judge, field string, n node) {
		first(j, field, n)
		if n.kind != k {
			return
		}
		for _, r := range more {
			r(j, field, n)
		}
	}
}

func (j *judge) duplicates(field string, n node) {
	seen := make(map[string]bool, len(n.members))
	for _, m := range n.members {
		if seen[m.name] {
			j.report(join(field, m.name), "is given twice")
		}
		seen[m.name] = true
	}
}

// join returns the path of a member. It cuts both parts, since the paths of a
// member's own members repeat them.
func join(field, name string) string {
	name = dispatch.Clip(name, maxName)
	if field == "" {
		return name
	}
	return dispatch.Clip(field, maxName) + "." + name
}

// maxName bounds a part of a field's name, in bytes.
const maxName = 128

// suggest returns a sentence that names the word nearest to the author's, or
// nothing when none is near.
func (j *judge) suggest(wrote string, words []string) string {
	if j.problems.Full() {
		return ""
	}
	if near := spelling.Nearest(wrote, words); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// fieldOrRequest returns field, or the word that dispatch.Problem has for the
// whole request where field is empty.
func fieldOrRequest(field string) string {
	if field == "" {
		return "request"
	}
	return field
}

// totalSend is a message to everyone.
var totalSend = all(rawjson.Object, object(
	required("msg_type", oneOf(msgTypeText, msgTypeArticles)),
	optional("text", textRule),
	optional("articles", articlesRule),
), contentFits)

// groupSend is a message to one group of users. The members of an image are not
// described, so an image is sent as it is.
var groupSend = all(rawjson.Object, object(
	required("group_id", text),
	required("msg_type", oneOf(msgTypeText, msgTypeArticles, msgTypeImage)),
	optional("text", textRule),
	optional("articles", articlesRule),
	optional("image", anyObject),
), contentFits)

func anyObject(j *judge, field string, n node) { j.is(field, n, rawjson.Object) }

// columnLabel is the only column that holds a merchant's labels.
const columnLabel = "label_id_list"

var labelSend = object(
	required("filter", all(rawjson.Object, object(
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
	materialRule = all(rawjson.Object, object(
		required("msg_type", oneOf(msgTypeText, msgTypeArticles)),
		optional("text", textRule),
		optional("articles", articlesRule),
	), contentFits)
)

// template is ${a}, or two variables joined by "and" or "or".
var template = regexp.MustCompile(`^\s*\$\{([^{}\s]+)\}(?:\s+(?:and|or)\s+\$\{([^{}\s]+)\})?\s*$`)

// templateFits judges the filter's template, and checks that template and
// context have the same variables. If a condition were left out by mistake, the
// message would reach users whom nobody meant.
func templateFits(j *judge, field string, n node) {
	tmpl, _ := n.get("template")
	if tmpl.kind != rawjson.String || strings.TrimSpace(tmpl.text) == "" {
		return
	}
	match := template.FindStringSubmatch(tmpl.text)
	if match == nil {
		j.report(join(field, "template"),
			`must be "${a}", or two variables joined by "and" or "or" as in "${a} and ${b}", not %q`, tmpl.text)
		return
	}
	context, ok := n.get("context")
	if !ok || context.kind != rawjson.Object {
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

// The two ways to name the user of a single send.
const (
	fieldUserID = "to_user_id"
	fieldOpenID = "to_open_id"
	// fieldTarget is a member of ours, not Alipay's, and is not sent. It says
	// which of the two the rows of campaign_targets hold.
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

// keyword is the rule of the value that fills a place of the template: a text
// and its colour. The API's description leaves the type open, so a plain string
// is allowed as well.
func keyword(j *judge, field string, n node) {
	if n.kind != rawjson.String {
		keywordObject(j, field, n)
	}
}

// singleAudience reports a request that names its user in two ways. A request may
// name no user: the users then come from campaign_targets, which may be filled
// later.
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

// A single is a judged single send. Its document has the user's member, with an
// empty value, at the author's place or else in front.
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

// judgeTarget judges one target, of a request or of a table.
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

// The parts of a message that label, total and group sends share. The API's
// description says what is required: a text has a title and content, an article
// a description and a link, and the first of several articles an image. It
// publishes no lengths, so none are judged.
const (
	msgTypeText     = "text"
	msgTypeArticles = "image-text"
	msgTypeImage    = "image"
	maxArticles     = 6
)

var (
	textRule = object(
		required("title", text),
		required("content", text),
	)
	articleRule = object(
		optional("title", anyText),
		required("desc", text),
		optional("image_url", anyText),
		required("url", text),
		optional("action_name", anyText),
	)
	articlesRule = all(rawjson.List, listOf(maxArticles, articleRule), firstHasImage)
)

func firstHasImage(j *judge, field string, n node) {
	if len(n.items) < 2 || n.items[0].kind != rawjson.Object {
		return
	}
	if image, ok := n.items[0].get("image_url"); !ok || image.kind == rawjson.String && image.text == "" {
		j.report(field+"[0].image_url", "is required for the first of several articles")
	}
}

// contents says which member each message type puts its message in.
var contents = []struct{ msgType, field string }{
	{msgTypeText, "text"},
	{msgTypeArticles, "articles"},
	{msgTypeImage, "image"},
}

// contentFits checks that the message's members fit its msg_type.
func contentFits(j *judge, field string, n node) {
	msgType, ok := n.get("msg_type")
	if !ok || msgType.kind != rawjson.String {
		return
	}
	known := false
	for _, c := range contents {
		known = known || c.msgType == msgType.text
	}
	if !known {
		return // reported already; nobody knows which member would fit
	}
	for _, c := range contents {
		_, given := n.get(c.field)
		switch {
		case c.msgType == msgType.text && !given:
			j.report(join(field, c.field), "is required with msg_type %q", msgType.text)
		case c.msgType != msgType.text && given:
			j.report(join(field, c.field), "%s", misplaced(c.msgType, msgType.text))
		}
	}
}

func misplaced(wants, got string) string {
	return fmt.Sprintf("belongs to msg_type %q, but msg_type is %q", wants, got)
}
