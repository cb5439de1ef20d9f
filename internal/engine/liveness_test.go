package engine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// Faults 12 and 13: a dead daemon lived on when the database's clock was set back,
// until its lease had run out by that clock; set forward, all seemed dead. Who
// lives is seen by heartbeats and this machine's monotonic clock alone.
func TestLivenessGoesByBeats(t *testing.T) {
	t.Parallel()
	const lease = 5 * time.Second
	type look struct {
		after       time.Duration
		peers       []store.Peer
		alive, dead []int64
	}
	peer := func(id, beats int64, lapsed bool) store.Peer {
		return store.Peer{ID: id, Beats: beats, Lease: lease, Lapsed: lapsed}
	}
	for name, looks := range map[string][]look{
		"silent, and the clock set back: its lease never runs out by it": {
			{0, []store.Peer{peer(1, 1, false), peer(2, 7, false)}, []int64{1, 2}, nil},
			{4 * time.Second, []store.Peer{peer(1, 5, false), peer(2, 7, false)}, []int64{1, 2}, nil},
			{5 * time.Second, []store.Peer{peer(1, 6, false), peer(2, 7, false)}, []int64{1}, []int64{2}},
		},
		"beating, and the clock set forward: every lease has run out by it": {
			{0, []store.Peer{peer(1, 1, false), peer(2, 7, false)}, []int64{1, 2}, nil},
			{4 * time.Second, []store.Peer{peer(1, 5, false), peer(2, 11, false)}, []int64{1, 2}, nil},
			{8 * time.Second, []store.Peer{peer(1, 9, true), peer(2, 12, true)}, []int64{1, 2}, nil},
		},
		"left from before the start": {
			{0, []store.Peer{peer(1, 1, false), peer(2, 7, true)}, []int64{1}, nil},
			{5 * time.Second, []store.Peer{peer(1, 6, false), peer(2, 7, true)}, []int64{1}, []int64{2}},
		},
		"with a longer lease of its own": {
			{0, []store.Peer{{ID: 2, Beats: 7, Lease: 3 * lease}}, []int64{2}, nil},
			{2 * lease, []store.Peer{{ID: 2, Beats: 7, Lease: 3 * lease}}, []int64{2}, nil},
			{3 * lease, []store.Peer{{ID: 2, Beats: 7, Lease: 3 * lease}}, nil, []int64{2}},
		},
		"this daemon itself": {
			{0, []store.Peer{peer(1, 1, true)}, []int64{1}, nil},
			{time.Hour, []store.Peer{peer(1, 1, true)}, []int64{1}, nil},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			var s engine.Sightings
			for _, l := range looks {
				alive, dead := s.Look(began.Add(l.after), l.peers, 1, lease)
				var ids []int64
				for _, p := range dead {
					ids = append(ids, p.ID)
				}
				if diff := cmp.Diff([2][]int64{l.alive, l.dead}, [2][]int64{alive, ids}); diff != "" {
					t.Errorf("after %v: alive and dead (-want +got):\n%s", l.after, diff)
				}
			}
		})
	}
}

// A daemon dies with its lease an hour ahead by the database's clock, as when that
// was set back: its share is taken over, and it is ended, after a lease.
func TestDeadDaemonIsFoundWhenTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, id := range []string{"a", "b"} {
		r.app(t, id, "webhook", nil)
	}
	cfg := r.config(t)
	cfg.Lease = time.Second
	start(t, cfg)
	dying := r.enlist(t)
	// By that clock it lives for an hour; the lease it took is a second.
	r.run(t, `UPDATE scheduler.daemons SET seen_at = now() + interval '1 hour', leased_until = now() + interval '1 hour 1 second' WHERE id = $1`, dying)
	for _, id := range []string{"a", "b"} {
		id := r.insert(t, id, "webhook", 0, nil)
		if got := r.decided(t, id, 1); got[0] != "succeeded" {
			t.Errorf("decided: %v", got)
		}
	}
	until(t, "the dead daemon to be ended", func() bool {
		return get[bool](t, r, `SELECT ended_at IS NOT NULL FROM scheduler.daemons WHERE id = $1`, dying)
	})
}

// A daemon that writes a heartbeat after it was taken for dead is not ended.
func TestReapIsFencedByBeats(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.enlist(t)
	for _, c := range []struct {
		beats int64
		ended int
	}{{1, 0}, {0, 1}} {
		out, err := r.store.Reap(t.Context(), nil, store.Peer{ID: id, Beats: c.beats})
		if err != nil || len(out.Daemons) != c.ended {
			t.Errorf("seen with %d heartbeats: ended %v, %v, want %d", c.beats, out.Daemons, err, c.ended)
		}
	}
}

// Three daemons, of which one has no credentials for an app: its tasks are begun by
// those that have, soon, whichever daemon its number falls to.
func TestAppsAreSpreadOverThoseWithCredentials(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	apps := []string{"a", "b", "c", "d"}
	for _, id := range apps {
		r.app(t, id, "webhook", nil)
	}
	for i := range 3 {
		cfg := r.config(t)
		cfg.Name = fmt.Sprint("daemon ", i)
		if i > 0 { // the rest have one app each less: the fourth only the first daemon has
			cfg.App = func(no int32) *engine.App {
				if no == int32(i) || no == 4 {
					return nil
				}
				return r.lookup(no)
			}
		}
		e := start(t, cfg)
		until(t, "its place in the order", func() bool { return e.DaemonID() != 0 })
	}
	until(t, "three daemons", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.daemons WHERE beats > 1`) == 3 })
	for range 3 {
		for _, id := range apps {
			campaign := r.insert(t, id, "webhook", 0, nil)
			if got := r.decided(t, campaign, 1); got[0] != "succeeded" {
				t.Errorf("app %s: %v", id, got)
			}
		}
	}
	until(t, "what they lack to be known", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.daemons WHERE lacks <> '{}'`) > 0
	})
}
