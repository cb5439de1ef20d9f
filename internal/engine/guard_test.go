package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// guarded is a rig with one task that is due and one that is not, planned by an
// earlier daemon.
func guarded(t *testing.T) (r *rig, overdue, coming int64) {
	t.Helper()
	r = newRig(t)
	no := r.app(t, "shop", "webhook", nil)
	now := time.Now()
	overdue = r.insert(t, "shop", "webhook", 1, fixed(now.Add(-10*time.Minute)))
	coming = r.insert(t, "shop", "webhook", 1, fixed(now.Add(10*time.Hour)))
	plan(t, r.planner(t), no, time.Time{})
	return r, overdue, coming
}

// seen writes the last heartbeat of an earlier daemon.
func (r *rig) seen(t *testing.T, ago time.Duration) {
	t.Helper()
	r.run(t, `INSERT INTO scheduler.daemons (name, version, seen_at, leased_until, ended_at)
		SELECT 'earlier', '', x, x, x FROM (SELECT clock_timestamp() - $1 * interval '1 microsecond') u (x)`, ago.Microseconds())
}

// readiness waits until the engine has judged, and has read why it holds, and
// returns why it is not ready.
func readiness(t *testing.T, e *engine.Engine) string {
	t.Helper()
	var text string
	until(t, "the guard's judgement", func() bool {
		text = ""
		if err := e.Ready(t.Context()); err != nil {
			text = err.Error()
		}
		return !strings.HasPrefix(text, "no lease") && !strings.HasPrefix(text, "held;")
	})
	return text
}

func held(t *testing.T, r *rig) bool {
	t.Helper()
	return get[bool](t, r, `SELECT held_since IS NOT NULL FROM scheduler.hold`)
}

func TestGuardJudges(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		seen   time.Duration // how long ago the last heartbeat was; zero: never
		before func(t *testing.T, r *rig, overdue int64)
		guard  engine.Guard
		want   string // part of the reason; empty: not held
	}{
		"first daemon ever":         {},
		"short stop":                {seen: 23 * time.Hour},
		"long stop, pushes due":     {seen: 3 * day, want: "no daemon's heartbeat for 72h"},
		"long stop, policy run":     {seen: 3 * day, guard: engine.Guard{Run: true}},
		"a gap allowed by the file": {seen: 3 * day, guard: engine.Guard{MaxGap: 4 * day}},
		"long quiet stop": {seen: 3 * day, before: func(t *testing.T, r *rig, overdue int64) {
			t.Helper()
			r.run(t, `DELETE FROM scheduler.campaigns WHERE id = $1`, overdue)
		}},
		"long stop, a call under way": {seen: 3 * day, before: func(t *testing.T, r *rig, overdue int64) {
			t.Helper()
			r.run(t, `WITH p AS (DELETE FROM scheduler.pending_tasks WHERE campaign_id = $1 RETURNING *)
				INSERT INTO scheduler.claims (daemon_id, task_ids, app_nos, campaign_ids, revisions, origins, due_ats)
				SELECT (SELECT max(id) FROM scheduler.daemons), ARRAY[id], ARRAY[app_no], ARRAY[campaign_id], ARRAY[revision], ARRAY[origin], ARRAY[due_at] FROM p`, overdue)
		}, want: "no daemon's heartbeat"},
		"another cluster": {before: func(t *testing.T, r *rig, _ int64) {
			t.Helper()
			r.run(t, `INSERT INTO scheduler.installation (place) VALUES ('cluster 1, database 2')`)
		}, want: "the database has moved: it ran in cluster 1, database 2"},
		"recovered": {seen: 10 * time.Minute, before: func(t *testing.T, r *rig, _ int64) {
			t.Helper()
			r.run(t, `INSERT INTO scheduler.installation (place, timeline) SELECT place, timeline - 1 FROM scheduler.database_place() WHERE timeline > 1
				UNION ALL SELECT place, NULL FROM scheduler.database_place() WHERE timeline = 1`)
			r.run(t, `CREATE OR REPLACE FUNCTION scheduler.database_place(OUT place text, OUT timeline integer) LANGUAGE sql AS $$ SELECT i.place, 7 FROM scheduler.installation i $$`)
			r.run(t, `UPDATE scheduler.installation SET timeline = 6`)
		}, want: "the database was recovered (timeline 7 after 6)"},
		"failed over": {seen: 10 * time.Second, before: func(t *testing.T, r *rig, _ int64) {
			t.Helper()
			r.run(t, `INSERT INTO scheduler.installation (place, timeline) SELECT place, timeline FROM scheduler.database_place()`)
			r.run(t, `CREATE OR REPLACE FUNCTION scheduler.database_place(OUT place text, OUT timeline integer) LANGUAGE sql AS $$ SELECT i.place, 7 FROM scheduler.installation i $$`)
		}},
		"a server that does not tell where it runs": {before: func(t *testing.T, r *rig, _ int64) {
			t.Helper()
			r.run(t, `INSERT INTO scheduler.installation (place, timeline) VALUES ('cluster 1, database 2', 1)`)
			r.run(t, `CREATE OR REPLACE FUNCTION scheduler.database_place(OUT place text, OUT timeline integer) LANGUAGE sql AS $$ SELECT NULL::text, NULL::integer $$`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, overdue, _ := guarded(t)
			if c.seen > 0 {
				r.seen(t, c.seen)
			}
			if c.before != nil {
				c.before(t, r, overdue)
			}
			cfg := r.config(t)
			cfg.Guard = c.guard
			why := readiness(t, start(t, cfg))
			if (c.want != "") != held(t, r) || !strings.Contains(why, c.want) || (c.want == "") != (why == "") {
				t.Errorf("held %v, not ready: %q, want %q", held(t, r), why, c.want)
			}
		})
	}
}

// TestHeldUntilReleased holds two daemons back, whichever judged, and lets them
// go on with the release.
func TestHeldUntilReleased(t *testing.T) {
	t.Parallel()
	r, overdue, coming := guarded(t)
	r.seen(t, 72*time.Hour)
	first, second := start(t, r.config(t)), start(t, r.config(t))
	immediate := r.insert(t, "shop", "webhook", 0, nil)
	for _, e := range []*engine.Engine{first, second} {
		if why := readiness(t, e); !strings.HasPrefix(why, "held: no daemon's heartbeat for 72h") {
			t.Errorf("readiness %q", why)
		}
	}
	until(t, "planning to go on", func() bool {
		return get[bool](t, r, `SELECT EXISTS (SELECT FROM scheduler.pending_tasks WHERE campaign_id = $1)`, immediate)
	})
	got := list[string](t, r, `SELECT campaign_id || ' ' || on_release FROM scheduler.held`)
	want := []string{id(overdue) + " push at once", id(immediate) + " push at once", id(coming) + " push when due"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("scheduler.held (-want +got):\n%s", d)
	}
	if calls := r.pusher.seen(); len(calls) > 0 {
		t.Errorf("pushed while held: %v", calls)
	}
	if was, _, err := r.store.Release(t.Context(), false); err != nil || !was {
		t.Fatalf("release: %v, %v", was, err)
	}
	r.decided(t, immediate, 1)
	if got := r.decided(t, overdue, 1); got[0] != "succeeded" {
		t.Errorf("after the release: %s", got)
	}
	if was, _, err := r.store.Release(t.Context(), true); err != nil || was {
		t.Errorf("released twice: %v, %v", was, err)
	}
}

// TestHeldByHand holds a running daemon, and a guard that finds a reason of its
// own to tell it beside the operator's.
func TestHeldByHand(t *testing.T) {
	t.Parallel()
	r, overdue, _ := guarded(t)
	if held, err := r.store.HoldAll(t.Context(), "wrong template", "ann"); err != nil || !held {
		t.Fatalf("hold: %v, %v", held, err)
	}
	r.seen(t, 72*time.Hour)
	cfg := r.config(t)
	cfg.Metrics = engine.NewMetrics(nil)
	e := start(t, cfg)
	for _, want := range []string{"held: wrong template, held by ", " (ann); no daemon's heartbeat for 72h"} {
		if why := readiness(t, e); !strings.Contains(why, want) {
			t.Errorf("readiness %q, want %q in it", why, want)
		}
	}
	due := time.Now().Add(4 * time.Second).Truncate(time.Second)
	late := r.insert(t, "shop", "webhook", 1, fixed(due))
	until(t, "it to be late", func() bool {
		return get[bool](t, r, `SELECT clock_timestamp() > $1::timestamptz + interval '1 second'`, due)
	})
	if _, _, err := r.store.Release(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	r.decided(t, overdue, 1)
	r.decided(t, late, 1)
	until(t, "its lateness to be the hold's", func() bool { return causesOf(t, cfg.Metrics)["webhook hold"] == 1 })
	if held, err := r.store.HoldAll(t.Context(), "", ""); err != nil || !held {
		t.Fatalf("hold: %v, %v", held, err)
	}
	until(t, "the daemon to be held", func() bool { return strings.HasPrefix(readiness(t, e), "held: by hand") })
	if held, err := r.store.HoldAll(t.Context(), "again", ""); err != nil || held {
		t.Errorf("held twice: %v, %v", held, err)
	}
}

// TestReleaseSkipsOverdue holds what is overdue, beyond the cap too, to be
// missed and never pushed.
func TestReleaseSkipsOverdue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	no := r.app(t, "shop", "webhook", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 2`)
	var campaigns []int64
	for i := range 5 {
		campaigns = append(campaigns, r.insert(t, "shop", "webhook", 1, fixed(time.Now().Add(time.Duration(i-20)*time.Minute))))
	}
	plan(t, r.planner(t), no, time.Time{})
	r.seen(t, 72*time.Hour)
	e := start(t, r.config(t))
	if why := readiness(t, e); why == "" {
		t.Fatal("not held")
	}
	was, skipped, err := r.store.Release(t.Context(), true)
	if err != nil || !was || skipped.Missed != 2 {
		t.Fatalf("release: %v, %d skipped, %v; want 2, the rest is beyond the cap", was, skipped, err)
	}
	later := r.insert(t, "shop", "webhook", 0, nil)
	for _, c := range campaigns {
		if d := cmp.Diff([]string{"missed: overdue when the hold was released with --skip-overdue"}, r.decided(t, c, 1)); d != "" {
			t.Errorf("campaign %d (-want +got):\n%s", c, d)
		}
	}
	if got := r.decided(t, later, 1); got[0] != "succeeded" {
		t.Errorf("what came after the release: %s", got)
	}
	if calls := r.pusher.seen(); len(calls) != 1 {
		t.Errorf("%d calls, want the one after the release", len(calls))
	}
}

// TestSetBack sets the database back to before a daemon's last heartbeat, while
// the daemon is stopped and while it runs.
func TestSetBack(t *testing.T) {
	t.Parallel()
	const setBack = `UPDATE scheduler.daemons SET beats = 0`
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		r, _, coming := guarded(t)
		cfg := r.config(t)
		cfg.Guard.Dir = t.TempDir()
		stop(t, beaten(t, cfg))
		r.run(t, setBack)
		if why := readiness(t, start(t, r.config(t))); why != "" {
			t.Errorf("a daemon that remembers nothing: %s", why)
		}
		again := r.config(t)
		again.Guard.Dir = cfg.Guard.Dir
		if why := readiness(t, start(t, again)); !strings.Contains(why, "the database was set back") {
			t.Errorf("campaign %d is to come; readiness %q", coming, why)
		}
	})
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		r, _, _ := guarded(t)
		e := beaten(t, r.config(t))
		t.Cleanup(func() { stop(t, e) })
		r.run(t, setBack)
		until(t, "the hold", func() bool { return held(t, r) })
		until(t, "the daemon to see it", func() bool { return strings.Contains(readiness(t, e), "set back") })
	})
	t.Run("nothing to push", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		e := beaten(t, r.config(t))
		t.Cleanup(func() { stop(t, e) })
		r.run(t, setBack)
		until(t, "another lease", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.daemons`) == 2 })
		if held(t, r) {
			t.Error("held though there is nothing to push")
		}
	})
	t.Run("ruled on", func(t *testing.T) {
		t.Parallel()
		r, _, _ := guarded(t)
		cfg := r.config(t)
		cfg.Guard.Dir = t.TempDir()
		stop(t, beaten(t, cfg))
		r.run(t, setBack)
		r.run(t, `UPDATE scheduler.hold SET released_at = clock_timestamp()`)
		again := r.config(t)
		again.Guard.Dir = cfg.Guard.Dir
		if why := readiness(t, start(t, again)); why != "" {
			t.Errorf("held again for what an operator has ruled on: %s", why)
		}
	})
}

// beaten starts an engine that has written heartbeats and remembers them.
func beaten(t *testing.T, cfg engine.Config) *engine.Engine {
	t.Helper()
	e := engine.New(cfg)
	e.Start()
	until(t, "heartbeats", func() bool { return e.Beats() >= 2 })
	return e
}
