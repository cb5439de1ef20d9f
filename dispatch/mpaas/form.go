package mpaas

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

// A slot is a place in the body that differs between apps or calls.
type slot uint8

const (
	slotNone slot = iota
	slotAppID
	slotWorkspaceID
	slotTargetMap  // {target: msgKey}
	slotTargetList // TargetMsg.1.…
	slotMsgKey
)

// A pair is one key of the body with its value, or a slot in the value's place.
type pair struct {
	key, value string
	slot       slot
}

// A form is the encoded body of a message, with slots for the values of each
// call. The keys are in the order of their bytes, as the official SDK sends them
// [sdk].
type form struct {
	action   action
	ownKey   string // the author's own msgkey of a broadcast
	segments []segment
}

// A segment is a part of the body and the slot that follows it.
type segment struct {
	fixed []byte
	slot  slot
}

// encode makes the form of a request without problems.
func (j *judge) encode(taskName string) *form {
	pairs := make([]pair, 0, len(j.given)+5)
	pairs = append(pairs, pair{key: "TaskName", value: taskName}, pair{key: "StrategyType", value: "0"})
	for _, v := range j.given {
		switch p := v.param; {
		case p.kind == targetMap || p.kind == targetList || p.wire == "Msgkey":
		case p.kind == tree:
			pairs = appendTree(pairs, p.wire, v.raw)
		default:
			pairs = append(pairs, pair{key: p.wire, value: v.wire})
		}
	}
	f := newForm(j.action, pairs)
	f.ownKey = wireOf(j.given.of("Msgkey"))
	return f
}

// targets returns the key of the body that names the receivers.
func (a action) targets() pair {
	switch a {
	case multiple:
		return pair{key: "TargetMsg.1", slot: slotTargetList}
	case broadcast:
		return pair{key: "Msgkey", slot: slotMsgKey}
	default:
		return pair{key: "TargetMsgkey", slot: slotTargetMap}
	}
}

// newForm puts pairs and the slots of the action into the order in which they
// are sent. It may change pairs.
func newForm(a action, pairs []pair) *form {
	pairs = append(pairs, pair{key: "AppId", slot: slotAppID}, pair{key: "WorkspaceId", slot: slotWorkspaceID}, a.targets())
	slices.SortFunc(pairs, func(x, y pair) int { return strings.Compare(x.key, y.key) })
	room := 0
	for _, p := range pairs {
		room += len(p.key) + len(p.value) + len("&=")
	}
	f := &form{action: a}
	fixed := make([]byte, 0, room)
	begin := 0 // of the current segment
	for i, p := range pairs {
		if i > 0 {
			fixed = append(fixed, '&')
		}
		if p.slot != slotTargetList { // that slot writes its own keys
			fixed = append(appendEscaped(fixed, p.key), '=')
		}
		if p.slot != slotNone {
			f.segments, begin = append(f.segments, segment{fixed[begin:len(fixed):len(fixed)], p.slot}), len(fixed)
			continue
		}
		fixed = appendEscaped(fixed, p.value)
	}
	if begin < len(fixed) {
		f.segments = append(f.segments, segment{fixed: fixed[begin:]})
	}
	return f
}

// appendTree writes an object as dotted keys. Lists count from 1, and null is
// left out [sdk].
func appendTree(pairs []pair, prefix string, raw json.RawMessage) []pair {
	switch raw[0] {
	case '{':
		for _, m := range members(raw) {
			pairs = appendTree(pairs, prefix+"."+m.name, m.raw)
		}
		return pairs
	case '[':
		i := 0
		for item := range rawjson.Elements(raw) {
			i++
			pairs = appendTree(pairs, prefix+"."+strconv.Itoa(i), item)
		}
		return pairs
	case 'n':
		return pairs
	}
	if s, ok := rawjson.Unquote(raw); ok {
		return append(pairs, pair{key: prefix, value: s})
	}
	return append(pairs, pair{key: prefix, value: string(raw)})
}

// appendBody appends the body of one call. appID and workspaceID are escaped.
func (f *form) appendBody(b []byte, appID, workspaceID string, p *dispatch.Push) ([]byte, error) {
	var err error
	for i := range f.segments {
		b = append(b, f.segments[i].fixed...)
		switch f.segments[i].slot {
		case slotNone:
		case slotAppID:
			b = append(b, appID...)
		case slotWorkspaceID:
			b = append(b, workspaceID...)
		case slotMsgKey:
			b, err = f.appendMsgKey(b, p.MsgKey)
		case slotTargetMap:
			b, err = appendTargetMap(b, p.Targets)
		case slotTargetList:
			b, err = appendTargetList(b, p.Targets)
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// appendMsgKey appends the author's own key and then ours, which differs
// between occurrences.
func (f *form) appendMsgKey(b []byte, key string) ([]byte, error) {
	if key == "" {
		return b, fmt.Errorf("%s needs a msgKey", f.action)
	}
	if f.ownKey != "" {
		b = append(appendEscaped(b, f.ownKey), '-')
	}
	return appendEscaped(b, key), nil
}

// appendTargetMap appends {target: msgKey} in the order of the targets.
func appendTargetMap(b []byte, targets []dispatch.Target) ([]byte, error) {
	scratch := make([]byte, 0, 512)
	for i := range targets {
		t := &targets[i]
		if err := checkTarget(t); err != nil {
			return b, err
		}
		if !dispatch.IsEmptyObject(t.TemplateKeyValue) || !dispatch.IsEmptyObject(t.ExtendedParams) {
			return b, fmt.Errorf("target %.64q has values of its own, which only mpaas.push_multiple can send", t.Target)
		}
		scratch = append(scratch, ',')
		scratch = rawjson.AppendQuoted(scratch, t.Target)
		scratch = append(scratch, ':')
		scratch = rawjson.AppendQuoted(scratch, t.MsgKey)
	}
	scratch[0] = '{'
	return appendEscaped(b, string(append(scratch, '}'))), nil
}

// listOrder has the numbers 1 to 100 in the order of the keys that contain
// them: the SDK sorts keys as texts, so that TargetMsg.10. comes before
// TargetMsg.2 [sdk].
var listOrder, listPrefix = func() (order []int, prefix [maxMultiple + 1]string) {
	for i := 1; i <= maxMultiple; i++ {
		order = append(order, i)
		prefix[i] = "TargetMsg." + strconv.Itoa(i) + "."
	}
	slices.SortFunc(order, func(x, y int) int { return strings.Compare(prefix[x], prefix[y]) })
	return order, prefix
}()

func appendTargetList(b []byte, targets []dispatch.Target) ([]byte, error) {
	for _, i := range listOrder {
		if i > len(targets) {
			continue
		}
		t, prefix := &targets[i-1], listPrefix[i]
		if err := checkTarget(t); err != nil {
			return b, err
		}
		if i > 1 {
			b = append(b, '&')
		}
		if !dispatch.IsEmptyObject(t.ExtendedParams) {
			b = append(append(b, prefix...), "ExtendedParams="...)
			var n int
			if b, n = appendEscapedJSON(b, t.ExtendedParams); n > maxTargetExtendedParams {
				return b, fmt.Errorf("target %.64q has %d extended parameters, and at most %d are allowed", t.Target, n, maxTargetExtendedParams)
			}
			b = append(b, '&')
		}
		b = append(append(b, prefix...), "MsgKey="...)
		b = append(appendEscaped(b, t.MsgKey), '&')
		b = append(append(b, prefix...), "Target="...)
		b = appendEscaped(b, t.Target)
		if !dispatch.IsEmptyObject(t.TemplateKeyValue) {
			b = append(append(append(b, '&'), prefix...), "TemplateKeyValue="...)
			b, _ = appendEscapedJSON(b, t.TemplateKeyValue)
		}
	}
	return b, nil
}

func checkTarget(t *dispatch.Target) error {
	switch {
	case t.Target == "":
		return fmt.Errorf("a target is empty")
	case t.MsgKey == "":
		return fmt.Errorf("target %.64q has no msgKey", t.Target)
	}
	return nil
}

// plainByte marks the bytes that a form body holds as they are. A space becomes
// "+", all other bytes become %XX, as in net/url's QueryEscape and in the SDK.
var plainByte = func() (t [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~" {
		t[c] = true
	}
	return t
}()

const upperHex = "0123456789ABCDEF"

func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		b = appendEscapedByte(b, s[i])
	}
	return b
}

func appendEscapedByte(b []byte, c byte) []byte {
	switch {
	case plainByte[c]:
		return append(b, c)
	case c == ' ':
		return append(b, '+')
	default:
		return append(b, '%', upperHex[c>>4], upperHex[c&15])
	}
}

// appendEscapedJSON appends a JSON object without the spaces between its tokens
// (PostgreSQL's jsonb prints some) and returns how many members it has.
func appendEscapedJSON(b, raw []byte) ([]byte, int) {
	depth, colons := 0, 0
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case ' ', '\t', '\n', '\r':
		case '"':
			end := rawjson.EndOfString(raw, i)
			for ; i < end; i++ {
				b = appendEscapedByte(b, raw[i])
			}
			i--
		default:
			switch c {
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			case ':':
				if depth == 1 {
					colons++
				}
			}
			b = appendEscapedByte(b, c)
		}
	}
	return b, colons
}
