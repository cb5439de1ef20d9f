package mpaas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/rawjson"
	"github.com/campaign-scheduler/scheduler/internal/spelling"
)

// A judge collects the parameters and the problems of one request.
type judge struct {
	action   action
	channel  dispatch.Channel
	region   string
	given    values
	targets  []dispatch.Target
	problems dispatch.Problems
}

// A value is one parameter as given.
type value struct {
	param   *param
	name    string // as the author spelled it
	raw     json.RawMessage
	wire    string   // the text that is sent, where the value is sent as one text
	number  int64    // of an integer
	members []member // of an object
	good    bool     // whether the value is of the parameter's type
}

// values are the given parameters, each once, in the author's order.
type values []*value

// of returns the value of the parameter with a name on the wire, or nil.
func (l values) of(wire string) *value {
	for _, v := range l {
		if v.param.wire == wire {
			return v
		}
	}
	return nil
}

// Compile judges a request by the documents' tables, and encodes the part that
// is the same in every call.
func (Adapter) Compile(r dispatch.Request) (*dispatch.Message, []dispatch.Problem) {
	c, ok := findChannel(r.Channel)
	if !ok {
		return nil, []dispatch.Problem{{Field: "channel", Text: fmt.Sprintf("%q is not a channel of mpaas", r.Channel)}}
	}
	j := &judge{action: c.action, channel: c.Channel, region: r.Region}
	if r.TaskName == "" {
		j.problem("name", "must not be empty: it is the push's taskName")
	}
	members, err := parseObject(r.Body)
	if err != nil {
		j.problem("request", "%v", err)
		return nil, j.problems.List()
	}
	j.read(members)
	j.judgeRules()
	j.judgeAudience(r)
	j.judgeTargets(r)
	if j.problems.Len() > 0 {
		return nil, j.problems.List()
	}
	m := &dispatch.Message{Channel: c.Channel, Inline: j.targets, Encoded: j.encode(r.TaskName)}
	if c.MaxTargets > 0 {
		m.Judge = dispatch.TargetJudge(func(t *dispatch.Target, report dispatch.Report) { judgeTarget(c.action, t, report) })
	}
	return m, nil
}

func (j *judge) problem(field, format string, args ...any) { j.problems.Add(field, format, args...) }

// read reads each member as the parameter of that name, then reports required
// parameters that are missing.
func (j *judge) read(members []member) {
	for _, name := range repeated(members) {
		j.problem(name, "is given more than once")
	}
	for _, m := range members {
		j.readMember(m)
	}
	for i := range params {
		p := &params[i]
		if p.required.has(j.action) && j.given.of(p.wire) == nil {
			j.problem(p.docName(), "is missing")
		}
	}
}

func (j *judge) readMember(m member) {
	if c, ok := column(m.name); ok {
		j.problem(m.name, "does not belong in the request: it is the campaign's column %s", c)
		return
	}
	p, ok := find(params, m.name)
	switch {
	case !ok:
		j.unknown(m.name, m.name, params, j.channel.Name)
	case !p.in.has(j.action):
		j.problem(m.name, "is not a parameter of %s, but of %s", j.channel.Name, p.channels())
	default:
		j.given = j.take(j.given, p, m.name, m.raw)
	}
}

// take reads the value of a parameter and adds it to the list. A parameter that
// the list has already, under its other name, is a problem.
func (j *judge) take(list values, p *param, name string, raw json.RawMessage) values {
	if first := list.of(p.wire); first != nil {
		if first.name != name {
			j.problem(name, "is the same parameter as %s: keep one of them", first.name)
		}
		return list
	}
	v := &value{param: p, name: name, raw: raw}
	v.good = j.readValue(v)
	return append(list, v)
}

// unknown reports that name, at field, is not a parameter of a channel or a
// target, which what names.
func (j *judge) unknown(field, name string, table []param, what string) {
	if j.problems.Full() {
		j.problem(field, "is not a parameter")
		return
	}
	if n := spelling.Nearest(name, names(table, j.action)); n != "" {
		j.problem(field, "is not a parameter of %s; did you mean %s?", what, n)
		return
	}
	j.problem(field, "is not a parameter of %s", what)
}

// names lists the documents' names of an action's parameters.
func names(table []param, a action) []string {
	var list []string
	for i := range table {
		if table[i].in.has(a) {
			list = append(list, table[i].docName())
		}
	}
	return list
}

// readValue checks the type of v and fills its fields.
func (j *judge) readValue(v *value) bool {
	switch v.param.kind {
	case text:
		return j.readText(v)
	case integer:
		return j.readInteger(v)
	case jsonText, tree:
		return j.readObject(v)
	case jsonOrText:
		if s, ok := rawjson.Unquote(v.raw); ok {
			v.wire = s
			return true
		}
		return j.readObject(v)
	case jsonMap:
		return j.readMap(v)
	case targetMap:
		return j.readTargetMap(v)
	case targetList:
		return j.readTargetList(v)
	}
	return false
}

func (j *judge) readText(v *value) bool {
	p := v.param
	s, ok := rawjson.Unquote(v.raw)
	switch {
	case !ok:
		j.problem(v.name, "must be a string, not %s", rawjson.KindOf(v.raw))
	case p.required.has(j.action) && strings.TrimSpace(s) == "":
		j.problem(v.name, "must not be empty")
	case p.words != nil && !slices.Contains(p.words, s):
		j.problem(v.name, "must be %s, not %q", choice(p.words), s)
	default:
		v.wire = s
		return true
	}
	return false
}

func (j *judge) readInteger(v *value) bool {
	n, err := parseInteger(v.raw)
	switch {
	case err != nil:
		j.problem(v.name, "%v", err)
	case v.param.numbers != nil && !slices.Contains(v.param.numbers, n):
		j.problem(v.name, "must be %s, not %d", choice(v.param.numbers), n)
	default:
		v.number, v.wire = n, strconv.FormatInt(n, 10)
		return true
	}
	return false
}

// readObject takes an object, or a string that holds one. The string is sent as
// it is, the object without spaces.
func (j *judge) readObject(v *value) bool {
	s, isString := rawjson.Unquote(v.raw)
	switch {
	case isString:
		list, err := parseObject([]byte(s))
		if err != nil {
			j.problem(v.name, "holds a string that %v", err)
			return false
		}
		v.members, v.wire, v.raw = list, s, json.RawMessage(s)
	case v.raw[0] == '{':
		v.members, v.wire = members(v.raw), compact(v.raw)
	default:
		j.problem(v.name, "must be an object, or a string that holds one, not %s", rawjson.KindOf(v.raw))
		return false
	}
	for _, name := range repeated(v.members) {
		j.problem(v.name, "holds the key %q more than once", name)
	}
	return true
}

// readMap takes an object of strings.
func (j *judge) readMap(v *value) bool {
	if !j.readObject(v) {
		return false
	}
	good := true
	for _, m := range v.members {
		if _, ok := rawjson.Unquote(m.raw); !ok {
			j.problem(v.name, "must hold strings only, and %q is %s", m.name, rawjson.KindOf(m.raw))
			good = false
		}
	}
	v.wire = sorted(v.members)
	return good
}

// choice lists allowed values: "1, 2 or 7".
func choice[T any](values []T) string {
	var b strings.Builder
	for i, v := range values {
		switch {
		case i == 0:
		case i == len(values)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		fmt.Fprint(&b, v)
	}
	return b.String()
}

// A member is one name and value of a JSON object. The value has no spaces
// around it.
type member struct {
	name string
	raw  json.RawMessage
}

var (
	errNotObject = errors.New("must be a JSON object")
	errTrailing  = errors.New("has text after the JSON object")
)

// parseObject reads one JSON object and nothing after it. The members' values
// share raw's memory.
func parseObject(raw []byte) ([]member, error) {
	if rawjson.KindOf(raw) != rawjson.Object { // most targets have no values
		return nil, errNotObject
	}
	switch err := rawjson.Check(raw); {
	case errors.Is(err, rawjson.ErrSyntax):
		return nil, errNotObject
	case errors.Is(err, rawjson.ErrTrailing):
		return nil, errTrailing
	case err != nil:
		return nil, err
	}
	return members(raw), nil
}

// members takes a JSON object apart that is known to be valid.
func members(raw []byte) []member {
	list := make([]member, 0, 8) // most objects have fewer
	for name, value := range rawjson.Members(raw) {
		list = append(list, member{name, value})
	}
	return list
}

// repeated returns the names that occur more than once.
func repeated(members []member) []string {
	var again []string
	seen := make(map[string]int, len(members))
	for _, m := range members {
		if seen[m.name]++; seen[m.name] == 2 {
			again = append(again, m.name)
		}
	}
	return again
}

// compact returns raw without the spaces between its tokens.
func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return string(raw) // cannot happen: every raw value here was parsed before
	}
	return b.String()
}

// sorted writes members as a JSON object with its names sorted.
func sorted(members []member) string {
	members = slices.SortedFunc(slices.Values(members), func(a, b member) int { return strings.Compare(a.name, b.name) })
	b := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(rawjson.AppendQuoted(b, m.name), ':')
		b = append(b, compact(m.raw)...)
	}
	return string(append(b, '}'))
}

var errRange = errors.New("is too large a number")

// parseInteger reads a whole JSON number, or a string of one. A number with a
// fraction or an exponent is refused even where its value is whole, since the
// API has no such form.
func parseInteger(raw json.RawMessage) (int64, error) {
	literal, isString := rawjson.Unquote(raw)
	if !isString {
		literal = string(raw)
		if c := raw[0]; c != '-' && (c < '0' || c > '9') {
			return 0, fmt.Errorf("must be a whole number, not %s", rawjson.KindOf(raw))
		}
	}
	if !isDecimal(literal) {
		return 0, fmt.Errorf("must be a whole number, not %.40s", raw)
	}
	n, err := strconv.ParseInt(literal, 10, 64)
	if err != nil {
		return 0, errRange
	}
	return n, nil
}

func isDecimal(s string) bool {
	if len(s) > 0 && s[0] == '-' {
		s = s[1:]
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) > 0
}
