//go:build linux

package chaos

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

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
	p, err := newPair(t.Context(), dir)
	t.Cleanup(p.remove)
	if err != nil {
		t.Fatal(err)
	}
	m, err := store.NewMigrator(p.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Up(t.Context()); err != nil {
		t.Fatal(err) // the standby would refuse it
	}
	s, err := store.Open(t.Context(), store.Config{URL: p.url()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if h, err := s.Health(t.Context()); err != nil || h.ReadOnly {
		t.Errorf("read-only %v, %v", h.ReadOnly, err)
	}
	if err := p.failOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Discard()
	if h, err := s.Health(t.Context()); err != nil || h.ReadOnly {
		t.Errorf("after the switch: read-only %v, %v", h.ReadOnly, err)
	}
}

// A pair is a primary and its standby.
type pair struct{ primary, standby *node }

// newPair starts one below dir.
func newPair(ctx context.Context, dir string) (*pair, error) {
	p := &pair{}
	var err error
	if p.primary, err = newNode(filepath.Join(dir, "primary")); err != nil {
		return p, err
	}
	if err := errors.Join(p.primary.initialise(ctx), p.primary.start(ctx)); err != nil {
		return p, err
	}
	if p.standby, err = newNode(filepath.Join(dir, "standby")); err != nil {
		return p, err
	}
	return p, errors.Join(p.standby.follow(ctx, p.primary), p.standby.start(ctx))
}

// url names both hosts, the standby first.
func (p *pair) url() string {
	return "postgres://postgres@" + p.standby.addr() + "," + p.primary.addr() + "/postgres?sslmode=disable"
}

// failOver loses the primary and promotes the standby.
func (p *pair) failOver(ctx context.Context) error {
	p.primary.crash()
	return p.standby.run(ctx, `SELECT pg_promote(true, 30)`)
}

// remove ends both.
func (p *pair) remove() {
	for _, n := range []*node{p.standby, p.primary} {
		if n != nil {
			n.remove()
		}
	}
}
