package dispatch_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/dispatchtest"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
)

// message compiles a request of a channel that is good and names no target.
func message(t *testing.T, channel string) *dispatch.Message {
	t.Helper()
	bodies := map[string]string{
		"mpaas.push_simple":   `{"deliveryType":3,"expiredSeconds":600,"title":"a","content":"b"}`,
		"mpaas.push_template": `{"deliveryType":3,"expiredSeconds":600,"templateName":"w"}`,
		"mpaas.push_multiple": `{"deliveryType":3,"expiredSeconds":600,"templateName":"w"}`,
		"alipay.single_send":  `{"template":{"template_id":"T1","context":{}}}`,
		"webhook":             `{}`,
	}
	m, problems := adapterOf(channel).Compile(dispatch.Request{Channel: channel, TaskName: "t", Body: json.RawMessage(bodies[channel]), StoredTargets: true})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return m
}

func adapterOf(channel string) dispatch.Adapter {
	switch provider, _, _ := strings.Cut(channel, "."); provider {
	case "mpaas":
		return mpaas.Adapter{}
	case "alipay":
		return alipay.Adapter{}
	default:
		return webhook.Adapter{}
	}
}

// A target is judged by its message, whatever table or view it comes from.
func TestTargetsAreJudged(t *testing.T) {
	t.Parallel()
	for _, c := range dispatchtest.TargetCases() {
		t.Run(c.Channel+"/"+c.Name, func(t *testing.T) {
			t.Parallel()
			got := message(t, c.Channel).Judge(c.Of())
			if (got == "") != (c.Bad == "") || !strings.Contains(got, c.Bad) {
				t.Errorf("got %q, want %q", got, c.Bad)
			}
		})
	}
	m := message(t, "mpaas.push_multiple")
	for name, target := range map[string]*dispatch.Target{ // what only a view can hold
		"too long":         {Target: strings.Repeat("u", dispatch.MaxTarget+1)},
		"a long key":       {Target: "u", MsgKey: strings.Repeat("k", dispatch.MaxMsgKey+65)},
		"a text":           {Target: "u", TemplateKeyValue: json.RawMessage(`"{\"a\": 1}"`)},
		"a number":         {Target: "u", ExtendedParams: json.RawMessage(`1`)},
		"a list":           {Target: "u", TemplateKeyValue: json.RawMessage(`[]`)},
		"no JSON":          {Target: "u", TemplateKeyValue: json.RawMessage(`{`)},
		"too much of it":   {Target: "u", TemplateKeyValue: json.RawMessage(`{"a": "` + strings.Repeat("b", dispatch.MaxTargetValues) + `"}`)},
		"nothing, no name": {},
	} {
		if m.Judge(target) == "" {
			t.Errorf("%s: nothing is wrong", name)
		}
	}
}

// A request's own targets are judged by the rules that rows are judged by.
func TestInlineTargetsAreJudgedAlike(t *testing.T) {
	t.Parallel()
	for _, c := range dispatchtest.TargetCases() {
		if c.Channel != "mpaas.push_multiple" {
			continue // the others' requests have no place for a target's values
		}
		entry := map[string]any{"target": c.Target}
		if c.TemplateKeyValue != "" {
			entry["templateKeyValue"] = json.RawMessage(c.TemplateKeyValue)
		}
		if c.ExtendedParams != "" {
			entry["extendedParams"] = json.RawMessage(c.ExtendedParams)
		}
		list, _ := json.Marshal([]any{entry})
		body := fmt.Sprintf(`{"deliveryType":3,"expiredSeconds":600,"templateName":"w","targetMsgs":%s}`, list)
		_, problems := mpaas.Adapter{}.Compile(dispatch.Request{Channel: c.Channel, TaskName: "t", Body: json.RawMessage(body)})
		if (len(problems) == 0) != (c.Bad == "") {
			t.Errorf("%s: got %v, want %q", c.Name, problems, c.Bad)
		}
	}
}
