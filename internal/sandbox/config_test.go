package sandbox_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

func TestDefaultAppsAreKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	one, err := sandbox.DefaultApps(dir)
	if err != nil {
		t.Fatal(err)
	}
	two, err := sandbox.DefaultApps(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(one, two, cmpopts.IgnoreUnexported(sandbox.AlipayApp{})); diff != "" {
		t.Error(diff)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
	if err := os.WriteFile(files[0], []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sandbox.DefaultApps(dir); err == nil || !strings.Contains(err.Error(), "sandbox keys") {
		t.Errorf("a broken key: %v", err)
	}
}

func TestDefaultAppsWork(t *testing.T) {
	t.Parallel()
	for _, anyApp := range []bool{false, true} {
		credentials, err := sandbox.DefaultApps("")
		if err != nil {
			t.Fatal(err)
		}
		if anyApp {
			credentials.ForAnyApp()
		}
		sb := setup(t, func(c *sandbox.Config) { c.Apps = credentials.Apps })
		settings := credentials.For(sb.URL())
		var endpoints []string
		for _, s := range settings {
			endpoints = append(endpoints, strings.TrimPrefix(s.Endpoint, sb.URL()))
		}
		if diff := cmp.Diff([]string{"", "", "/webhook/sandbox-webhook"}, endpoints); diff != "" {
			t.Error(diff)
		}
		key := acs{id: settings[0].Options["access_key_id"], secret: settings[0].Options["access_key_secret"]}
		send := func(app string) string {
			form := with(multiple(1), "AppId", app, "WorkspaceId", settings[0].WorkspaceID)
			return sb.must(t, key.request(t, sb.URL(), "PushMultiple", form)).field("ResultCode").(string)
		}
		if got := send(settings[0].AppID); got != "OK" {
			t.Errorf("the default app: %s", got)
		}
		if got := send("another"); (got == "OK") != anyApp {
			t.Errorf("another app: %s", got)
		}
	}
}

func TestConfigYAML(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	credentials, err := sandbox.DefaultApps(dir)
	if err != nil {
		t.Fatal(err)
	}
	text := credentials.ConfigYAML("http://127.0.0.1:1")
	for _, want := range []string{
		"app_id: \"sandbox-mpaas\"", "access_key_secret_file: \"" + dir, "private_key_file: ", "alipay_public_key_file: ", "secret_file: ",
		"endpoint: \"http://127.0.0.1:1/webhook/sandbox-webhook\"",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %s:\n%s", want, text)
		}
	}
	for _, s := range credentials.Settings {
		for _, name := range []string{"access_key_secret", "private_key", "secret"} {
			if secret := s.Options[name]; secret != "" && strings.Contains(text, secret) {
				t.Errorf("holds %s of %s", name, s.AppID)
			}
		}
	}
	if _, err := url.Parse(credentials.For("http://127.0.0.1:1")[2].Endpoint); err != nil {
		t.Error(err)
	}
}
