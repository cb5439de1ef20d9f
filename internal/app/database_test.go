package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/app"
)

// TestEmbeddedDatabaseIsStartedAgain kills the embedded PostgreSQL under a
// daemon: it goes on with the server that takes its place.
func TestEmbeddedDatabaseIsStartedAgain(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "scheduler-app") //nolint:usetesting // the server has an account of its own, which must reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file, secret := filepath.Join(t.TempDir(), "scheduler.yaml"), filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, "secret-1")
	writeFile(t, file, fmt.Sprintf("data_dir: %q\nadmin: {listen: \"127.0.0.1:0\"}\nsandbox: {listen: \"127.0.0.1:0\"}\napi: {listen: \"127.0.0.1:0\"}\n%s", dir,
		appYAML("http://127.0.0.1:1", "key-1", secret)))
	cfg, err := load(t, file)
	if err != nil {
		t.Fatal(err)
	}
	log := &syncedBuffer{}
	a, err := app.New(t.Context(), app.Options{Config: cfg, Adapters: adapters, Log: slog.New(slog.NewTextHandler(log, nil)), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	a.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if err := a.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	ready := func() bool { return a.Ready(t.Context()) == nil }
	until(t, "the daemon to be ready", ready)
	content, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.SplitN(string(content), "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "another server", func() bool { return strings.Contains(log.String(), "the embedded PostgreSQL runs again") })
	until(t, "the daemon to be ready again", ready)
}
