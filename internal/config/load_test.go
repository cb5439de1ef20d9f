package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

// A fakeProvider stands for an adapter, of which the configuration sees three
// methods.
type fakeProvider struct {
	name    string
	options []dispatch.Option
}

func (p fakeProvider) Provider() string           { return p.name }
func (p fakeProvider) Options() []dispatch.Option { return p.options }
func (p fakeProvider) New(s dispatch.Settings) (dispatch.Pusher, error) {
	for name, value := range s.Options {
		if strings.HasPrefix(value, "broken") {
			return nil, fmt.Errorf("%s is no key\nand region is none", name)
		}
	}
	return nil, nil //nolint:nilnil // the configuration does not look at the Pusher
}

func (p fakeProvider) Channels() []dispatch.Channel {
	return []dispatch.Channel{{Name: p.name + ".send", WeeklyQuota: 5}}
}

func providers() []config.Provider {
	return []config.Provider{
		fakeProvider{"mpaas", []dispatch.Option{
			{Name: "access_key_id", Required: true, Help: "the key's id"},
			{Name: "access_key_secret", Required: true, Secret: true, Help: "the key's secret"},
		}},
		fakeProvider{"alipay", []dispatch.Option{
			{Name: "private_key", Required: true, Secret: true, Help: "PEM"},
			{Name: "alipay_public_key", Help: "PEM"},
		}},
	}
}

// home is what every test's environment holds, so that data_dir has a default.
var home = []string{"HOME=/home/ada"}

// write writes the configuration and, beside it, the files, as name, text pairs.
func write(t *testing.T, text string, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "scheduler.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, path string, environ ...string) *config.Config {
	t.Helper()
	c, err := config.Load(path, append(environ, home...), providers())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

func TestNoConfigurationIsValid(t *testing.T) {
	t.Parallel()
	got := load(t, "")
	want := config.Default()
	want.DataDir, want.Sandbox.Journal = got.DataDir, filepath.Join(got.DataDir, "sandbox.ndjson")
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("not the defaults (-want +got):\n%s", diff)
	}
	if !filepath.IsAbs(got.DataDir) {
		t.Errorf("data_dir is %q, want an absolute path", got.DataDir)
	}
}

func TestEmptyTextsAreNoConfiguration(t *testing.T) {
	t.Parallel()
	want := load(t, "")
	for _, text := range []string{"", "\n", "# nothing yet\n", "---\n", "apps:\n", "database:\n  url:\n", "apps: []\n"} {
		if diff := cmp.Diff(want, load(t, write(t, text))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	path := write(t, `
database:
  url: postgres://${DB_USER}:${DB_PASSWORD}@db/push
  statement_timeout: 1m30s
data_dir: state
retention: {tasks: 90d, export_format: csv}
admin:
  token_file: token
apps:
  - app_id: 0021000000000001 # digits stay as written
    provider: mpaas
    endpoint: https://push.example/
    access_key_id: $${literal} $plain
    access_key_secret: |
      two
      lines
    weekly_quota:
      mpaas.send: 7
  - app_id: b
    provider: alipay
    endpoint: https://alipay.example
    time_zone: Europe/Rome
    private_key_file: key.pem
    calls_per_second: 2.5
    targets_per_second: 1500
`, "token", "s3same\n", "key.pem", "PEM\r\n")
	got := load(t, path, "DB_USER=ada", "DB_PASSWORD=p: x\napps: []")

	want := config.Default()
	dir := filepath.Dir(path)
	want.Database.URL = "postgres://ada:p: x\napps: []@db/push"
	want.Database.StatementTimeout = 90 * time.Second
	want.DataDir, want.Sandbox.Journal = filepath.Join(dir, "state"), filepath.Join(dir, "state", "sandbox.ndjson")
	want.Retention = config.Retention{Tasks: 90 * 24 * time.Hour, ExportFormat: "csv"}
	want.Admin.Token = "s3same"
	want.Apps = []config.App{{
		AppID: "0021000000000001", Provider: "mpaas", Endpoint: "https://push.example/", TimeZone: "Asia/Shanghai",
		PendingLimit: 100, MaxInFlight: 64, WeeklyQuota: map[string]int{"mpaas.send": 7},
		Options: map[string]config.Secret{"access_key_id": "${literal} $plain", "access_key_secret": "two\nlines"},
	}, {
		AppID: "b", Provider: "alipay", Endpoint: "https://alipay.example", TimeZone: "Europe/Rome",
		PendingLimit: 100, MaxInFlight: 64, CallsPerSecond: 2.5, TargetsPerSecond: 1500,
		Options: map[string]config.Secret{"private_key": "PEM"},
	}}
	if diff := cmp.Diff(&want, got, byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// byValue compares secrets by what they hold: cmp would otherwise print
// placeholders for two that differ.
var byValue = cmp.Transformer("reveal", config.Secret.Reveal)

func TestEnvironmentOverrides(t *testing.T) {
	t.Parallel()
	path := write(t, `
database: {url: postgres://file}
apps:
  - {app_id: a, provider: mpaas, endpoint: "https://a", access_key_id: i, access_key_secret_file: absent}
`)
	secret := write(t, "", "secret", "from a file\n")
	got := load(t, path,
		"SCHEDULER_DATABASE_URL=postgres://env", "DATABASE_URL=postgres://conventional",
		"SCHEDULER_DISPATCH_RETRY_MAX=2m", "SCHEDULER_ADMIN_PPROF=true", "SCHEDULER_LOG_LEVEL=", // empty: as if unset
		"SCHEDULER_APPS_0_ACCESS_KEY_SECRET=s", "SCHEDULER_APPS_0_WEEKLY_QUOTA=mpaas.send=3",
		"SCHEDULER_APPS_1_APP_ID=b", "SCHEDULER_APPS_1_PROVIDER=alipay", "SCHEDULER_APPS_1_ENDPOINT=https://b",
		"SCHEDULER_APPS_1_PRIVATE_KEY_FILE="+filepath.Join(filepath.Dir(secret), "secret"))
	type seen struct {
		URL, Level, FirstSecret, Second, SecondKey string
		RetryMax                                   time.Duration
		Pprof                                      bool
		Quota                                      int
	}
	want := seen{"postgres://env", "info", "s", "b", "from a file", 2 * time.Minute, true, 3}
	if diff := cmp.Diff(want, seen{
		got.Database.URL.Reveal(), got.Log.Level, got.Apps[0].Options["access_key_secret"].Reveal(), got.Apps[1].AppID,
		got.Apps[1].Options["private_key"].Reveal(), got.Dispatch.Retry.Max, got.Admin.Pprof,
		got.Apps[0].WeeklyQuota["mpaas.send"],
	}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A value of several lines, and a variable that echo filled, end in a line end that
// is no part of the value: a secret with one would fail each signature.
func TestLineEndsAtTheEndAreNoPartOfAValue(t *testing.T) {
	t.Parallel()
	got := load(t, write(t, `
apps:
  - app_id: a
    provider: mpaas
    endpoint: https://a
    access_key_id: i
    access_key_secret: |
      in the file
  - {app_id: b, provider: mpaas, endpoint: "https://b", access_key_id: i, access_key_secret: "${FILLED}"}
`), "SCHEDULER_APPS_1_ACCESS_KEY_ID=from echo\r\n", "FILLED=from a variable\n", "SCHEDULER_LOG_LEVEL=debug\n")
	want := []string{"in the file", "from a variable", "from echo", "debug"}
	if diff := cmp.Diff(want, []string{
		got.Apps[0].Options["access_key_secret"].Reveal(), got.Apps[1].Options["access_key_secret"].Reveal(),
		got.Apps[1].Options["access_key_id"].Reveal(), got.Log.Level,
	}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDatabaseURLVariableIsTheLastResort(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"nothing said", "", "postgres://conventional"},
		{"embedded wanted", `database: {url: ""}`, ""},
		{"file", "database: {url: postgres://file}", "postgres://file"},
	} {
		if got := load(t, write(t, c.text), "DATABASE_URL=postgres://conventional"); got.Database.URL.Reveal() != c.want {
			t.Errorf("%s: url is %q, want %q", c.name, got.Database.URL.Reveal(), c.want)
		}
	}
}

func TestUnknownVariablesAreWarnings(t *testing.T) {
	t.Parallel()
	got := load(t, "", "SCHEDULER_DATABASE_URI=postgres://u:hunter2@h", "SCHEDULER_CONFIG=x",
		"SCHEDULER_SERVICE_HOST=10.0.0.1", "SCHEDULER_PORT=tcp://10.0.0.1:80", "SCHEDULER_PORT_80_TCP_ADDR=10.0.0.1")
	want := []string{"the variable SCHEDULER_DATABASE_URI is no setting and was ignored"}
	if diff := cmp.Diff(want, got.Warnings); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	path := write(t, `
database: {url: "postgres://u:hunter2@h/db"}
apps:
  - {app_id: a, provider: mpaas, endpoint: "https://a", access_key_id: i, access_key_secret: hunter2}
`)
	c := load(t, path)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		_, _ = fmt.Fprintf(&out, verb, *c)
		_, _ = fmt.Fprintf(&out, verb, c.Database.URL)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "config", *c, "url", c.Database.URL)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "config", *c, "url", c.Database.URL)
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		text, err := marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
	}
	if strings.Contains(out.String(), "hunter2") || strings.Contains(out.String(), "68756e74657232") {
		t.Errorf("a secret was printed:\n%s", out.String())
	}
	if !strings.Contains(out.String(), "[secret]") {
		t.Error("no placeholder was printed")
	}
	if got := c.Apps[0].Settings().Options["access_key_secret"]; got != "hunter2" {
		t.Errorf("Settings gives %q, want the secret itself", got)
	}
}

// Calls leave by the way that the app's setting says, else by the general one.
func TestWaysOut(t *testing.T) {
	t.Parallel()
	const apps = `
apps:
  - {app_id: a, provider: mpaas, endpoint: "https://a.example", access_key_id: i, access_key_secret: s}
  - {app_id: b, provider: mpaas, endpoint: "https://b.example", access_key_id: i, access_key_secret: s, proxy: none}
  - {app_id: c, provider: mpaas, endpoint: "https://c.example", access_key_id: i, access_key_secret: s, proxy_file: way}
`
	for name, tt := range map[string]struct {
		text    string
		environ []string
		want    string // the proxies of a, b and c
	}{
		"none":                   {apps, nil, "direct direct https://u:p%40ss@c.proxy:8443"},
		"one for all":            {"dispatch: {proxy: 'http://proxy:3128'}" + apps, nil, "http://proxy:3128 direct https://u:p%40ss@c.proxy:8443"},
		"the environment unused": {apps, []string{"HTTPS_PROXY=http://env:1"}, "direct direct https://u:p%40ss@c.proxy:8443"},
		"the environment":        {"dispatch: {proxy: environment}" + apps, []string{"https_proxy=http://env:1"}, "http://env:1 direct https://u:p%40ss@c.proxy:8443"},
		"but not for it":         {"dispatch: {proxy: environment}" + apps, []string{"HTTPS_PROXY=http://env:1", "NO_PROXY=.example"}, "direct direct https://u:p%40ss@c.proxy:8443"},
		"by a variable":          {apps, []string{"SCHEDULER_DISPATCH_PROXY=http://var:1", "SCHEDULER_APPS_0_PROXY=none"}, "direct direct https://u:p%40ss@c.proxy:8443"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := load(t, write(t, tt.text, "way", "\ufeffhttps://u:p%40ss@c.proxy:8443\r\n"), tt.environ...)
			var got []string
			for _, app := range c.Apps {
				way := "direct"
				if app.Way != nil {
					endpoint, _ := url.Parse(app.Endpoint)
					proxy, err := app.Way(endpoint)
					if err != nil {
						t.Error(err)
					}
					if proxy != nil {
						way = proxy.String()
					}
				}
				got = append(got, way)
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
			if told := strings.Contains(strings.Join(c.Warnings, "\n"), "HTTPS_PROXY is set and not used"); told != (name == "the environment unused") {
				t.Errorf("warnings: %q", c.Warnings)
			}
		})
	}
	for name, tt := range map[string]struct{ text, want string }{
		"a bad URL":      {"dispatch: {proxy: 'proxy:3128'}" + apps, "dispatch.proxy: must begin with http:// or https://"},
		"a path":         {"dispatch: {proxy: 'http://u:hunter2@proxy/a'}" + apps, "dispatch.proxy: must be a scheme and a host"},
		"no authorities": {strings.Replace(apps, "proxy: none", "ca_file: way", 1), "is not certificates in PEM form"},
		"no such file":   {strings.Replace(apps, "proxy: none", "ca_file: absent", 1), "cannot read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(write(t, tt.text, "way", "https://c.proxy"), home, providers())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Files are read as editors leave them: byte order marks and line ends of any
// system at their ends are no part of what they hold.
func TestFilesAsEditorsLeaveThem(t *testing.T) {
	t.Parallel()
	const mark = "\ufeff"
	text := mark + "database:\r\n  url_file: url\r\napps:\r\n  - {app_id: a, provider: mpaas, endpoint: \"https://a\", access_key_id_file: id, access_key_secret_file: secret}\r\n"
	c := load(t, write(t, text, "url", mark+"postgres://h/d\r\n\r\n", "id", "key id\n\n", "secret", mark+"hunter2\r"))
	got := []string{c.Database.URL.Reveal(), c.Apps[0].Options["access_key_id"].Reveal(), c.Apps[0].Options["access_key_secret"].Reveal()}
	if diff := cmp.Diff([]string{"postgres://h/d", "key id", "hunter2"}, got); diff != "" {
		t.Error(diff)
	}
	for name, text := range map[string]string{
		"the file itself": "\xff\xfed\x00",
		"a secret":        "apps:\n  - {app_id: a, provider: mpaas, endpoint: \"https://a\", access_key_id: i, access_key_secret_file: wide}\n",
	} {
		_, err := config.Load(write(t, text, "wide", "\xff\xfes\x00"), home, providers())
		if err == nil || !strings.Contains(err.Error(), "is UTF-16 text: save it as UTF-8") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
