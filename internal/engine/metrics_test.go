package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// TestLatenessHasACause lets tasks wait for each thing that may hold one up.
func TestLatenessHasACause(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "slow", "webhook", &engine.App{CallsPerSecond: 0.8})
	r.app(t, "quota", "alipay", nil)
	cfg := r.config(t)
	cfg.Metrics = engine.NewMetrics(nil)
	start(t, cfg)
	// Two calls of an app that may make less than one a second.
	due := time.Now().Add(3 * time.Second).Truncate(time.Second).Add(time.Second)
	var ids []int64
	for range 3 {
		ids = append(ids, r.insert(t, "slow", "webhook", 1, fixed(due)))
	}
	for _, c := range ids {
		r.decided(t, c, 1)
	}
	label := r.insert(t, "quota", "alipay.label_send", 1, fixed(due)) // it is past by now
	r.decided(t, label, 1)
	var got map[string]uint64
	until(t, "all four to be told of, which they are once they are recorded", func() bool {
		got = causesOf(t, cfg.Metrics)
		return got["webhook throttle"]+got["webhook scheduler"] == 3 && got["alipay.label_send author"]+got["alipay.label_send scheduler"] == 1
	})
	if got["webhook throttle"] == 0 || got["webhook scheduler"] == 0 || got["webhook throttle"]+got["webhook scheduler"] != 3 || got["alipay.label_send author"] != 1 {
		t.Errorf("lateness by channel and cause: %v", got)
	}
}

func causesOf(t *testing.T, m *engine.Metrics) map[string]uint64 {
	t.Helper()
	out := make(map[string]uint64)
	for name, n := range figures(t, m.Lateness) {
		cause, channel, _ := strings.Cut(strings.TrimPrefix(name, "scheduler_lateness_seconds "), " ")
		out[channel+" "+cause] = uint64(n)
	}
	return out
}

// figures gathers a collector: name and labels, in their order, to the value or,
// of a histogram, the count. Empty labels are left out.
func figures(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetValue() != "" {
					name += " " + l.GetValue()
				}
			}
			out[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

// TestReasonLabels holds the label of decisions to a closed list.
func TestReasonLabels(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		"":            "none",
		"quota":       "quota",
		"quiet hours": "quiet_hours",
		"misfire policy latest: a later occurrence was due":             "misfire_policy",
		"older than the catch-up window of 1h0m0s":                      "catch_up_window",
		"not sent within the catch-up window: throttled: 1":             "catch_up_window",
		"no daemon has credentials for the app":                         "credentials",
		"the daemon was lost while the call was under way":              "daemon_lost",
		"server error: 503":                                             "server_error",
		"refused: E1: no such template":                                 "refused",
		"3 of 4 deliveries accepted, 1 failed; first: refused: E1: bad": "other",
	} {
		if got := engine.ReasonLabel(reason); got != want {
			t.Errorf("%q is %q, want %q", reason, got, want)
		}
	}
	for _, r := range dispatch.Reasons() {
		if got := engine.ReasonLabel(strings.ReplaceAll(string(r), "_", " ") + ": x"); got != string(r) {
			t.Errorf("%q is %q", r, got)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	no := r.app(t, "shop", "webhook", nil)
	send := r.app(t, "send", "alipay", nil)
	for range 3 {
		r.insert(t, "shop", "webhook", 1, fixed(time.Now().Add(time.Hour)))
	}
	plan(t, r.planner(t), no, time.Time{})
	r.run(t, `INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota) VALUES ($1, 'alipay.total_send', now(), 5)`, send)
	want := map[string]float64{
		"scheduler_open_claims": 0, "scheduler_overdue_seconds": 0, "scheduler_unknown_tasks": 0,
		"scheduler_pending_limit send": 100, "scheduler_pending_limit shop": 100,
		"scheduler_pending_tasks send": 0, "scheduler_pending_tasks shop": 3,
	}
	for _, channel := range []string{"group", "label", "total"} {
		want["scheduler_quota_limit send alipay."+channel+"_send"] = 5
		want["scheduler_quota_used send alipay."+channel+"_send"] = 0
	}
	want["scheduler_quota_used send alipay.total_send"] = 1
	u := engine.NewUsage(r.store, r.log)
	if d := cmp.Diff(want, figures(t, u)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	r.run(t, `DELETE FROM scheduler.quota_uses`)
	if d := cmp.Diff(want, figures(t, u)); d != "" {
		t.Errorf("the database was asked again at once (-want +got):\n%s", d)
	}
}

// TestUsageWithoutDatabase shows nothing rather than something old.
func TestUsageWithoutDatabase(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Config{URL: "postgres://nobody@127.0.0.1:1/none"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := figures(t, engine.NewUsage(s, newRig(t).log)); len(got) > 0 {
		t.Errorf("figures without a database: %v", got)
	}
}
