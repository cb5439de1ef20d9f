//go:build linux

package attack_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// daemonMemory is what docs/operations.md says that a daemon takes at most.
const daemonMemory = 512 << 20

// TestMemoryWhateverAuthorsWrite floods a daemon, as it is built and deployed, with
// campaigns and targets of the largest size for many apps whose receivers do not
// answer. It stays within its memory, and another app's push arrives.
func TestMemoryWhateverAuthorsWrite(t *testing.T) {
	t.Parallel()
	const apps = 12
	db := pgtest.New(t)
	var stuck atomic.Int32
	release, arrived := make(chan struct{}), make(chan struct{})
	free, tell := sync.OnceFunc(func() { close(release) }), sync.OnceFunc(func() { close(arrived) })
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(r.URL.Path, "/honest") {
			tell()
			return
		}
		stuck.Add(1)
		<-release
	}))
	t.Cleanup(receiver.Close)
	t.Cleanup(free)
	dir := t.TempDir()
	var config strings.Builder
	fmt.Fprintf(&config, "database: {url: %q}\ndata_dir: %q\nadmin: {listen: \"127.0.0.1:0\"}\ndispatch: {grace_period: 1s}\napps:\n", db.URL, dir)
	for i := range apps {
		fmt.Fprintf(&config, "  - {app_id: flood%d, provider: webhook, endpoint: %q, secret: 0123456789abcdef0123456789abcdef, allow_private_addresses: true}\n", i, receiver.URL+"/flood")
	}
	fmt.Fprintf(&config, "  - {app_id: honest, provider: webhook, endpoint: %q, secret: 0123456789abcdef0123456789abcdef, allow_private_addresses: true}\n", receiver.URL+"/honest")
	file := filepath.Join(dir, "scheduler.yaml")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &town{db: db}
	c.exec(t, fmt.Sprintf(`
		INSERT INTO scheduler.apps (app_id, provider) SELECT 'flood' || g, 'webhook' FROM generate_series(0, %[1]d - 1) g;
		INSERT INTO scheduler.apps (app_id, provider) VALUES ('honest', 'webhook');
		INSERT INTO scheduler.campaigns (name, app_id, channel, request)
		SELECT 'flood', 'flood' || g %% %[1]d, 'webhook', jsonb_build_object('t', repeat('x', 65000)) FROM generate_series(1, %[1]d * 150) g;
		WITH c AS (
			INSERT INTO scheduler.campaigns (name, app_id, channel, request)
			SELECT 'flood', 'flood' || g, 'webhook', jsonb_build_object('t', repeat('x', 65000)) FROM generate_series(0, %[1]d - 1) g RETURNING id)
		INSERT INTO scheduler.campaign_targets (campaign_id, target, msg_key, template_key_value, extended_params)
		SELECT id, 'u' || g || repeat('u', 1000), repeat('k', 256), jsonb_build_object('v', repeat('v', 4000)), jsonb_build_object('v', repeat('v', 4000)) FROM c, generate_series(1, 2000) g`, apps))

	binary := filepath.Join(dir, "scheduler")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", binary, "./cmd/scheduler")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	daemon := exec.CommandContext(context.WithoutCancel(t.Context()), binary, "serve", "--config", file)
	var log bytes.Buffer
	daemon.Stdout, daemon.Stderr = &log, &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = daemon.Wait()
	}()
	t.Cleanup(func() {
		free()
		_ = daemon.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	wait := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); !ok(); {
			select {
			case <-ended:
				t.Fatalf("the daemon ended:\n%.4000s", log.String())
			case <-time.After(20 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	wait("the flood to be under way", func() bool { return stuck.Load() >= 100 })
	c.exec(t, `INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('honest', 'honest', 'webhook')`)
	wait("the honest push", func() bool {
		select {
		case <-arrived:
			return true
		default:
			return false
		}
	})
	free()
	wait("the flood to end", func() bool {
		var left int
		c.scan(t, &left, `SELECT count(*) FROM scheduler.tasks WHERE decided_at IS NULL`)
		return left == 0
	})
	if peak := peakMemory(t, daemon.Process.Pid); peak > daemonMemory {
		t.Errorf("the daemon took %d MiB, want at most %d", peak>>20, daemonMemory>>20)
	}
}

// peakMemory is the most memory that a process had resident, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	kb, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.ParseInt(kb, 10, 64)
	if !found || err != nil {
		t.Fatalf("no VmHWM in\n%s", status)
	}
	return n << 10
}
