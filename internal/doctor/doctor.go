// Package doctor examines an installation: its configuration, its database, its
// credentials, the connections to the push APIs, and the work that waits for a
// person. It changes nothing and sends no push.
package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

// A Grade says how bad something is.
type Grade string

// The grades. Attention means that it works, but a person should look at it.
const (
	OK        Grade = "ok"
	Attention Grade = "attention"
	Wrong     Grade = "wrong"
)

// A Check is the result of one examination.
type Check struct {
	Name  string `json:"check"`
	Grade Grade  `json:"grade"`
	Found string `json:"found"`
	ToDo  string `json:"to_do"` // empty: nothing is to be done
}

// Options say what to examine. Now returns the time of this machine's clock.
type Options struct {
	Config      *config.Config
	Adapters    []dispatch.Adapter
	DatabaseURL string // may hold a password, which is never shown
	Now         func() time.Time
	// Timeout bounds each attempt to connect. Zero means 5 s.
	Timeout time.Duration
}

// An examination collects checks.
type examination struct {
	Options
	checks []Check
}

// Examine examines the installation and returns the checks in the order in which
// their problems should be fixed: the configuration first. What cannot be examined
// is a Check too, so there is no error. When ctx ends, the checks that need a
// connection report that.
func Examine(ctx context.Context, o Options) []Check {
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	e := &examination{Options: o}
	e.configuration()
	e.database(ctx)
	e.apps(ctx)
	e.api(ctx)
	e.console(ctx)
	return e.checks
}

func (e *examination) note(name string, grade Grade, found, toDo string) {
	e.checks = append(e.checks, Check{Name: name, Grade: grade, Found: found, ToDo: toDo})
}

func (e *examination) ok(name, found string)              { e.note(name, OK, found, "") }
func (e *examination) attention(name, found, toDo string) { e.note(name, Attention, found, toDo) }
func (e *examination) wrong(name, found, toDo string)     { e.note(name, Wrong, found, toDo) }

// configuration reports the warnings of config.Load. A configuration with problems
// is not examined: Load refuses it before.
func (e *examination) configuration() {
	if len(e.Config.Apps) == 0 {
		e.attention("configuration", "no apps: serve pushes to its own sandbox", "name your apps in the configuration; config.example.yaml shows how")
	} else {
		e.ok("configuration", fmt.Sprintf("apps: %d", len(e.Config.Apps)))
	}
	for _, w := range e.Config.Warnings {
		e.attention("configuration", w, "")
	}
}

// apps examines each app's credentials and the connection to its push API.
func (e *examination) apps(ctx context.Context) {
	reached := make(map[string]error) // by wayOf, since many apps share one endpoint
	for _, a := range e.Config.Apps {
		name := "app " + a.AppID
		if a.WorkspaceID != "" {
			name += "/" + a.WorkspaceID
		}
		pusher, err := e.pusher(a)
		if err != nil {
			e.wrong(name, err.Error(), "fix the app's keys in the configuration")
			continue
		}
		way, can := pusher.(dispatch.Reacher)
		if !can {
			e.ok(name, "its credentials can be read")
			continue
		}
		key := wayOf(a)
		err, known := reached[key]
		if !known {
			err = e.reach(ctx, way)
			reached[key] = err
		}
		if idle, ok := pusher.(interface{ Close() }); ok {
			idle.Close()
		}
		if err != nil {
			e.wrong(name, "its push API cannot be reached: "+err.Error(), "look at the endpoint, the network and its firewalls, and the machine's certificates")
			continue
		}
		e.ok(name, "its credentials can be read, and its push API answers the connection")
	}
}

// wayOf returns a key of the settings that decide how an app's push API is reached.
func wayOf(a config.App) string {
	s := a.Settings()
	return fmt.Sprintf("%q %q %q %q %q %q", a.Provider, a.Endpoint, s.Options["region"], s.Options["allow_private_addresses"], s.Options["proxy"], s.Options["ca_file"])
}

// pusher makes the app's Pusher, and so checks its keys and certificates.
func (e *examination) pusher(a config.App) (dispatch.Pusher, error) {
	for _, adapter := range e.Adapters {
		if adapter.Provider() == a.Provider {
			settings := a.Settings()
			settings.Now = e.Now
			return adapter.New(settings)
		}
	}
	return nil, fmt.Errorf("no adapter for the provider %q", a.Provider)
}

// reach connects to the push API as a push does, and sends nothing.
func (e *examination) reach(ctx context.Context, way dispatch.Reacher) error {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	return way.Reach(ctx)
}
