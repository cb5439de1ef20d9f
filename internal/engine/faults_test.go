package engine_test

import "testing"

// What the chaos harness found in the engine (docs/reliability.md).

// A daemon that was frozen, lost its lease and took another may still have calls
// that were claimed under the old one and are about to begin. They were ruled on
// by then, so they must not.
func TestNoCallBeginsUnderALeaseThatWasLost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	e := start(t, r.config(t))
	until(t, "a lease", func() bool { return e.MayPush(e.DaemonID()) })
	lost := e.DaemonID()
	if _, err := r.Exec(t.Context(), `UPDATE scheduler.daemons SET ended_at = clock_timestamp() WHERE id = $1`, lost); err != nil {
		t.Fatal(err)
	}
	until(t, "another lease", func() bool { return e.DaemonID() != lost && e.MayPush(e.DaemonID()) })
	if e.MayPush(lost) {
		t.Error("a call that was claimed under the lost lease may begin")
	}
}

// robfig/cron sleeps until a time of the wall clock. Where that was put back by
// minutes, the heartbeat stood still for as long, and the lease was lost.
func TestHeartBeatsOnWhenCronStandsStill(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	e := start(t, r.config(t))
	beats := func() int { return get[int](t, r, `SELECT coalesce(max(beats), 0) FROM scheduler.daemons`) }
	until(t, "a heartbeat", func() bool { return beats() > 0 })
	e.HaltCron()
	n := beats()
	until(t, "heartbeats after cron stood still", func() bool { return beats() > n+3 })
}
