package engine_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// TestLargeCampaignsKeepNobodyOut floods an app that stands still with campaigns of
// the largest size: another app's push begins all the same.
func TestLargeCampaignsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "flood", "mpaas", &engine.App{MaxInFlight: 2})
	r.app(t, "honest", "mpaas", nil)
	r.run(t, `INSERT INTO scheduler.campaigns (name, app_id, channel, request)
		SELECT 'flood', 'flood', 'mpaas.push_broadcast', jsonb_build_object('t', repeat('x', 65000)) FROM generate_series(1, 900)`)
	flood := get[int64](t, r, `SELECT max(id) FROM scheduler.campaigns`)
	release := make(chan struct{})
	defer close(release)
	var stuck atomic.Int32
	r.pusher.answers(func(_ context.Context, c call) dispatch.Outcome {
		if c.campaign <= flood {
			stuck.Add(1)
			<-release
		}
		return accepted
	})
	start(t, r.config(t))
	until(t, "the flood to be under way", func() bool { return stuck.Load() == 2 })
	until(t, "the flood to be planned", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks`) == 898
	})
	honest := r.insert(t, "honest", "mpaas.push_broadcast", 0, nil)
	r.decided(t, honest, 1)
}

// TestHeavyDeliveriesAreBounded has an author push large calls to receivers that
// answer late: what is under way stays within its bound, another app's calls begin
// meanwhile, large ones too, and in the end all are pushed once.
func TestHeavyDeliveriesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "heavy", "mpaas", nil)
	r.app(t, "honest", "mpaas", nil)
	const targets = `INSERT INTO scheduler.campaign_targets (campaign_id, target, template_key_value, extended_params)
		SELECT $1, 'u' || g || repeat('u', 1000), jsonb_build_object('v', repeat('v', 4000)), jsonb_build_object('v', repeat('v', 4000)) FROM generate_series(1, $2::integer) g`
	const deliveries = 40
	loaded := func(app string, n int) int64 {
		t.Helper()
		id := r.insert(t, app, "mpaas.push_multiple", 0, nil, "status", "paused")
		r.run(t, targets, id, n)
		return id
	}
	heavy, large, small := loaded("heavy", deliveries*100), loaded("honest", 100), loaded("honest", 1)
	release := make(chan struct{})
	var underWay, most atomic.Int32
	r.pusher.answers(func(ctx context.Context, c call) dispatch.Outcome {
		if c.campaign != heavy {
			return accepted
		}
		if n := underWay.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer underWay.Add(-1)
		select {
		case <-release:
		case <-ctx.Done():
		}
		return accepted
	})
	start(t, r.config(t))
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, heavy)
	until(t, "heavy calls to be under way", func() bool { return underWay.Load() >= 8 })
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id <> $1`, heavy)
	r.decided(t, large, 1)
	r.decided(t, small, 1)
	if n := most.Load(); n > 9 {
		t.Errorf("%d calls of 3.6 MB were under way at once, want at most 9", n)
	}
	close(release)
	if got := r.decided(t, heavy, 1); !strings.HasPrefix(got[0], "succeeded") {
		t.Errorf("got %q", got)
	}
	seen := make(map[string]int)
	for _, c := range r.pusher.seen() {
		seen[c.deliveryID]++
		if seen[c.deliveryID] > 1 {
			t.Errorf("delivery %s was pushed %d times", c.deliveryID, seen[c.deliveryID])
		}
	}
	if len(seen) != deliveries+2 {
		t.Errorf("%d deliveries, want %d", len(seen), deliveries+2)
	}
}
