package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/campaign-scheduler/scheduler/store"
)

// Bounds of what the usage costs: the database is asked at most so often, for at
// most so many apps, the fullest first, so that labels stay few.
const (
	usageAge     = 15 * time.Second
	usageTimeout = 3 * time.Second
	usageApps    = 500
)

// A Usage is a prometheus.Collector of figures that stand in the database and
// are the same for all daemons: alerts take their max, not their sum.
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
// the figures are left out rather than shown as they were.
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
	if now.Held { // what is held back is an operator's to release, and has its own figure
		overdue = 0
	}
	gauge(u.overdue, overdue)
}

// read asks the database, or returns what it said a moment ago.
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
