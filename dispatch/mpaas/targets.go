package mpaas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

// judgeTargets judges the targets as a whole. A request that names none is
// good: the targets come from campaign_targets, which may be filled later.
func (j *judge) judgeTargets(r dispatch.Request) {
	if j.action == broadcast {
		if r.StoredTargets {
			j.problem("campaign_targets", "must be empty: %s takes no targets", j.channel.Name)
		}
		return
	}
	inline := j.given.of("TargetMsgkey")
	if j.action == multiple {
		inline = j.given.of("TargetMsg")
	}
	if inline == nil {
		return
	}
	if r.StoredTargets {
		j.problem(inline.name, "contradicts campaign_targets: name the targets in one of them")
	}
	if n := len(j.targets); n > j.channel.MaxTargets {
		j.problem(inline.name, "names %d targets, and at most %d are allowed: put them into campaign_targets", n, j.channel.MaxTargets)
	}
	if j.action == multiple { // repeated keys of a map are found elsewhere
		j.judgeRepeatedTargets(inline.name)
	}
}

func (j *judge) judgeRepeatedTargets(field string) {
	seen := make(map[string]bool, len(j.targets))
	for _, t := range j.targets {
		if seen[t.Target] {
			j.problem(field, "names the target %q more than once", t.Target)
		}
		seen[t.Target] = t.Target != ""
	}
}

// readTargetMap takes {target: msgKey}.
func (j *judge) readTargetMap(v *value) bool {
	if !j.readObject(v) {
		return false
	}
	if len(v.members) == 0 {
		j.problem(v.name, "names no targets: leave it out when they are in campaign_targets")
		return false
	}
	for _, m := range v.members {
		key, ok := rawjson.Unquote(m.raw)
		if !ok {
			j.problem(v.name, "must hold a msgKey for each target, and that of %q is %s", m.name, rawjson.KindOf(m.raw))
		}
		judgeOwnKey(j.problem, v.name, "holds a msgKey that ", key)
		t := dispatch.Target{Target: m.name, MsgKey: key}
		judgeTarget(j.action, &t, func(at, format string, args ...any) {
			if at != dispatch.FieldMsgKey { // own keys are judged already
				j.problem(v.name, "holds a target that "+format, args...)
			}
		})
		j.targets = append(j.targets, t)
	}
	return true
}

// readTargetList takes [{target, msgKey, templateKeyValue, extendedParams}].
func (j *judge) readTargetList(v *value) bool {
	inner, valid := v.raw, true
	if s, ok := rawjson.Unquote(v.raw); ok {
		inner = bytes.TrimSpace([]byte(s))
		valid = rawjson.Check(inner) == nil
	}
	if !valid || inner[0] != '[' {
		j.problem(v.name, "must be a list of targets, not %s", rawjson.KindOf(v.raw))
		return false
	}
	items := slices.Collect(rawjson.Elements(inner))
	if len(items) == 0 {
		j.problem(v.name, "names no targets: leave it out when they are in campaign_targets")
		return false
	}
	for i, item := range items {
		j.readTarget(fmt.Sprintf("%s[%d]", v.name, i), item)
	}
	return true
}

func (j *judge) readTarget(field string, raw json.RawMessage) {
	if raw[0] != '{' {
		j.problem(field, "must be an object, not %s", rawjson.KindOf(raw))
		return
	}
	list := members(raw)
	for _, name := range repeated(list) {
		j.problem(field+"."+name, "is given more than once")
	}
	given := j.readTargetMembers(field, list)
	if given.of("Target") == nil {
		j.problem(field+".target", "is missing")
	}
	t := dispatch.Target{Target: wireOf(given.of("Target")), MsgKey: wireOf(given.of("MsgKey"))}
	names := map[string]string{dispatch.FieldTarget: field + ".target"}
	if v := given.of("MsgKey"); v != nil {
		judgeOwnKey(j.problem, v.name, "", t.MsgKey)
	}
	if v := given.of("TemplateKeyValue"); v != nil && v.good {
		t.TemplateKeyValue, names[dispatch.FieldTemplateKeyValue] = json.RawMessage(v.wire), v.name
	}
	if v := given.of("ExtendedParams"); v != nil && v.good {
		t.ExtendedParams, names[dispatch.FieldExtendedParams] = json.RawMessage(v.wire), v.name
	}
	judgeTarget(j.action, &t, func(at, format string, args ...any) {
		if at != dispatch.FieldMsgKey && (at != dispatch.FieldTarget || t.Target != "") { // faults of these are reported already
			j.problem(names[at], format, args...)
		}
	})
	j.targets = append(j.targets, t)
}

// judgeOwnKey checks an author's own key against the bound of keys in campaign_targets.
func judgeOwnKey(report dispatch.Report, field, what, key string) {
	if len(key) > dispatch.MaxMsgKey {
		report(field, what+"has %d bytes, and at most %d are allowed", len(key), dispatch.MaxMsgKey)
	}
}

// judgeTarget judges one target, of a request or of a table.
func judgeTarget(a action, t *dispatch.Target, report dispatch.Report) {
	t.Judge(report)
	if a != multiple {
		if !dispatch.IsEmptyObject(t.TemplateKeyValue) || !dispatch.IsEmptyObject(t.ExtendedParams) {
			report(dispatch.FieldTarget, "has values of its own, which only mpaas.push_multiple can send")
		}
		return
	}
	if list, err := parseObject(t.TemplateKeyValue); err == nil {
		judgeKeyValue(report, dispatch.FieldTemplateKeyValue, list)
	}
	if list, err := parseObject(t.ExtendedParams); err == nil {
		judgeExtendedParams(report, dispatch.FieldExtendedParams, list, maxTargetExtendedParams)
	}
}

func (j *judge) readTargetMembers(field string, members []member) (given values) {
	for _, m := range members {
		at := field + "." + m.name
		if p, ok := find(targetParams, m.name); ok {
			given = j.take(given, p, at, m.raw)
		} else {
			j.unknown(at, m.name, targetParams, "a target")
		}
	}
	return given
}

func wireOf(v *value) string {
	if v == nil {
		return ""
	}
	return v.wire
}
