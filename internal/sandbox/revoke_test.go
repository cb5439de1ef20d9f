package sandbox_test

import (
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

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
