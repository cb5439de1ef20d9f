package app

import (
	"fmt"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// A registry holds the adapters by channel and the apps by their short key. It is
// safe for concurrent use. install replaces its whole content at once.
type registry struct {
	metrics *engine.Metrics

	mu       sync.RWMutex
	channels map[string]dispatch.Adapter
	apps     map[appKey]*engine.App
	byNo     map[int32]*engine.App
}

type appKey struct{ appID, workspaceID string }

// prepare makes a Pusher for every app. It does not change the registry.
func (r *registry) prepare(adapters []dispatch.Adapter, apps []config.App, now func() time.Time) (map[appKey]*engine.App, error) {
	providers := make(map[string]dispatch.Adapter)
	for _, ad := range adapters {
		providers[ad.Provider()] = ad
	}
	made := make(map[appKey]*engine.App, len(apps))
	for _, c := range apps {
		ad := providers[c.Provider]
		if ad == nil {
			return nil, fmt.Errorf("app %s: unknown provider %q", c.AppID, c.Provider)
		}
		settings := c.Settings()
		settings.Now = now
		pusher, err := ad.New(settings)
		if err != nil {
			return nil, fmt.Errorf("app %s: %w", c.AppID, err)
		}
		made[appKey{c.AppID, c.WorkspaceID}] = &engine.App{
			Pusher: pusher, MaxInFlight: c.MaxInFlight, CallsPerSecond: c.CallsPerSecond, AllowAudienceSchedules: c.AllowAudienceSchedules,
			Region: c.Region(),
		}
	}
	return made, nil
}

// install replaces the apps by prepared ones, joined with their rows. An app that was
// there before keeps its state: its calls in flight count against its new bounds.
func (r *registry) install(adapters []dispatch.Adapter, made map[appKey]*engine.App, rows []store.App) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.channels = make(map[string]dispatch.Adapter)
	for _, ad := range adapters {
		for _, c := range ad.Channels() {
			r.channels[c.Name] = ad
		}
	}
	for _, row := range rows {
		if a := made[appKey{row.AppID, row.WorkspaceID}]; a != nil {
			a.TargetsPerSecond = row.TargetsPerSecond
		}
	}
	apps := make(map[appKey]*engine.App, len(made))
	for key, a := range made {
		if old := r.apps[key]; old != nil {
			old.Reconfigure(a)
			a = old
		}
		apps[key] = a
	}
	r.apps, r.byNo = apps, make(map[int32]*engine.App, len(rows))
	for _, row := range rows {
		if a := apps[appKey{row.AppID, row.WorkspaceID}]; a != nil {
			r.byNo[row.AppNo] = a
		}
	}
}

// app returns the app of a short key, or nil if this daemon has no credentials for
// it.
func (r *registry) app(no int32) *engine.App {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byNo[no]
}

// name returns the name of an app for people, or its number if this daemon has no
// credentials for it.
func (r *registry) name(no int32) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a := r.byNo[no]; a != nil {
		for key, b := range r.apps {
			switch {
			case a != b:
			case key.workspaceID != "":
				return key.appID + "/" + key.workspaceID
			default:
				return key.appID
			}
		}
	}
	return fmt.Sprintf("number %d", no)
}

// names lists the apps that the daemon has credentials for.
func (r *registry) names() []engine.AppName {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]engine.AppName, 0, len(r.apps))
	for key := range r.apps {
		out = append(out, engine.AppName{AppID: key.appID, WorkspaceID: key.workspaceID})
	}
	return out
}

// limited lists the apps whose rate is bounded.
func (r *registry) limited() []int32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []int32
	for no, a := range r.byNo {
		if a.Limited() {
			out = append(out, no)
		}
	}
	return out
}

// compile compiles a campaign's request with the adapter of its channel.
func (r *registry) compile(c *store.Campaign) (*dispatch.Message, []dispatch.Problem) {
	r.mu.RLock()
	adapter, app := r.channels[c.Channel], r.byNo[c.AppNo]
	r.mu.RUnlock()
	return compileWith(adapter, app, dispatch.Request{
		Channel: c.Channel, TaskName: c.Name, Body: c.Request, StrategyType: int(c.StrategyType), StoredTargets: c.Targets > 0 || c.AudienceView != "",
	})
}

// compileFor compiles a request that is not stored as a campaign yet.
func (r *registry) compileFor(appID, workspaceID string, request dispatch.Request) (*dispatch.Message, []dispatch.Problem) {
	r.mu.RLock()
	adapter, app := r.channels[request.Channel], r.apps[appKey{appID, workspaceID}]
	r.mu.RUnlock()
	return compileWith(adapter, app, request)
}

// compileWith compiles a request. adapter and app may be nil if they are unknown
// here.
func compileWith(adapter dispatch.Adapter, app *engine.App, request dispatch.Request) (*dispatch.Message, []dispatch.Problem) {
	if adapter == nil {
		return nil, []dispatch.Problem{{Field: "channel", Text: "this program has no adapter for " + request.Channel}}
	}
	if app != nil {
		app.Qualify(&request)
	}
	return adapter.Compile(request)
}
