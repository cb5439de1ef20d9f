package alipay_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestCompile(t *testing.T) {
	t.Parallel()
	const golden = "testdata/compile.txtar"
	archive, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range archive.Files {
		request, want, _ := strings.Cut(string(f.Data), "\n")
		channel, _, _ := strings.Cut(f.Name, ":")
		channel, stored := strings.CutSuffix(channel, " stored")
		got := verdict(t, dispatch.Request{
			Channel: "alipay." + channel, Body: json.RawMessage(request), StoredTargets: stored,
		})
		if diff := cmp.Diff(want, got); diff != "" && !*update {
			t.Errorf("%s: %s", f.Name, diff)
		}
		archive.Files[i].Data = []byte(request + "\n" + got)
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// verdict lists a request's problems, or the body it is sent as.
func verdict(t *testing.T, r dispatch.Request) string {
	t.Helper()
	m, problems := alipay.Adapter{}.Compile(r)
	var lines strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&lines, "%s %s\n", p.Field, p.Text)
	}
	if len(problems) > 0 {
		return lines.String()
	}
	targets := m.Inline
	if r.StoredTargets || m.Channel.MaxTargets > 0 && len(targets) == 0 {
		targets = []dispatch.Target{{Target: "T"}}
	}
	body, _ := sent(t, &dispatch.Push{Message: m, DeliveryID: "d-1", Targets: targets})
	return "sends " + body + "\n"
}

// sent returns the body of the call that a push makes, and the outcome.
func sent(t *testing.T, p *dispatch.Push) (string, dispatch.Outcome) {
	t.Helper()
	wire := &recorder{}
	s := keyMode(t)
	s.Transport = wire
	o := newPusher(t, s).Push(context.Background(), p)
	return wire.body, o
}

func TestSingleSendToTargets(t *testing.T) {
	t.Parallel()
	m := compile(t, dispatch.Request{
		Channel: "alipay.single_send", StoredTargets: true,
		Body: json.RawMessage(`{"template":{"template_id":"T1","context":{"first":{"value":"v"},"url":"u"}},"target_field":"to_open_id"}`),
	})
	tests := []struct {
		name   string
		target dispatch.Target
		want   string
		reason dispatch.Reason
	}{
		{
			"as the request says",
			dispatch.Target{Target: `o"1`},
			`{"to_open_id":"o\"1","template":{"template_id":"T1","context":{"first":{"value":"v"},"url":"u"}}}`, dispatch.ReasonBadAnswer,
		},
		{
			"with words of the target's own",
			dispatch.Target{Target: "o1", TemplateKeyValue: json.RawMessage(`{"first": {"value": "名"}, "remark": "r"}`)},
			`{"to_open_id":"o1","template":{"template_id":"T1","context":{"first":{"value":"名"},"url":"u","remark":"r"}}}`, dispatch.ReasonBadAnswer,
		},
		{"with unknown words", dispatch.Target{Target: "o1", TemplateKeyValue: json.RawMessage(`{"frist":"x"}`)}, "", dispatch.ReasonInvalid},
		{"with broken words", dispatch.Target{Target: "o1", TemplateKeyValue: json.RawMessage(`{`)}, "", dispatch.ReasonInvalid},
		{"with extended params", dispatch.Target{Target: "o1", ExtendedParams: json.RawMessage(`{"a":1}`)}, "", dispatch.ReasonInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body, o := sent(t, &dispatch.Push{Message: m, DeliveryID: "d-1", Targets: []dispatch.Target{tt.target}})
			if diff := cmp.Diff(tt.want, body); diff != "" || o.Reason != tt.reason {
				t.Errorf("%s%v %+v", diff, o.Class, o)
			}
		})
	}
}
