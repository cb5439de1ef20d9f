package mpaas_test

import (
	"encoding/json"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
)

// Whatever an author writes, Compile says yes or what is wrong, and never panics.
func FuzzCompile(f *testing.F) {
	f.Add("mpaas.push_simple", []byte(`{"deliveryType": 3, "title": "t", "content": "c", "targetMsgkey": {"u1": "k1"}}`), 0, false)
	f.Add("mpaas.push_template", []byte(`{"deliveryType": 3, "templateName": "n", "targetMsgkey": "{\"u1\": \"k1\"}", "templateKeyValue": {"a": 1}}`), 1, true)
	f.Add("mpaas.push_multiple", []byte(`{"deliveryType": 3, "templateName": "n", "targetMsgs": [{"target": "u1", "msgKey": "k", "templateKeyValue": "{}"}]}`), 2, false)
	f.Add("mpaas.push_broadcast", []byte(`{"deliveryType": 1, "templateName": "n", "pushStatus": 1, "expiredSeconds": 600, "unknown": [null, {"a": []}]}`), 2, true)
	f.Fuzz(func(t *testing.T, channel string, body []byte, strategy int, stored bool) {
		var object map[string]json.RawMessage
		if json.Unmarshal(body, &object) != nil || object == nil {
			t.Skip("no JSON object: the table takes nothing else")
		}
		m, problems := mpaas.Adapter{}.Compile(dispatch.Request{Channel: channel, TaskName: "n", Body: body, StrategyType: strategy % 3, StoredTargets: stored})
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
