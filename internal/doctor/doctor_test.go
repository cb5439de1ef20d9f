package doctor_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/doctor"
)

// keys is an adapter whose apps are good when they have a key.
type keys struct{ dispatch.Adapter }

func (keys) Provider() string { return "keys" }

func (keys) New(s dispatch.Settings) (dispatch.Pusher, error) {
	if s.Options["key"] == "" {
		return nil, errors.New("key is missing")
	}
	if s.Endpoint == "" {
		return nil, nil // whose way nobody can try
	}
	u, err := httpcall.ParseURL(s.Endpoint)
	return way{client: httpcall.NewClient(nil), to: u}, err
}

// way is a Pusher that only leads somewhere.
type way struct {
	dispatch.Pusher
	client *httpcall.Client
	to     *url.URL
}

func (w way) Reach(ctx context.Context) error { return w.client.Reach(ctx, w.to) }

// TestDoctorJudgesAsThePushDoes: an endpoint that every push is refused for is
// none that doctor calls good, whatever its name resolves to.
func TestDoctorJudgesAsThePushDoes(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(nil)
	t.Cleanup(server.Close)
	local := strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/x"
	options := func(allow string) map[string]config.Secret {
		return map[string]config.Secret{"secret": "s3cret-s3cret", "allow_private_addresses": config.Secret(allow)}
	}
	checks := doctor.Examine(t.Context(), doctor.Options{
		Config: &config.Config{DataDir: "/nowhere", Apps: []config.App{
			{AppID: "guarded", Provider: "webhook", Endpoint: local, Options: options("false")},
			{AppID: "allowed", Provider: "webhook", Endpoint: local, Options: options("true")},
		}},
		Adapters: []dispatch.Adapter{webhook.Adapter{}}, Now: time.Now,
	})
	want := map[string]string{"app guarded": "not public", "app allowed": "answers the connection"}
	for _, c := range checks {
		if part, ok := want[c.Name]; ok {
			delete(want, c.Name)
			if !strings.Contains(c.Found, part) || (c.Grade == doctor.OK) != (c.Name == "app allowed") {
				t.Errorf("%+v, want %q", c, part)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("not examined: %v", want)
	}
}

func TestExamineApps(t *testing.T) {
	t.Parallel()
	plain, untrusted := httptest.NewServer(nil), httptest.NewTLSServer(nil)
	t.Cleanup(plain.Close)
	t.Cleanup(untrusted.Close)
	key := map[string]config.Secret{"key": "k"}
	checks := doctor.Examine(t.Context(), doctor.Options{
		Config: &config.Config{DataDir: "/nowhere", Warnings: []string{"odd"}, Apps: []config.App{
			{AppID: "good", WorkspaceID: "w", Provider: "keys", Endpoint: plain.URL, Options: key},
			{AppID: "default", Provider: "keys", Options: key}, // where its adapter says, which nobody else knows
			{AppID: "keyless", Provider: "keys", Endpoint: plain.URL},
			{AppID: "stranger", Provider: "other", Endpoint: plain.URL},
			{AppID: "untrusted", Provider: "keys", Endpoint: untrusted.URL, Options: key},
			{AppID: "nobody", Provider: "keys", Endpoint: "http://127.0.0.1:1", Options: key},
		}},
		Adapters: []dispatch.Adapter{keys{}}, Now: time.Now,
	})
	want := []struct{ name, grade, found string }{
		{"configuration", "ok", "apps: 6"},
		{"configuration", "attention", "odd"},
		{"database", "wrong", "none is named, and no daemon runs one in /nowhere"},
		{"app good/w", "ok", "its credentials can be read"},
		{"app default", "ok", ""},
		{"app keyless", "wrong", "key is missing"},
		{"app stranger", "wrong", `no adapter for the provider "other"`},
		{"app untrusted", "wrong", "certificate"},
		{"app nobody", "wrong", "connection refused"},
	}
	if len(checks) != len(want) {
		t.Fatalf("got %d checks, want %d: %+v", len(checks), len(want), checks)
	}
	for i, w := range want {
		c := checks[i]
		if c.Name != w.name || string(c.Grade) != w.grade || !strings.Contains(c.Found, w.found) {
			t.Errorf("got %+v, want %+v", c, w)
		}
		if c.Grade == doctor.Wrong && c.ToDo == "" {
			t.Errorf("%s: wrong, and nothing to do", c.Name)
		}
	}
}
