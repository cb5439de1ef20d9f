package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the figures of the API. Actions come from the list of those that
// are answered, codes from what this package says, so that no stranger makes
// new labels.
type metrics struct {
	calls   *prometheus.CounterVec // by action and code
	seconds *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_api_calls_total", Help: "Calls to the API, by action (none: the signature was refused) and code of the answer.",
		}, []string{"action", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scheduler_api_call_seconds", Help: "Time to answer a call to the API.", Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5, 20},
		}, []string{"action"}),
	}
	if reg != nil {
		reg.MustRegister(m.calls, m.seconds)
	}
	return m
}

func (m *metrics) count(action, code string, took time.Duration) {
	if actions[action] == nil {
		action = "other"
	}
	m.calls.WithLabelValues(action, code).Inc()
	m.seconds.WithLabelValues(action).Observe(took.Seconds())
}

func (m *metrics) refused(code string) { m.calls.WithLabelValues("none", code).Inc() }
