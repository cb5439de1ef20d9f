package dispatch

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

// Bounds of one target, in bytes. The table scheduler.campaign_targets has the same
// bounds. They hold for the rows of an audience view too.
const (
	MaxTarget       = 1024
	MaxMsgKey       = 256  // of a key that an author chose
	MaxTargetValues = 4096 // of each of the two objects
)

// maxSentKey is the longest key that is sent: an author's own, and what tells its
// campaign and occurrence apart.
const maxSentKey = MaxMsgKey + 64

// A Report is called with each fault of a field.
type Report func(field, format string, args ...any)

// Names of a target's fields, as campaign_targets and audience views have them.
const (
	FieldTarget           = "target"
	FieldMsgKey           = "msg_key"
	FieldTemplateKeyValue = "template_key_value"
	FieldExtendedParams   = "extended_params"
)

// Judge reports the faults of a target by the rules that hold for every channel.
// Adapters add their own rules.
func (t *Target) Judge(report Report) {
	switch {
	case strings.TrimSpace(t.Target) == "":
		report(FieldTarget, "is empty")
	case len(t.Target) > MaxTarget:
		report(FieldTarget, "has %d bytes, and at most %d are allowed", len(t.Target), MaxTarget)
	}
	if len(t.MsgKey) > maxSentKey {
		report(FieldMsgKey, "has more than %d bytes", MaxMsgKey)
	}
	for _, f := range []struct {
		name string
		raw  json.RawMessage
	}{{FieldTemplateKeyValue, t.TemplateKeyValue}, {FieldExtendedParams, t.ExtendedParams}} {
		switch {
		case IsEmptyObject(f.raw):
		case len(f.raw) > MaxTargetValues:
			report(f.name, "has %d bytes, and at most %d are allowed", len(f.raw), MaxTargetValues)
		case rawjson.KindOf(f.raw) != rawjson.Object || !json.Valid(f.raw):
			report(f.name, "must be a JSON object")
		}
	}
}

// IsEmptyObject reports whether an object of a target is empty: nil, null or {}.
func IsEmptyObject(raw json.RawMessage) bool {
	switch text := string(bytes.TrimSpace(raw[:min(len(raw), 8)])); text {
	case "", "null", "{}":
		return len(raw) <= 8
	}
	return false
}

// TargetJudge makes the Judge function of a Message from rules. The function returns
// the faults of a target as one text, or "" if there are none.
func TargetJudge(rules func(t *Target, report Report)) func(*Target) string {
	return func(t *Target) string {
		var p Problems
		rules(t, p.Add)
		if p.Len() == 0 {
			return ""
		}
		var texts []string
		for _, problem := range p.List()[:min(p.Len(), 3)] {
			texts = append(texts, problem.Field+" "+problem.Text)
		}
		return Clip(strings.Join(texts, "; "), maxText)
	}
}
