package app

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/campaign-scheduler/scheduler/store"
)

// ownApps is a prometheus.Collector of the apps that the daemon has credentials
// for, each with the installation that its database is: an app with two
// installations is pushed to by both, and neither can see that of itself.
type ownApps struct {
	registry *registry
	store    *store.Store
	desc     *prometheus.Desc

	mu           sync.Mutex
	installation string // empty: not read yet
}

func newOwnApps(r *registry, s *store.Store) *ownApps {
	return &ownApps{registry: r, store: s, desc: prometheus.NewDesc("scheduler_app_info",
		"1 for each app that this daemon has credentials for, by the installation that its database is.", []string{"installation", "app_id", "workspace_id"}, nil)}
}

// Describe implements prometheus.Collector.
func (o *ownApps) Describe(ch chan<- *prometheus.Desc) { ch <- o.desc }

// Collect implements prometheus.Collector. Nothing is told before the first daemon
// has made the installation's row.
func (o *ownApps) Collect(ch chan<- prometheus.Metric) {
	installation := o.known()
	if installation == "" {
		return
	}
	for _, key := range o.registry.keys() {
		ch <- prometheus.MustNewConstMetric(o.desc, prometheus.GaugeValue, 1, installation, key.appID, key.workspaceID)
	}
}

func (o *ownApps) known() string {
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
