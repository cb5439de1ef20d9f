package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"

	"github.com/campaign-scheduler/scheduler/internal/config"
)

// configuration reports what Load let pass with a warning: what it did not let
// pass never comes here.
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

// apps examines each app's credentials and the way to its push API.
func (e *examination) apps(ctx context.Context) {
	reached := make(map[string]error) // by endpoint: many apps have the same
	for _, a := range e.Config.Apps {
		name := "app " + a.AppID
		if a.WorkspaceID != "" {
			name += "/" + a.WorkspaceID
		}
		if err := e.credentials(a); err != nil {
			e.wrong(name, err.Error(), "mend the app's keys in the configuration")
			continue
		}
		err, known := reached[a.Endpoint]
		if !known {
			err = e.reach(ctx, a.Endpoint)
			reached[a.Endpoint] = err
		}
		if err != nil {
			e.wrong(name, "its push API cannot be reached: "+err.Error(), "look at the endpoint, the network and its firewalls, and the machine's certificates")
			continue
		}
		found := "its credentials can be read"
		if a.Endpoint != "" { // where there is none, only the adapter knows its default
			found += ", and its push API answers the connection"
		}
		e.ok(name, found)
	}
}

// credentials makes the app's Pusher, which reads its keys and certificates.
func (e *examination) credentials(a config.App) error {
	for _, adapter := range e.Adapters {
		if adapter.Provider() == a.Provider {
			settings := a.Settings()
			settings.Now = e.Now
			pusher, err := adapter.New(settings)
			if idle, ok := pusher.(interface{ Close() }); ok && err == nil {
				idle.Close()
			}
			return err
		}
	}
	return fmt.Errorf("no adapter for the provider %q", a.Provider)
}

// reach connects to an endpoint and sends nothing; over TLS the certificate is
// checked.
func (e *examination) reach(ctx context.Context, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" {
		return nil // the adapter has judged it
	}
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	port := u.Port()
	var dialer interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = &net.Dialer{}
	if u.Scheme == "https" {
		dialer = &tls.Dialer{}
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return conn.Close()
}
