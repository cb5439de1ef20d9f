package webhook_test

import (
	"encoding/json"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
)

// Whatever an author writes, Compile says yes or what is wrong, and never panics.
func FuzzCompile(f *testing.F) {
	f.Add("webhook", []byte(`{"targets": ["u1", {"target": "u2", "msg_key": "k", "template_key_value": {}, "extended_params": null}], "body": {"a": [1, "x"]}}`), 0, false)
	f.Add("webhook", []byte(`{}`), 2, true)
	f.Add("webhook", []byte(`{"targets": {"a": 1}}`), 1, true)
	f.Fuzz(func(t *testing.T, channel string, body []byte, strategy int, stored bool) {
		var object map[string]json.RawMessage
		if json.Unmarshal(body, &object) != nil || object == nil {
			t.Skip("no JSON object: the table takes nothing else")
		}
		m, problems := webhook.Adapter{}.Compile(dispatch.Request{Channel: channel, TaskName: "n", Body: body, StrategyType: strategy % 3, StoredTargets: stored})
		if (m == nil) == (len(problems) == 0) {
			t.Fatalf("message %v, problems %v", m, problems)
		}
		for _, p := range problems {
			if p.Text == "" { // a key may be empty, and then so is the field
				t.Errorf("a problem without a text: %+v", p)
			}
		}
	})
}
