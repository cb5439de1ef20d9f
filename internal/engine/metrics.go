package engine

import (
	"cmp"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
)

// Metrics are the engine's figures. Labels take their values from closed lists.
type Metrics struct {
	Lateness      *prometheus.HistogramVec // due -> first call begins, by channel and cause
	Decisions     *prometheus.CounterVec   // by channel, status and reason
	Attempts      *prometheus.CounterVec   // by channel, class and reason
	PushSeconds   *prometheus.HistogramVec // by channel
	ClaimSeconds  prometheus.Histogram
	PlanSeconds   prometheus.Histogram
	InFlight      prometheus.Gauge
	ClockOffset   prometheus.Gauge
	ClockJumps    prometheus.Counter
	Daemons       prometheus.Gauge
	Held          prometheus.Gauge
	DatabaseUp    prometheus.Gauge
	Fenced        prometheus.Counter
	Refused       prometheus.Counter     // second decisions
	Panics        *prometheus.CounterVec // of adapters, by channel
	Reaped        *prometheus.CounterVec // by ruling: unknown, resend
	Throttled     *prometheus.CounterVec // by channel
	Pruned        prometheus.Counter
	LeasesExpired prometheus.Counter
	Blocking      prometheus.Gauge

	usual sync.Map // channel -> *usual
}

// NewMetrics makes the figures and registers them; a nil Registerer keeps them
// to themselves.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	latency := []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 600, 3600}
	m := &Metrics{
		Lateness: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scheduler_lateness_seconds", Help: "Time from a task's due time to the begin of its first call, by what it waited for.", Buckets: latency,
		}, []string{"channel", "cause"}),
		Decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_decisions_total", Help: "Tasks decided, by why.",
		}, []string{"channel", "status", "reason"}),
		Attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_attempts_total", Help: "Calls to push APIs, by what they came to.",
		}, []string{"channel", "class", "reason"}),
		PushSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scheduler_push_seconds", Help: "Time of one call to a push API.", Buckets: latency,
		}, []string{"channel"}),
		ClaimSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "scheduler_claim_seconds", Help: "Time to make the intent of one batch durable.", Buckets: latency,
		}),
		PlanSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "scheduler_plan_seconds", Help: "Time to plan one app.", Buckets: latency,
		}),
		InFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "scheduler_calls_in_flight", Help: "Calls under way in this daemon."}),
		ClockOffset: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scheduler_clock_offset_seconds", Help: "How far this machine's clock is ahead of the database's.",
		}),
		Daemons: prometheus.NewGauge(prometheus.GaugeOpts{Name: "scheduler_daemons", Help: "Daemons with a lease on this database."}),
		Held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scheduler_held", Help: "1 while the restore guard holds everything until scheduler release.",
		}),
		DatabaseUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scheduler_database_up", Help: "1 while the database answers this daemon's heartbeats and takes writes.",
		}),
		ClockJumps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scheduler_clock_jumps_total", Help: "Jumps of the database's clock by half a second or more.",
		}),
		LeasesExpired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scheduler_leases_expired_total", Help: "Daemons that this one found dead: their lease had run out.",
		}),
		Fenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scheduler_fenced_outcomes_total", Help: "Outcomes that came after another daemon had ruled on the call.",
		}),
		Refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scheduler_refused_decisions_total", Help: "Second decisions on an occurrence, which were refused: a fault of this program.",
		}),
		Panics: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_adapter_panics_total", Help: "Calls in which an adapter panicked: a fault of this program.",
		}, []string{"channel"}),
		Reaped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_reaped_calls_total", Help: "Calls left by dead daemons, by ruling.",
		}, []string{"ruling"}),
		Throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_throttled_total", Help: "Calls a provider answered with a throttling code.",
		}, []string{"channel"}),
		Blocking: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scheduler_blocking_sessions", Help: "Sessions of others for whose locks the engine's have waited for more than a second.",
		}),
		Pruned: prometheus.NewCounter(prometheus.CounterOpts{Name: "scheduler_pruned_tasks_total", Help: "Decided tasks removed after their retention."}),
	}
	if reg != nil {
		reg.MustRegister(m.Lateness, m.Decisions, m.Attempts, m.PushSeconds, m.ClaimSeconds, m.PlanSeconds, m.InFlight,
			m.ClockOffset, m.ClockJumps, m.Daemons, m.Held, m.DatabaseUp, m.Fenced, m.Refused, m.Panics, m.Reaped, m.Throttled, m.Pruned, m.LeasesExpired, m.Blocking)
	}
	return m
}

// decided counts a decision and how late its first call was.
func (m *Metrics) decided(d *store.Decision, cause string) {
	u := m.usually(d.Channel)
	if d.Status == "succeeded" && d.Reason == "" {
		u.succeeded.Inc()
	} else {
		m.Decisions.WithLabelValues(d.Channel, d.Status, reasonLabel(d.Reason)).Inc()
	}
	lateness := d.SentAt.Sub(d.DueAt)
	switch {
	case d.SentAt.IsZero():
	case cmp.Or(cause, causeScheduler) == causeScheduler:
		u.lateness.Observe(lateness.Seconds())
	default:
		m.Lateness.WithLabelValues(d.Channel, cause).Observe(lateness.Seconds())
	}
}

// called counts an attempt and how long it took.
func (m *Metrics) called(channel string, o dispatch.Outcome, took time.Duration) {
	u := m.usually(channel)
	u.took.Observe(took.Seconds())
	if o.Class == dispatch.Accepted {
		u.accepted.Inc()
		return
	}
	m.Attempts.WithLabelValues(channel, o.Class.String(), string(o.Reason)).Inc()
	if o.Reason == dispatch.ReasonThrottled {
		m.Throttled.WithLabelValues(channel).Inc()
	}
}

// usual are the figures of pushes that go well, on one channel. To find them by
// their labels each time would cost more than all else that is kept of a push.
type usual struct {
	took, lateness      prometheus.Observer
	accepted, succeeded prometheus.Counter
}

func (m *Metrics) usually(channel string) *usual {
	if u, ok := m.usual.Load(channel); ok {
		return u.(*usual)
	}
	u, _ := m.usual.LoadOrStore(channel, &usual{
		took:      m.PushSeconds.WithLabelValues(channel),
		lateness:  m.Lateness.WithLabelValues(channel, causeScheduler),
		accepted:  m.Attempts.WithLabelValues(channel, dispatch.Accepted.String(), string(dispatch.ReasonNone)),
		succeeded: m.Decisions.WithLabelValues(channel, "succeeded", reasonLabel("")),
	})
	return u.(*usual)
}

// reasonLabel turns a decision's reason, which is text for people, into one of
// a closed list.
func reasonLabel(reason string) string {
	if reason == "" {
		return "none"
	}
	for _, c := range []struct{ prefix, label string }{
		{"quota", "quota"},
		{"misfire policy", "misfire_policy"},
		{"no daemon has credentials", "credentials"},
		{"older than the catch-up window", "catch_up_window"},
		{"catch-up window closed", "catch_up_window"},
		{"not sent within the catch-up window", "catch_up_window"},
		{"its turn came after", "catch_up_window"},
		{"empty audience", "empty_audience"},
		{"audience view", "audience_view"},
		{lostReason, "daemon_lost"},
		{"campaign", "campaign_changed"},
		{"replaced by", "campaign_changed"},
	} {
		if strings.HasPrefix(reason, c.prefix) {
			return c.label
		}
	}
	if reason[0] >= '0' && reason[0] <= '9' && strings.Contains(reason, " targets left out: ") {
		return "targets_left_out"
	}
	for _, r := range dispatch.Reasons() {
		if strings.HasPrefix(reason, strings.ReplaceAll(string(r), "_", " ")) {
			return string(r)
		}
	}
	return "other"
}

const lostReason = "the daemon was lost"
