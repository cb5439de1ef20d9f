package sandbox_test

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// The program's own adapters and the sandbox were written apart, from the same
// documents. Here they meet: every channel's push is accepted, without a note
// of anything odd, and every fault is classed as what the journal says of it.
var adapterPushes = []struct {
	channel string
	request string
	targets int
}{
	{"mpaas.push_simple", `{"deliveryType":3,"expiredSeconds":600,"title":"t","content":"c","extendedParams":{"k":"v"}}`, 10},
	{"mpaas.push_template", `{"deliveryType":3,"expiredSeconds":600,"templateName":"tpl","templateKeyValue":{"name":"李四"}}`, 10},
	{"mpaas.push_multiple", `{"deliveryType":3,"expiredSeconds":600,"templateName":"tpl","thirdChannelCategory":{"hms":"9"}}`, 100},
	{"mpaas.push_broadcast", `{"deliveryType":1,"expiredSeconds":600,"templateName":"tpl","pushStatus":0,"bindPeriod":4}`, 0},
	{"alipay.label_send", goodLabel, 0},
	{"alipay.total_send", textMaterial, 0},
	{"alipay.group_send", `{"group_id":"g",` + textMaterial[1:], 0},
	{"alipay.single_send", `{"template":{"template_id":"x","context":{"first":{"value":"v"}}}}`, 1},
	{"webhook", `{"anything":1}`, 2},
}

var allAdapters = []dispatch.Adapter{mpaas.Adapter{}, alipay.Adapter{}, webhook.Adapter{}}

// pusher returns the Pusher and the Message of a push.
func pusher(t *testing.T, settings []sandbox.AppSettings, channel, request string, targets int) (dispatch.Pusher, *dispatch.Push) {
	t.Helper()
	for i, adapter := range allAdapters {
		for _, c := range adapter.Channels() {
			if c.Name != channel {
				continue
			}
			message, problems := adapter.Compile(dispatch.Request{
				Channel: channel, TaskName: "任务", Body: json.RawMessage(request), StoredTargets: targets > 0,
			})
			if len(problems) > 0 {
				t.Fatalf("%s: %v", channel, problems)
			}
			s := settings[i]
			p, err := adapter.New(dispatch.Settings{AppID: s.AppID, WorkspaceID: s.WorkspaceID, Endpoint: s.Endpoint, Options: s.Options})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if c, ok := p.(interface{ CloseIdleConnections() }); ok {
					c.CloseIdleConnections()
				}
			})
			push := &dispatch.Push{Message: message, DeliveryID: "delivery-1", MsgKey: "whole"}
			for n := range targets {
				name := string(rune('a'+n/26)) + string(rune('a'+n%26))
				push.Targets = append(push.Targets, dispatch.Target{Target: "user-" + name, MsgKey: "key-" + name})
			}
			return p, push
		}
	}
	t.Fatalf("no channel %s", channel)
	return nil, nil
}

// adapterCredentials are made once: RSA keys take their time.
var adapterCredentials = sync.OnceValue(func() *sandbox.Credentials {
	credentials, err := sandbox.DefaultApps("")
	if err != nil {
		panic(err)
	}
	return credentials
})

func withAdapters(t *testing.T, change ...func(*sandbox.Config)) (*bundle, []sandbox.AppSettings) {
	t.Helper()
	credentials := adapterCredentials()
	sb := setup(t, append(change, func(c *sandbox.Config) { c.Apps = credentials.Apps })...)
	return sb, credentials.For(sb.URL())
}

func TestAdaptersPush(t *testing.T) {
	t.Parallel()
	sb, settings := withAdapters(t)
	for _, tt := range adapterPushes {
		t.Run(tt.channel, func(t *testing.T) {
			p, push := pusher(t, settings, tt.channel, tt.request, tt.targets)
			outcome := p.Push(t.Context(), push)
			call := sb.last(t)
			if outcome.Class != dispatch.Accepted || call.Outcome != sandbox.Accepted || call.Signature != "ok" || len(call.Notes) > 0 {
				t.Fatalf("outcome %+v\njournal %+v", outcome, call)
			}
			if call.API != tt.channel || call.TargetCount != tt.targets || (call.MessageID != "" && outcome.MessageID != call.MessageID) {
				t.Errorf("outcome %+v\njournal %+v", outcome, call)
			}
			if mapped := tt.channel != "alipay.single_send" && tt.targets > 0; mapped && !cmp.Equal(call.MsgKeys, keysOf(push)) {
				t.Errorf("msgKeys %q, want %q", call.MsgKeys, keysOf(push))
			}
			if tt.channel == "mpaas.push_broadcast" && !cmp.Equal(call.MsgKeys, []string{"whole"}) {
				t.Errorf("msgKeys %q", call.MsgKeys)
			}
		})
	}
}

func keysOf(p *dispatch.Push) (keys []string) {
	for _, target := range p.Targets {
		keys = append(keys, target.MsgKey)
	}
	return keys
}

func TestAdaptersUnderFaults(t *testing.T) {
	t.Parallel()
	classes := map[string]dispatch.Class{
		"throttle=1": dispatch.NotSent, "refuse=1": dispatch.Permanent, "error=1": dispatch.Unknown, "html=1": dispatch.Unknown,
		"status=503:1": dispatch.Unknown, "cut_before=1": dispatch.Unknown, "cut_after=1": dispatch.Unknown, "delay=1ms": dispatch.Accepted,
	}
	for fault, want := range classes {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			sb, settings := withAdapters(t, faults(fault))
			for _, tt := range adapterPushes {
				p, push := pusher(t, settings, tt.channel, tt.request, tt.targets)
				before := sb.Stats().Calls
				outcome := p.Push(t.Context(), push)
				if outcome.Class != want {
					t.Errorf("%s: %+v, want class %s", tt.channel, outcome, want)
				}
				if calls := sb.Stats().Calls - before; calls != 1 {
					t.Errorf("%s: %d calls, want 1: an adapter never retries", tt.channel, calls)
				}
			}
		})
	}
}

// A clock that is off is a refusal, not a push.
func TestAdaptersWithAWrongClock(t *testing.T) {
	t.Parallel()
	sb, settings := withAdapters(t, func(c *sandbox.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Hour) }
	})
	for _, tt := range adapterPushes {
		p, push := pusher(t, settings, tt.channel, tt.request, tt.targets)
		if outcome := p.Push(t.Context(), push); outcome.Class != dispatch.Permanent || outcome.Reason != dispatch.ReasonAuth {
			t.Errorf("%s: %+v", tt.channel, outcome)
		}
	}
	if s := sb.Stats(); s.Accepted != 0 || s.BadSign != uint64(len(adapterPushes)) {
		t.Errorf("%+v", s)
	}
}

// Each adapter whose provider can take a push back does so, signed and without a
// note of anything odd; Alipay's says by its type that it cannot.
func TestAdaptersRevoke(t *testing.T) {
	t.Parallel()
	sb, settings := withAdapters(t)
	for _, tt := range []struct {
		channel, request string
		targets          int
		target, want     string // the API that is called; empty: there is none
	}{
		{"mpaas.push_multiple", adapterPushes[2].request, 2, "", "mpaas.revoke_push_task"},
		{"mpaas.push_multiple", adapterPushes[2].request, 2, "user-1", "mpaas.revoke_push_message"},
		{"webhook", `{}`, 2, "user-1", "webhook.revoke"},
		{"alipay.group_send", `{"group_id":"g",` + textMaterial[1:], 0, "", ""},
	} {
		p, _ := pusher(t, settings, tt.channel, tt.request, tt.targets)
		r, ok := p.(dispatch.Revoker)
		if ok != (tt.want != "") {
			t.Errorf("%s: a Revoker: %v", tt.channel, ok)
		}
		if !ok {
			continue
		}
		o := r.Revoke(t.Context(), &dispatch.Revocation{DeliveryID: "t1-1", MessageID: "an id/+", Target: tt.target})
		call := sb.last(t)
		if o.Class != dispatch.Accepted || call.API != tt.want || call.Signature != "ok" || len(call.Notes) > 0 {
			t.Errorf("%s: %v %+v, journal %+v", tt.channel, o.Class, o, call)
		}
	}
	p, _ := pusher(t, settings, "mpaas.push_multiple", adapterPushes[2].request, 2)
	if o := p.(dispatch.Revoker).Revoke(t.Context(), &dispatch.Revocation{DeliveryID: "t1-1"}); o.Class != dispatch.Permanent || o.Message == "" {
		t.Errorf("without an id of the message: %v %+v", o.Class, o)
	}
}
