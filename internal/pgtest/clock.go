package pgtest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
	"github.com/campaign-scheduler/scheduler/internal/faketime"
	"github.com/campaign-scheduler/scheduler/store"
)

// A Clock is a server's wall clock, which a test may set. It goes on by itself.
type Clock struct {
	file string
}

// NewWithClock is New on a server of the test's own, whose clock it may set. The
// test fails on a machine without libfaketime, and says what to install.
func NewWithClock(tb testing.TB) (*DB, *Clock) {
	tb.Helper()
	library := faketime.Library()
	if library == "" {
		tb.Fatal("pgtest: a database with a clock of its own needs libfaketime: install it, on Debian with apt-get install libfaketime")
	}
	ctx := context.WithoutCancel(tb.Context())
	dir, err := os.MkdirTemp("", "pgtest-clock-") //nolint:usetesting // as root the server runs as another user, who must reach it; not in /dev/shm, which may forbid programs
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // as root the server runs as another user
		tb.Fatal(err)
	}
	c := &Clock{file: filepath.Join(dir, "clock")}
	c.Set(tb, 0)
	programs, _, err := embedpg.Find()
	if err != nil {
		tb.Fatal(err)
	}
	wrapped := filepath.Join(dir, "programs")
	if err := faketime.Wrap(library, c.file, programs, wrapped); err != nil {
		tb.Fatal(err)
	}
	s, err := embedpg.Start(ctx, embedpg.Config{Dir: filepath.Join(dir, "server"), BinDir: wrapped, Database: "clocked", Ephemeral: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Stop() })
	db := &DB{URL: s.URL("clocked")}
	migrator, err := store.NewMigrator(db.URL, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if err := migrator.Up(ctx); err != nil {
		tb.Fatal(err)
	}
	if db.Pool, err = openPool(db.URL); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.closePool(tb) })
	return db, c
}

// Set puts the clock ahead of the machine's.
func (c *Clock) Set(tb testing.TB, ahead time.Duration) {
	tb.Helper()
	if err := faketime.Set(c.file, ahead); err != nil {
		tb.Fatal(err)
	}
}
