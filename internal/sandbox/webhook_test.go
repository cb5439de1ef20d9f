package sandbox_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

func TestWebhook(t *testing.T) {
	t.Parallel()
	const body = `{"task_name":"n","targets":[{"target":"u1","msg_key":"k1"},{"target":"u2","msg_key":"k2"}]}`
	tests := []struct {
		name   string
		change func(*http.Request)
		want   int
	}{
		{"good", func(*http.Request) {}, 200},
		{"no signature", func(r *http.Request) { r.Header.Del("X-Scheduler-Signature") }, 401},
		{"another timestamp", func(r *http.Request) { r.Header.Set("X-Scheduler-Timestamp", "1") }, 401},
		{"no timestamp", func(r *http.Request) { r.Header.Del("X-Scheduler-Timestamp") }, 401},
		{"another app", func(r *http.Request) { r.URL.Path = "/webhook/other" }, 401},
		{"no key", func(r *http.Request) { r.Header.Del("Idempotency-Key") }, 401},
	}
	sb := setup(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := sb.hook(t, body)
			tt.change(req)
			if r := sb.must(t, req); r.status != tt.want {
				t.Errorf("HTTP %d %s, want %d", r.status, r.body, tt.want)
			}
			call := sb.last(t)
			if (call.Outcome == sandbox.Accepted) != (tt.want == 200) || (call.Signature == "ok") != (tt.want == 200) {
				t.Errorf("journal: %+v", call)
			}
			if tt.want == 200 && (call.DeliveryID != "delivery-7" || call.AppID != "hook" || call.TaskName != "n" ||
				!cmp.Equal(call.MsgKeys, []string{"k1", "k2"}) || !cmp.Equal(call.Targets, []string{"u1", "u2"})) {
				t.Errorf("journal: %+v", call)
			}
		})
	}
	if r := sb.must(t, sb.hook(t, `[`)); r.status != 400 {
		t.Errorf("not JSON: HTTP %d", r.status)
	}
	sb.must(t, sb.hook(t, `{"msg_key":"whole"}`))
	if call := sb.last(t); !cmp.Equal(call.MsgKeys, []string{"whole"}) {
		t.Errorf("without targets: %+v", call)
	}
}
