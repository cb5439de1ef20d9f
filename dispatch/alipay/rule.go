package alipay

import (
	"fmt"
	"slices"
	"strings"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/spelling"
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
func (j *judge) is(field string, n node, k kind) bool {
	if n.kind != k {
		j.report(field, "must be %s, not %s", k, n.kind)
		return false
	}
	return true
}

// text is a string with something in it.
func text(j *judge, field string, n node) {
	if j.is(field, n, kindString) && strings.TrimSpace(n.text) == "" {
		j.report(field, "must not be empty")
	}
}

// anyText is a string that may be empty.
func anyText(j *judge, field string, n node) { j.is(field, n, kindString) }

// oneOf is a string out of a closed list.
func oneOf(words ...string) rule {
	choice := fmt.Sprintf("must be %q", words[0])
	if len(words) > 1 {
		choice = fmt.Sprintf("must be one of %q", words)
	}
	return func(j *judge, field string, n node) {
		if j.is(field, n, kindString) && !slices.Contains(words, n.text) {
			j.report(field, "%s, not %q%s", choice, n.text, j.suggest(n.text, words))
		}
	}
}

// listOf is a list with at least one item. limit 0 means no limit.
func listOf(limit int, item rule) rule {
	return func(j *judge, field string, n node) {
		if !j.is(field, n, kindArray) {
			return
		}
		if len(n.items) == 0 {
			j.report(field, "must not be empty")
		}
		if limit > 0 && len(n.items) > limit {
			j.report(field, "holds %d items; at most %d are allowed", len(n.items), limit)
			return // what to keep is the author's choice, and then judged
		}
		for i, v := range n.items {
			item(j, fmt.Sprintf("%s[%d]", field, i), v)
		}
	}
}

// mapOf is an object with at least one member, of any names.
func mapOf(value rule) rule {
	return func(j *judge, field string, n node) {
		if !j.is(field, n, kindObject) {
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

// object is an object with these members and no others.
func object(specs ...spec) rule {
	names := make([]string, len(specs))
	rules := make(map[string]rule, len(specs))
	for i, s := range specs {
		names[i], rules[s.name] = s.name, s.rule
	}
	return func(j *judge, field string, n node) {
		if !j.is(fieldOrRequest(field), n, kindObject) {
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

// all applies several rules to one value. Those after the first see only values
// of the kind k.
func all(k kind, first rule, more ...rule) rule {
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

// join names a member. Names are cut, since each of a member's own members
// repeats its name.
func join(field, name string) string {
	name = dispatch.Clip(name, maxName)
	if field == "" {
		return name
	}
	return dispatch.Clip(field, maxName) + "." + name
}

// maxName bounds a part of a field's name, in bytes.
const maxName = 128

// suggest returns a sentence that names the word nearest to what the author
// wrote, or nothing when none is near.
func (j *judge) suggest(wrote string, words []string) string {
	if j.problems.Full() {
		return ""
	}
	if near := spelling.Nearest(wrote, words); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// fieldOrRequest names the whole request by the word of dispatch.Problem.
func fieldOrRequest(field string) string {
	if field == "" {
		return "request"
	}
	return field
}
