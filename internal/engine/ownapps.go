package engine

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/campaign-scheduler/scheduler/store"
)

// An AppName is what a provider and its people call an app.
type AppName struct{ AppID, WorkspaceID string }

// OwnApps is a prometheus.Collector of the apps that the daemon has credentials
// for, each with the installation that its database is: an app with two
// installations is pushed to by both, and neither can see that of itself.
type OwnApps struct {
	store *store.Store
	apps  func() []AppName
	desc  *prometheus.Desc

	mu           sync.Mutex
	installation string // empty: not read yet
}

// NewOwnApps makes an OwnApps. apps lists those that the daemon has credentials for.
func NewOwnApps(s *store.Store, apps func() []AppName) *OwnApps {
	return &OwnApps{store: s, apps: apps, desc: prometheus.NewDesc("scheduler_app_info",
		"1 for each app that this daemon has credentials for, by the installation that its database is.", []string{"installation", "app_id", "workspace_id"}, nil)}
}

// Describe implements prometheus.Collector.
func (o *OwnApps) Describe(ch chan<- *prometheus.Desc) { ch <- o.desc }

// Collect implements prometheus.Collector. Nothing is told before the first daemon
// has made the installation's row.
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
