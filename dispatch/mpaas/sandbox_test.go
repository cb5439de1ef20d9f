package mpaas_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// The sandbox verifies signatures and limits with code that it does not share
// with the adapter, and notes every parameter that it does not know.
func TestAgainstTheSandbox(t *testing.T) {
	t.Parallel()
	set := settings("")
	box := startSandbox(t, sandbox.Apps{MPaaS: []sandbox.MPaaSApp{{
		AppID: set.AppID, WorkspaceID: set.WorkspaceID, AccessKeyID: set.Options["access_key_id"],
		AccessKeySecret: secret, SecurityToken: set.Options["security_token"],
	}}})
	set.Endpoint = box.URL()
	p, err := mpaas.Adapter{}.New(set)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.(interface{ CloseIdleConnections() }).CloseIdleConnections)
	for channel, body := range samples {
		m, problems := mpaas.Adapter{}.Compile(dispatch.Request{Channel: channel, TaskName: "任务 1", Body: json.RawMessage(body)})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		call := &dispatch.Push{Message: m, DeliveryID: "d", MsgKey: channel}
		for i := range m.Channel.MaxTargets {
			target := hundred()[i]
			if channel != "mpaas.push_multiple" {
				target.TemplateKeyValue = nil
			}
			target.MsgKey = channel + target.MsgKey
			call.Targets = append(call.Targets, target)
		}
		if o := p.Push(t.Context(), call); o.Class != dispatch.Accepted || o.MessageID == "" || o.RequestID == "" {
			t.Errorf("%s: got %v %+v", channel, o.Class, o)
		}
	}
	calls, err := box.Calls(0)
	if err != nil || len(calls) != len(samples) {
		t.Fatalf("%d calls in the journal, %v", len(calls), err)
	}
	for _, c := range calls {
		if len(c.Notes) > 0 {
			t.Errorf("%s: the sandbox notes %q", c.API, c.Notes)
		}
	}
	for fault, class := range map[sandbox.FaultKind]dispatch.Class{
		sandbox.Throttle: dispatch.NotSent, sandbox.Refuse: dispatch.Permanent, sandbox.SystemError: dispatch.Unknown,
		sandbox.HTML: dispatch.Unknown, sandbox.CutBefore: dispatch.Unknown, sandbox.CutAfter: dispatch.Unknown,
	} {
		if err := box.SetFaults(&sandbox.Fault{Kind: fault, Probability: 1}); err != nil {
			t.Fatal(err)
		}
		m, _ := mpaas.Adapter{}.Compile(dispatch.Request{
			Channel: "mpaas.push_broadcast", TaskName: "t", Body: json.RawMessage(samples["mpaas.push_broadcast"]),
		})
		o := p.Push(t.Context(), &dispatch.Push{Message: m, DeliveryID: "d", MsgKey: "again"})
		if o.Class != class || fault == sandbox.Throttle && o.RetryAfter == 0 {
			t.Errorf("%v: got %v %+v, want %v", fault, o.Class, o, class)
		}
	}
}

func startSandbox(t *testing.T, apps sandbox.Apps) *sandbox.Sandbox {
	t.Helper()
	box, err := sandbox.New(sandbox.Config{Apps: apps})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return box
}
