package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// spread inserts an immediate campaign of n one-target calls and a spread, and lets it begin.
func (r *rig) spread(t testing.TB, app string, n int, spread string, more ...any) int64 {
	t.Helper()
	id := r.insert(t, app, "alipay.single_send", 0, nil, append([]any{"status", "paused", "spread", spread}, more...)...)
	r.targets(t, id, n)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
	return id
}

// A beginning is when a delivery was to begin and when it began, in seconds since the
// first of its task was to.
type beginning struct {
	Ready, Sent float64
	Attempts    int
	Again       bool // its first claim was lost, and it has the time of another
}

// beginnings are those of a campaign's deliveries, in their order.
func (r *rig) beginnings(t testing.TB, campaign int64) []beginning {
	t.Helper()
	rows, _ := r.Query(t.Context(), `
		SELECT extract(epoch FROM s.ready_at - f.at)::float8, extract(epoch FROM s.sent_at - f.at)::float8, s.attempts, false
		  FROM scheduler.slices s, (SELECT min(ready_at) AS at FROM scheduler.slices WHERE campaign_id = $1) f
		 WHERE s.campaign_id = $1 AND s.sent_at IS NOT NULL ORDER BY s.slice_no`, campaign)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[beginning])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// spreadOut fails unless the deliveries were to begin so far apart at least, and none
// began before it was to.
func spreadOut(t testing.TB, apart float64, list []beginning) {
	t.Helper()
	for i, b := range list {
		if b.Again || b.Attempts > 1 { // a further try has a time of its own
			continue
		}
		if b.Sent < b.Ready-1e-5 {
			t.Errorf("delivery %d began at %.3f s, and was to begin at %.3f", i+1, b.Sent, b.Ready)
		}
		if i > 0 && !list[i-1].Again && list[i-1].Attempts == 1 && b.Ready < list[i-1].Ready+apart-1e-5 {
			t.Errorf("delivery %d was to begin %.3f s after the one before it, want %.3f", i+1, b.Ready-list[i-1].Ready, apart)
		}
	}
}

// A task's deliveries go out over the spread: none early, and the last by its end. Each
// is written as often as without a spread, and a campaign without one takes no time.
func TestSpreadGoesOutEvenly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "alipay", nil)
	startReady(t, r.config(t))
	const n, spread = 30, 6.0
	id := r.spread(t, "app", n, "6 seconds")
	plain := r.audience(t, "app", "alipay.single_send", 20)
	r.decided(t, plain, 1)
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got := r.beginnings(t, id)
	spreadOut(t, spread/n, got)
	if last := got[n-1]; last.Ready > spread || last.Sent > spread+5 { // the machine may be busy
		t.Errorf("the last was to begin at %.3f s, and began at %.3f", last.Ready, last.Sent)
	}
	if due := get[float64](t, r, `SELECT extract(epoch FROM min(s.ready_at) - min(k.due_at))::float8 FROM scheduler.slices s JOIN scheduler.tasks k ON k.id = s.task_id WHERE s.campaign_id = $1`, id); due != 0 {
		t.Errorf("the first was to begin %.3f s after its task was due", due)
	}
	for _, b := range r.beginnings(t, plain) {
		if b.Ready != 0 {
			t.Errorf("one of an audience without a spread was to begin at %.3f s", b.Ready)
		}
	}
	if writes := r.writes(t, 2*(n+20)); writes > 2*(n+20)+20 {
		t.Errorf("%d rows written for %d deliveries", writes, n+20)
	}
}

// When a task is late, what is left goes out at the distance that it had, not at once:
// after a kill, by whichever daemon takes over, after a pause, a hold and quiet hours.
func TestSpreadAfterAnInterruption(t *testing.T) {
	t.Parallel()
	const n, apart = 24, 0.25
	for name, c := range map[string]struct {
		stop, goOn string
		kill       bool
	}{
		"kill":  {kill: true},
		"pause": {stop: `UPDATE scheduler.campaigns SET status = 'paused'`, goOn: `UPDATE scheduler.campaigns SET status = 'active'`},
		"quiet hours": {
			stop: `UPDATE scheduler.apps SET quiet_from = date_trunc('minute', now() AT TIME ZONE time_zone - interval '1 minute')::time,
				quiet_until = date_trunc('minute', now() AT TIME ZONE time_zone + interval '1 hour')::time`,
			goOn: `UPDATE scheduler.apps SET quiet_from = NULL, quiet_until = NULL`,
		},
		"hold": {stop: `UPDATE scheduler.hold SET held_since = now(), reason = 'test'`, goOn: `UPDATE scheduler.hold SET held_since = NULL`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "alipay", nil)
			cfg, p := r.daemon(t)
			first := engine.New(cfg)
			first.Start()
			id := r.spread(t, "app", n, "6 seconds")
			until(t, "some to begin", func() bool { return p.count() >= 6 })
			if c.kill {
				first.Abandon()
			} else {
				defer func() { _ = first.Stop(context.WithoutCancel(t.Context())) }()
				r.run(t, c.stop)
			}
			until(t, "what has begun to end", func() bool {
				return c.kill || get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE status = 'running'`) == 0
			})
			before := get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE status NOT IN ('waiting', 'held')`)
			underWay := get[[]int](t, r, `SELECT coalesce(array_agg(slice_no), '{}') FROM scheduler.slices WHERE status = 'running'`)
			// A minute passes.
			r.run(t, `UPDATE scheduler.slices SET ready_at = ready_at - interval '1 minute', sent_at = sent_at - interval '1 minute'`)
			if c.kill {
				for range 2 { // who shares the rest
					cfg, _ := r.daemon(t)
					start(t, cfg)
				}
			} else {
				r.run(t, c.goOn)
			}
			r.decided(t, id, 1)
			at := r.beginnings(t, id)
			if len(at) != n {
				t.Fatalf("%d deliveries have begun", len(at))
			}
			for _, slice := range underWay {
				at[slice-1].Again = true
			}
			spreadOut(t, apart, at)
			rest := at[before:]
			// From when the first was to begin: on a busy machine it begins later.
			if took := rest[len(rest)-1].Sent - rest[0].Ready; took < apart*float64(len(rest)-1)-1 {
				t.Errorf("the %d that were left began within %.3f s, want %.3f", len(rest), took, apart*float64(len(rest)-1))
			}
		})
	}
}

// An app that is slower than a spread takes its time; the times of its deliveries are
// worked out anew a few times and no more.
func TestSpreadFasterThanTheApp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "alipay", &engine.App{CallsPerSecond: 15})
	startReady(t, r.config(t))
	const n = 180
	id := r.spread(t, "app", n, "1 second")
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	seen := r.pusher.seen()
	if took := seen[len(seen)-1].at.Sub(seen[0].at); len(seen) != n || took < 11*time.Second {
		t.Errorf("%d calls within %v, at 15 a second", len(seen), took)
	}
	if writes := r.writes(t, 2*n); writes > 4*n {
		t.Errorf("%d rows written for %d deliveries", writes, n)
	}
}

// A spread that is changed counts for the task that runs.
func TestSpreadOfARunningTaskChanges(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set    string
		within time.Duration // from the change on
	}{
		"none any more": {`spread = NULL`, 20 * time.Second},
		"shorter":       {`spread = '2 seconds'`, 20 * time.Second},
		"window":        {`spread = '8 seconds', catch_up_window = '8 seconds'`, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "alipay", nil)
			startReady(t, r.config(t))
			id := r.spread(t, "app", 12, "1 hour")
			until(t, "the first to begin", func() bool { return r.pusher.count() == 1 })
			r.run(t, `UPDATE scheduler.campaigns SET `+c.set+` WHERE id = $1`, id)
			changed := time.Now()
			got := r.decided(t, id, 1)
			if took := time.Since(changed); took > c.within {
				t.Errorf("it took %v from the change on", took)
			}
			if n := r.pusher.count(); n != 12 && !strings.HasPrefix(got[0], "failed") {
				t.Errorf("%d calls, decided %q", n, got)
			}
		})
	}
}

// The record says that the window's end has shortened a spread.
func TestShortenedSpreadIsSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "alipay", nil)
	startReady(t, r.config(t))
	id := r.spread(t, "app", 5, "3 seconds", "catch_up_window", "3 seconds")
	want := []string{"succeeded: spread shortened by the end of the catch-up window: 5 of 5 deliveries within 00:00:02 in place of 00:00:03"}
	if diff := cmp.Diff(want, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An app's ceiling of targets holds for large audiences and for single calls, and is
// reached.
func TestTargetsPerSecond(t *testing.T) {
	t.Parallel()
	const ten = `{"targets": ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]}`
	for _, c := range []struct {
		name      string
		app       *engine.App
		campaigns int
		channel   string
		request   string
		targets   int // of each, stored
	}{
		{"an audience", &engine.App{TargetsPerSecond: 1000}, 1, "mpaas.push_multiple", `{}`, 3000},
		{"calls per second is lower", &engine.App{TargetsPerSecond: 100_000, CallsPerSecond: 10}, 1, "mpaas.push_multiple", `{}`, 3000},
		{"single calls with stored targets", &engine.App{TargetsPerSecond: 1000}, 30, "mpaas.push_multiple", `{}`, 100},
		{"single calls with targets in the request", &engine.App{TargetsPerSecond: 100}, 30, "mpaas.push_multiple", ten, 0},
		{"calls that the provider counts", &engine.App{TargetsPerSecond: 10}, 30, "mpaas.push_broadcast", `{}`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "mpaas", c.app)
			startReady(t, r.config(t))
			for range c.campaigns {
				id := r.insert(t, "app", c.channel, 0, nil, "status", "paused", "request", c.request)
				r.targets(t, id, c.targets)
			}
			r.run(t, `UPDATE scheduler.campaigns SET status = 'active'`)
			until(t, "all to be decided", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`) == c.campaigns })
			seen := r.pusher.seen()
			if len(seen) != 30 {
				t.Fatalf("%d calls, want 30", len(seen))
			}
			// Thirty calls, each a tenth of a second's, of which one begins ahead.
			if took := seen[29].at.Sub(seen[0].at); took < 2600*time.Millisecond || took > 8*time.Second {
				t.Errorf("30 calls began within %v, want 2.8 s", took)
			}
		})
	}
}

// The ceiling is a column of the app's row: a daemon sees a change with its next
// heartbeat, and while it stands one daemon alone makes the app's calls.
func TestTargetsPerSecondFollowsTheDatabase(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := &engine.App{}
	no := r.app(t, "app", "mpaas", app)
	r.run(t, `UPDATE scheduler.apps SET targets_per_second = 0.5`)
	startReady(t, r.config(t))
	until(t, "the bound to be known", app.Limited)
	id := r.audience(t, "app", "mpaas.push_multiple", 500) // 100 targets take 200 s
	until(t, "the first to begin", func() bool { return r.pusher.count() == 1 })
	r.run(t, `UPDATE scheduler.apps SET targets_per_second = NULL WHERE app_no = $1`, no)
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if app.Limited() {
		t.Error("it is still bounded")
	}
}

// A further try counts against the ceiling again.
func TestFurtherTriesCountAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", &engine.App{TargetsPerSecond: 1000})
	r.pusher.answers(func(_ context.Context, c call) dispatch.Outcome {
		if c.attempt == 1 {
			return notSent
		}
		return accepted
	})
	startReady(t, r.config(t))
	id := r.audience(t, "app", "mpaas.push_multiple", 1000)
	r.decided(t, id, 1)
	seen := r.pusher.seen()
	if took := seen[len(seen)-1].at.Sub(seen[0].at); len(seen) != 20 || took < 1500*time.Millisecond {
		t.Errorf("%d calls of 100 targets within %v, at 1000 targets a second", len(seen), took)
	}
}

// pacedDaemon is a daemon with apps of its own, whose bounds it learns.
func (r *rig) pacedDaemon(t testing.TB) (engine.Config, *pusher) {
	t.Helper()
	cfg, p := r.daemon(t)
	mine := make(map[int32]*engine.App)
	r.mu.Lock()
	for no := range r.apps {
		mine[no] = &engine.App{Pusher: p}
	}
	r.mu.Unlock()
	cfg.App = func(no int32) *engine.App { return mine[no] }
	cfg.LimitedApps = func() (out []int32) {
		for no, a := range mine {
			if a.Limited() {
				out = append(out, no)
			}
		}
		return out
	}
	return cfg, p
}

// Two daemons together keep an app's ceiling, and a task's spread.
func TestPaceOfTwoDaemons(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "paced", "mpaas", nil)
	r.app(t, "spread", "alipay", nil)
	r.run(t, `UPDATE scheduler.apps SET targets_per_second = 1000 WHERE app_id = 'paced'`)
	var pushers []*pusher
	for range 2 {
		cfg, p := r.pacedDaemon(t)
		pushers = append(pushers, p)
		startReady(t, cfg)
	}
	until(t, "both to know of each other", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.daemons WHERE beats > 2`) == 2 })
	paced := r.audience(t, "paced", "mpaas.push_multiple", 3000)
	spread := r.spread(t, "spread", 40, "4 seconds")
	r.decided(t, paced, 1)
	r.decided(t, spread, 1)
	var calls []call
	for _, p := range pushers {
		for _, c := range p.seen() {
			if c.campaign == paced {
				calls = append(calls, c)
			}
		}
	}
	slices.SortFunc(calls, func(a, b call) int { return a.at.Compare(b.at) })
	// Leaves are 2.9 s apart, and the first call may be slow. With a ceiling for each
	// daemon it would be 1.4 s.
	if took := calls[len(calls)-1].at.Sub(calls[0].at); len(calls) != 30 || took < 2*time.Second {
		t.Errorf("%d calls of 100 targets within %v, at 1000 targets a second", len(calls), took)
	}
	spreadOut(t, 0.1, r.beginnings(t, spread))
}
