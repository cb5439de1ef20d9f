package engine_test

import (
	"testing"

	"github.com/campaign-scheduler/scheduler/store"
)

// TestThroughPgBouncer pushes through PgBouncer with its own defaults, which is
// in session mode.
func TestThroughPgBouncer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "webhook", nil)
	s, err := store.Open(t.Context(), store.Config{URL: r.Pooler(t, "session"), MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	cfg := r.config(t)
	cfg.Store = s
	start(t, cfg)
	for range 3 {
		if got := r.decided(t, r.insert(t, "shop", "webhook", 0, nil), 1); got[0] != "succeeded" {
			t.Errorf("%s", got)
		}
	}
	r.once(t)
}
