package app

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/config"
)

// reloadTimeout bounds the statements of a reload.
const reloadTimeout = 10 * time.Second

// Reload takes over these settings of a new configuration: the apps with their
// credentials, endpoints, limits and quotas, dispatch.max_in_flight, the access keys
// of the API, and the role rules of the console. Calls in flight keep the credentials
// with which they started. On an error nothing has changed. later names the other
// settings that differ: they take effect at the next start.
func (a *App) Reload(ctx context.Context, c *config.Config) (later []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	apps := c.Apps
	switch {
	case len(apps) > 0:
	case a.sandbox != nil:
		apps = a.sandboxApps
	default:
		return nil, errors.New("the configuration has no apps; the sandbox, which would stand in for them, starts with the daemon only")
	}
	if err := a.configure(ctx, apps); err != nil {
		return nil, err
	}
	a.engine.Reload(c.Dispatch.MaxInFlight)
	a.reloadAPI(c.API)
	if a.console != nil {
		a.console.Reload(apps, c.Console)
	}
	later = restartSettings(a.Config, c)
	a.Config.Apps, a.Config.Dispatch.MaxInFlight, a.Config.Dispatch.Proxy = c.Apps, c.Dispatch.MaxInFlight, c.Dispatch.Proxy
	a.Config.API.Clients, a.Config.API.CallsPerSecond = c.API.Clients, c.API.CallsPerSecond
	a.Config.Console.OIDC, a.Config.Console.Proxy, a.Config.Console.Roles = c.Console.OIDC, c.Console.Proxy, c.Console.Roles
	return later, nil
}

// restartSettings returns the settings that differ and are read only at the start.
func restartSettings(before, after *config.Config) []string {
	var names []string
	compareSettings("", reflect.ValueOf(*before), reflect.ValueOf(*after), &names)
	return names
}

// reloaded are the settings that a reload takes over, and fields that are not
// settings.
var reloaded = map[string]bool{"console.oidc": true, "console.proxy": true, "console.roles": true, "apps": true, "dispatch.max_in_flight": true, "dispatch.proxy": true, "log.level": true, "api.clients": true, "api.calls_per_second": true, "-": true}

func compareSettings(prefix string, before, after reflect.Value, names *[]string) {
	for i := range before.NumField() {
		tag := before.Type().Field(i).Tag.Get("yaml")
		name := prefix + tag
		switch x, y := before.Field(i), after.Field(i); {
		case tag == "" || tag == "-" || reloaded[name]:
		case x.Kind() == reflect.Struct:
			compareSettings(strings.TrimSuffix(name, ",inline")+".", x, y, names)
		case !reflect.DeepEqual(x.Interface(), y.Interface()):
			*names = append(*names, name)
		}
	}
}
