package engine

import (
	"cmp"
	"context"
	"log/slog"
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
	Reaped        *prometheus.CounterVec // by ruling: unknown, resend
	Throttled     *prometheus.CounterVec // by channel
	Pruned        prometheus.Counter
	LeasesExpired prometheus.Counter
	Blocking      prometheus.Gauge
	Unplanned     prometheus.Gauge
	SetAside      prometheus.Counter
	Faults        *prometheus.CounterVec // by where

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
			Name: "scheduler_held", Help: "1 while everything is held until scheduler release, by the restore guard or by somebody.",
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
		Reaped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_reaped_calls_total", Help: "Calls left by dead daemons, by ruling.",
		}, []string{"ruling"}),
		Throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_throttled_total", Help: "Calls a provider answered with a throttling code.",
		}, []string{"channel"}),
		Blocking: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scheduler_blocking_sessions", Help: "Sessions of others for whose locks the engine's have waited for more than a second.",
		}),
		Unplanned: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scheduler_unplanned_apps", Help: "Apps with changed campaigns that could not be planned for some seconds.",
		}),
		SetAside: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scheduler_set_aside_total", Help: "Campaigns rejected because this program could not read or plan them.",
		}),
		Faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_faults_total", Help: "Panics that were caught, by where: each is a fault of this program.",
		}, []string{"where"}),
		Pruned: prometheus.NewCounter(prometheus.CounterOpts{Name: "scheduler_pruned_tasks_total", Help: "Decided tasks removed after their retention."}),
	}
	if reg != nil {
		reg.MustRegister(m.Lateness, m.Decisions, m.Attempts, m.PushSeconds, m.ClaimSeconds, m.PlanSeconds, m.InFlight,
			m.ClockOffset, m.ClockJumps, m.Daemons, m.Held, m.DatabaseUp, m.Fenced, m.Refused, m.Reaped, m.Throttled, m.Pruned, m.LeasesExpired, m.Blocking,
			m.Unplanned, m.SetAside, m.Faults)
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

// usual holds one channel's figures of pushes that go well. A look-up by labels
// for each push would cost more than everything else that is counted.
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
		{store.QuietReason, "quiet_hours"},
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

// Bounds of what the usage costs: how often the database is asked, and for how
// many apps. The fullest apps come first, so that labels stay few.
const (
	usageAge     = 15 * time.Second
	usageTimeout = 3 * time.Second
	usageApps    = 500
)

// A Usage is a prometheus.Collector of figures that are read from the database
// and are the same for all daemons. So alerts take their max, not their sum.
type Usage struct {
	store *store.Store
	log   *slog.Logger

	mu    sync.Mutex
	last  store.Usage
	asked time.Time // zero: never
	known bool

	pending, limit, quotaUsed, quota, unknown, overdue, claims *prometheus.Desc
}

// NewUsage makes a Usage.
func NewUsage(s *store.Store, log *slog.Logger) *Usage {
	app, channel := []string{"app_id", "workspace_id"}, []string{"app_id", "workspace_id", "channel"}
	return &Usage{
		store: s, log: log,
		pending:   prometheus.NewDesc("scheduler_pending_tasks", "Scheduled tasks of an app that are pending.", app, nil),
		limit:     prometheus.NewDesc("scheduler_pending_limit", "How many may be.", app, nil),
		quotaUsed: prometheus.NewDesc("scheduler_quota_used", "Calls of the last 7 x 24 h that count against a quota.", channel, nil),
		quota:     prometheus.NewDesc("scheduler_quota_limit", "How many may.", channel, nil),
		unknown:   prometheus.NewDesc("scheduler_unknown_tasks", "Tasks of unknown outcome that wait for a ruling.", nil, nil),
		overdue:   prometheus.NewDesc("scheduler_overdue_seconds", "For how long the pending task that is most overdue has been ready.", nil, nil),
		claims:    prometheus.NewDesc("scheduler_open_claims", "Claims of all daemons whose outcomes are not recorded yet.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (u *Usage) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{u.pending, u.limit, u.quotaUsed, u.quota, u.unknown, u.overdue, u.claims} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. While the database does not answer,
// the figures are left out, since old ones would mislead.
func (u *Usage) Collect(ch chan<- prometheus.Metric) {
	now, ok := u.read()
	if !ok {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, a := range now.Apps {
		gauge(u.pending, float64(a.Pending), a.AppID, a.WorkspaceID)
		gauge(u.limit, float64(a.Limit), a.AppID, a.WorkspaceID)
	}
	for _, q := range now.Quotas {
		gauge(u.quotaUsed, float64(q.Used), q.AppID, q.WorkspaceID, q.Channel)
		gauge(u.quota, float64(q.Quota), q.AppID, q.WorkspaceID, q.Channel)
	}
	gauge(u.unknown, float64(now.Unknown))
	gauge(u.claims, float64(now.Claims))
	overdue := now.Overdue.Seconds()
	if now.Held { // a hold waits for an operator, and has a figure of its own
		overdue = 0
	}
	gauge(u.overdue, overdue)
}

// read asks the database, or returns its last answer while that is new enough.
func (u *Usage) read() (store.Usage, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.asked.IsZero() && time.Since(u.asked) < usageAge {
		return u.last, u.known
	}
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	defer cancel()
	var err error
	u.last, err = u.store.Usage(ctx, usageApps)
	u.asked, u.known = time.Now(), err == nil
	if err != nil {
		u.log.DebugContext(ctx, "usage could not be read", "error", err)
	}
	return u.last, u.known
}

// An AppName is an app's name at its provider.
type AppName struct{ AppID, WorkspaceID string }

// OwnApps is a prometheus.Collector of the apps for which the daemon has
// credentials, each with the installation of the daemon's database. Two
// installations with the same app both push to it, which neither can see by
// itself.
type OwnApps struct {
	store *store.Store
	apps  func() []AppName
	desc  *prometheus.Desc

	mu           sync.Mutex
	installation string // empty: not read yet
}

// NewOwnApps makes an OwnApps. apps lists the apps for which the daemon has
// credentials.
func NewOwnApps(s *store.Store, apps func() []AppName) *OwnApps {
	return &OwnApps{store: s, apps: apps, desc: prometheus.NewDesc("scheduler_app_info",
		"1 for each app that this daemon has credentials for, by the installation that its database is.", []string{"installation", "app_id", "workspace_id"}, nil)}
}

// Describe implements prometheus.Collector.
func (o *OwnApps) Describe(ch chan<- *prometheus.Desc) { ch <- o.desc }

// Collect implements prometheus.Collector. It collects nothing before the first
// daemon has made the installation's row.
func (o *OwnApps) Collect(ch chan<- prometheus.Metric) {
	installation := o.known()
	if installation == "" {
		return
	}
	for _, a := range o.apps() {
		ch <- prometheus.MustNewConstMetric(o.desc, prometheus.GaugeValue, 1, installation, a.AppID, a.WorkspaceID)
	}
}

func (o *OwnApps) known() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.installation == "" {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if k, err := o.store.Keys(ctx); err == nil {
			o.installation = k.Installation
		}
	}
	return o.installation
}
