package doctor_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
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
	return nil, nil
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
