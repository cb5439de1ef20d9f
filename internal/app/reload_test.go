package app_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/internal/app"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// A daemon is an App on a database of its own, with a configuration file that a
// test may change.
type daemon struct {
	*app.App
	db   *pgtest.DB
	file string
	log  *syncedBuffer
}

var adapters = []dispatch.Adapter{mpaas.Adapter{}}

func load(t *testing.T, file string) (*config.Config, error) {
	t.Helper()
	providers := make([]config.Provider, len(adapters))
	for i, a := range adapters {
		providers[i] = a
	}
	return config.Load(file, nil, providers)
}

func startOn(t *testing.T, settings string) *daemon {
	t.Helper()
	return startHere(t, pgtest.New(t), settings)
}

// startHere is startOn on a database that is there.
func startHere(t *testing.T, db *pgtest.DB, settings string) *daemon {
	t.Helper()
	d := &daemon{db: db, file: filepath.Join(t.TempDir(), "scheduler.yaml"), log: &syncedBuffer{}}
	d.write(t, settings)
	cfg, err := load(t, d.file)
	if err != nil {
		t.Fatal(err)
	}
	d.App, err = app.New(t.Context(), app.Options{Config: cfg, Adapters: adapters, Log: slog.New(slog.NewTextHandler(d.log, nil)), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	d.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if err := d.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return d
}

// write writes the configuration file; apps is all that differs.
func (d *daemon) write(t *testing.T, settings string) {
	t.Helper()
	text := fmt.Sprintf("database: {url: %q}\ndata_dir: %q\nadmin: {listen: \"127.0.0.1:0\"}\n%s", d.db.URL, filepath.Dir(d.file), settings)
	if err := os.WriteFile(d.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *daemon) reload(t *testing.T) ([]string, error) {
	t.Helper()
	cfg, err := load(t, d.file)
	if err != nil {
		return nil, err
	}
	return d.Reload(t.Context(), cfg)
}

// push inserts a campaign that pushes at once.
func (d *daemon) push(t *testing.T, name string) {
	t.Helper()
	_, err := d.db.Exec(t.Context(), `INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, request) VALUES ($1, 'shop', 'main', 'mpaas.push_multiple',
		'{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome", "targetMsgs": [{"target": "user-1", "templateKeyValue": {"name": "Li Lei"}}]}')`, name)
	if err != nil {
		t.Fatal(err)
	}
}

// outcomes counts decisions by status and reason.
func (d *daemon) outcomes(t *testing.T) map[string]int {
	t.Helper()
	out := make(map[string]int)
	rows, err := d.db.Query(t.Context(), `SELECT status::text || coalesce(': ' || reason, '') FROM scheduler.decided_tasks`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		out[text]++
	}
	return out
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// pushAPI starts a sandbox that knows one key of the app.
func pushAPI(t *testing.T, key, secret string) *sandbox.Sandbox {
	t.Helper()
	s, err := sandbox.New(sandbox.Config{Apps: sandbox.Apps{MPaaS: []sandbox.MPaaSApp{{
		AppID: "shop", WorkspaceID: "main", AccessKeyID: key, AccessKeySecret: secret,
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.WithoutCancel(t.Context())) })
	return s
}

func appYAML(url, key, secretFile string) string {
	return fmt.Sprintf("apps:\n  - {app_id: shop, workspace_id: main, provider: mpaas, endpoint: %q, access_key_id: %s, access_key_secret_file: %q}\n", url, key, secretFile)
}

// TestReloadRotatesKeys changes an app's key under load: the old one's calls end
// where they began, no call is refused, and none uses it after the change.
func TestReloadRotatesKeys(t *testing.T) {
	t.Parallel()
	before, after := pushAPI(t, "key-1", "secret-1"), pushAPI(t, "key-2", "secret-2")
	secret := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, "secret-1")
	d := startOn(t, appYAML(before.URL(), "key-1", secret))
	const half = 100
	var load sync.WaitGroup
	load.Go(func() {
		for i := range half {
			d.push(t, fmt.Sprint("before ", i))
		}
	})
	until(t, "some pushes", func() bool { return before.Last() > 10 })
	writeFile(t, secret, "secret-2")
	d.write(t, appYAML(after.URL(), "key-2", secret))
	if _, err := d.reload(t); err != nil {
		t.Fatal(err)
	}
	load.Wait()
	for i := range half {
		d.push(t, fmt.Sprint("after ", i))
	}
	until(t, "every decision", func() bool { return get[int](t, d, `SELECT count(*) FROM scheduler.decided_tasks`) == 2*half })
	if diff := cmp.Diff(map[string]int{"succeeded": 2 * half}, d.outcomes(t)); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
	// What had begun ends with the old key, whenever that is.
	if before.Last()+after.Last() != 2*half {
		t.Errorf("%d calls with the old key, %d with the new", before.Last(), after.Last())
	}
	calls, err := before.Calls(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		if strings.HasPrefix(c.TaskName, "after") {
			t.Errorf("%q was called with the old key", c.TaskName)
		}
	}
}

// TestBadReloadChangesNothing offers configurations with mistakes to a daemon
// that works.
func TestBadReloadChangesNothing(t *testing.T) {
	t.Parallel()
	api := pushAPI(t, "key-1", "secret-1")
	secret := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, "secret-1")
	good := appYAML(api.URL(), "key-1", secret)
	d := startOn(t, good)
	for name, c := range map[string]struct{ settings, want string }{
		"unknown key":  {good + "nonsense: 1\n", "nonsense"},
		"no apps":      {"", "no apps"},
		"no secret":    {appYAML(api.URL(), "key-1", secret+".missing"), "cannot read"},
		"bad endpoint": {appYAML("nowhere", "key-1", secret), "endpoint"},
		"bad provider": {strings.Replace(good, "provider: mpaas", "provider: smoke", 1), "provider"},
	} {
		d.write(t, c.settings)
		if _, err := d.reload(t); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	d.push(t, "after")
	until(t, "the decision", func() bool { return get[int](t, d, `SELECT count(*) FROM scheduler.decided_tasks`) == 1 })
	if diff := cmp.Diff(map[string]int{"succeeded": 1}, d.outcomes(t)); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
}

// TestReloadChangesApps adds an app, lowers a limit, and says what has to wait
// for a restart.
func TestReloadChangesApps(t *testing.T) {
	t.Parallel()
	api := pushAPI(t, "key-1", "secret-1")
	secret := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, "secret-1")
	other := strings.Replace(appYAML(api.URL(), "key-1", secret), "app_id: shop", "app_id: other", 1)
	d := startOn(t, other)
	if _, err := d.db.Exec(t.Context(), `INSERT INTO scheduler.apps (app_id, workspace_id, provider) VALUES ('shop', 'main', 'mpaas')`); err != nil {
		t.Fatal(err)
	}
	d.push(t, "waits for credentials")
	until(t, "the task", func() bool { return get[int](t, d, `SELECT count(*) FROM scheduler.pending_tasks`) == 1 })
	d.write(t, strings.Replace(appYAML(api.URL(), "key-1", secret), "provider: mpaas", "provider: mpaas, pending_limit: 7", 1)+
		"dispatch: {lease: 20s, max_in_flight: 7}\nlog: {level: debug}\n")
	later, err := d.reload(t)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"dispatch.lease"}, later); diff != "" {
		t.Errorf("settings that wait for a restart (-want +got):\n%s", diff)
	}
	until(t, "the push", func() bool {
		return get[int](t, d, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'succeeded'`) == 1
	})
	if limit := get[int](t, d, `SELECT pending_limit FROM scheduler.apps WHERE app_id = 'shop'`); limit != 7 {
		t.Errorf("pending_limit %d, want 7", limit)
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func get[T any](t *testing.T, d *daemon, sql string) T {
	t.Helper()
	var v T
	if err := d.db.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// A syncedBuffer is a log that a test reads while it is written.
type syncedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncedBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncedBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
