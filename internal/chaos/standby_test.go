//go:build linux

package chaos_test

import (
	"os"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/chaos"
	"github.com/campaign-scheduler/scheduler/store"
)

// TestSeveralHostsFollowThePrimary has a URL with two hosts, of which the first
// is the standby, and later the one that was promoted.
func TestSeveralHostsFollowThePrimary(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "chaos-pair-") //nolint:usetesting // another account has to enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the same
		t.Fatal(err)
	}
	pair, err := chaos.NewPair(t.Context(), dir)
	t.Cleanup(pair.Remove)
	if err != nil {
		t.Fatal(err)
	}
	m, err := store.NewMigrator(pair.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Up(t.Context()); err != nil {
		t.Fatal(err) // the standby would refuse it
	}
	s, err := store.Open(t.Context(), store.Config{URL: pair.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if h, err := s.Health(t.Context()); err != nil || h.ReadOnly {
		t.Errorf("read-only %v, %v", h.ReadOnly, err)
	}
	if err := pair.Switch(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Discard()
	if h, err := s.Health(t.Context()); err != nil || h.ReadOnly {
		t.Errorf("after the switch: read-only %v, %v", h.ReadOnly, err)
	}
}
