package mpaas_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
)

var update = flag.Bool("update", false, "write what Compile says into the golden file")

// TestCompile reads testdata/compile.txtar. Each case is two files: "name.json",
// a request whose first line may hold settings after "//", and "name.want", the
// problems, one on a line, or "good".
func TestCompile(t *testing.T) {
	t.Parallel()
	const file = "testdata/compile.txtar"
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(archive.Files); i += 2 {
		request, want := archive.Files[i], &archive.Files[i+1]
		name := strings.TrimSuffix(request.Name, ".json")
		if want.Name != name+".want" {
			t.Fatalf("%s is followed by %s", request.Name, want.Name)
		}
		got := compileCase(t, string(request.Data))
		if *update {
			want.Data = []byte(got)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(string(want.Data), got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// compileCase compiles a case and prints what it came to.
func compileCase(t *testing.T, text string) string {
	t.Helper()
	first, body, _ := strings.Cut(text, "\n")
	r := dispatch.Request{TaskName: "task", Body: json.RawMessage(body)}
	for word := range strings.FieldsSeq(strings.TrimPrefix(first, "//")) {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "region":
			r.Region = value
		case "loop":
			r.StrategyType = 2
		case "stored":
			r.StoredTargets = true
		case "allow":
			r.AllowAudienceSchedules = true
		case "name":
			r.TaskName = value
		default:
			r.Channel = "mpaas.push_" + key
		}
	}
	m, problems := mpaas.Adapter{}.Compile(r)
	if (m == nil) != (len(problems) > 0) {
		t.Fatalf("message %v with problems %v", m, problems)
	}
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "%s: %s\n", p.Field, p.Text)
	}
	if m != nil {
		b.WriteString("good\n")
		for _, target := range m.Inline {
			fmt.Fprintf(&b, "%s %s %s %s\n", target.Target, target.MsgKey, target.TemplateKeyValue, target.ExtendedParams)
		}
	}
	return b.String()
}

// Whatever JSON is given, Compile returns a message or problems, and a message
// can be pushed.
func TestCompileNeverPanics(t *testing.T) {
	t.Parallel()
	names := []string{
		"deliveryType", "ExpiredSeconds", "title", "content", "templateName", "templateKeyValue", "targetMsgs", "TargetMsgkey",
		"thirdChannelCategory", "transparentMessagePayload", "activityContentState", "pushStatus", "bindPeriod", "extendedParams", "x",
	}
	values := []string{
		"1", "0", "-1", "600", "1.5", `""`, `"a"`, `"{}"`, `"["`, `"[]"`, "[]", "[1]", "[{}]", "{}", `{"hms":"1"}`, `{"":""}`, "null", "true",
		`[{"target":"a","msgKey":"b"}]`, `{"a":{"b":[null,[1]]}}`, "1e400", "99999999999999999999",
	}
	pusher, err := mpaas.Adapter{}.New(settings("http://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.SliceOf(rapid.Custom(func(t *rapid.T) string {
			return fmt.Sprintf("%q:%s", rapid.SampledFrom(names).Draw(t, "name"), rapid.SampledFrom(values).Draw(t, "value"))
		})).Draw(t, "members")
		channel := rapid.SampledFrom(mpaas.Adapter{}.Channels()).Draw(t, "channel")
		m, problems := mpaas.Adapter{}.Compile(dispatch.Request{
			Channel: channel.Name, TaskName: "t", Body: json.RawMessage("{" + strings.Join(members, ",") + "}"),
		})
		if (m == nil) != (len(problems) > 0) {
			t.Fatalf("message %v with problems %v", m, problems)
		}
		if m == nil {
			return
		}
		p := &dispatch.Push{Message: m, MsgKey: "k"}
		if channel.MaxTargets > 0 {
			p.Targets = []dispatch.Target{{Target: "u", MsgKey: "k"}}
		}
		if _, err := mpaas.Prepare(pusher, p); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	r := dispatch.Request{Channel: "mpaas.push_multiple", TaskName: "task", StrategyType: 2, Body: json.RawMessage(
		`{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome", "targetMsgs": [{"target": "user-1", "templateKeyValue": {"name": "Li Lei"}}]}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, problems := (mpaas.Adapter{}).Compile(r); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}

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
