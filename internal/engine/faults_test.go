package engine_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

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

// A campaign may be changed into one that cannot be pushed between the reading of
// its task and the claim. The claimed task has then no message: the daemon fell
// over it.
func TestRevisionThatCannotBePushedFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "mpaas", nil)
	cfg := r.config(t)
	cfg.Horizon = 20 * time.Second
	var first, other atomic.Int32
	reading, gate := make(chan struct{}), make(chan struct{})
	defer close(gate)
	cfg.Compile = func(c *store.Campaign) (*dispatch.Message, []dispatch.Problem) {
		if c.Channel == "mpaas.push_simple" {
			if other.Add(1) == 2 { // the planner is the first to compile it, then the reader
				close(reading)
				<-gate
			}
			return r.compile(c)
		}
		defer first.Add(1)
		return r.compile(c)
	}
	startReady(t, cfg)
	id := r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(time.Now().Add(6*time.Second)))
	until(t, "the task to be planned, and read to be begun", func() bool { return first.Load() >= 2 })
	// Nor does the reader, which would read the task anew.
	r.insert(t, "app", "mpaas.push_simple", 1, fixed(time.Now().Add(15*time.Second)))
	<-reading
	// No planner gets to see the change, which would reject it and take the task.
	planner, err := r.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the planner's lock", func() bool {
		var locked bool
		if err := planner.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM scheduler.engine_locks WHERE name = 'plan' AND app_no = $1 FOR UPDATE SKIP LOCKED)`, app).Scan(&locked); err != nil {
			t.Fatal(err)
		}
		return locked
	})
	r.run(t, `UPDATE scheduler.campaigns SET request = '{"bad": "worse"}' WHERE id = $1`, id)
	got := r.decided(t, id, 1)
	if err := planner.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"failed: invalid: bad: worse; request: must be better"}, got); diff != "" {
		t.Errorf("decided (-want +got):\n%s", diff)
	}
	if n := r.pusher.count(); n != 0 {
		t.Errorf("%d calls were made of a campaign that cannot be pushed", n)
	}
}

// To cut a large audience takes the database a while. Nothing else waits for it.
func TestSlicingHoldsUpNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	r.run(t, `CREATE VIEW audience.slow AS
		SELECT 'u1' AS target, NULL::jsonb AS template_key_value, NULL::jsonb AS extended_params FROM (SELECT pg_advisory_lock_shared(4711)) x`)
	gate, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Release()
	if _, err := gate.Exec(t.Context(), `SELECT pg_advisory_lock(4711)`); err != nil {
		t.Fatal(err)
	}
	start(t, r.config(t))
	var slow []int64
	for i := range 3 { // more than batches are begun at once
		slow = append(slow, r.insert(t, "app", "mpaas.push_multiple", 0, nil, "audience_view", "slow"))
		until(t, "the audience to be cut", func() bool {
			return get[int](t, r, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == i+1
		})
	}
	quick := r.insert(t, "app", "mpaas.push_broadcast", 0, nil)
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, quick, 1)); diff != "" {
		t.Errorf("decided (-want +got):\n%s", diff)
	}
	if _, err := gate.Exec(t.Context(), `SELECT pg_advisory_unlock(4711)`); err != nil {
		t.Fatal(err)
	}
	for _, id := range slow {
		if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
			t.Errorf("decided (-want +got):\n%s", diff)
		}
	}
}

// A task whose deliveries are stored makes no call of its own, and takes nothing
// of its app's bounds. It took leave to begin one and never gave it back, until
// the app stood still.
func TestStoredTasksTakeNoLeave(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", &engine.App{MaxInFlight: 1})
	start(t, r.config(t))
	for range 3 {
		id := r.insert(t, "app", "mpaas.push_multiple", 0, nil, "status", "paused")
		r.targets(t, id, 150)
		r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
		if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
			t.Fatalf("decided (-want +got):\n%s", diff)
		}
	}
}

// A daemon whose machine's clock was ahead asked, right after its start, for what
// it did not know to be given back, by its own clock. The request was slow, and
// took what was claimed meanwhile: that was pushed twice.
func TestNothingIsGivenBackByTheMachinesClock(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "mpaas", nil)
	e := engine.New(r.config(t))
	if err := e.Enlist(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := r.insert(t, "app", "mpaas.push_broadcast", 0, nil)
	task := get[int64](t, r, `INSERT INTO scheduler.pending_tasks (app_no, campaign_id, revision, origin, due_at, ready_at)
		VALUES ($1, $2, 1, 'immediate', now(), now()) RETURNING id`, app, id)
	if _, tasks, err := r.store.Claim(t.Context(), e.DaemonID(), time.Time{}, []int64{task}); err != nil || len(tasks) != 1 {
		t.Fatalf("claimed %v, %v", tasks, err)
	}
	r.run(t, `UPDATE scheduler.claims SET claimed_at = now() - interval '1 hour'`) // this machine is an hour ahead
	if err := e.GiveBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.claims`); n != 1 {
		t.Error("a claim was given back that may have been made since")
	}
}

// A push of unknown outcome is made again, and refused. That says nothing of the
// first, which may have been accepted; it was recorded as failed.
func TestRefusalAfterAnUnknownAttemptIsUnknown(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	r.pusher.answers(func(_ context.Context, c call) dispatch.Outcome {
		if c.attempt == 1 {
			return unknown
		}
		return permanent
	})
	start(t, r.config(t))
	id := r.insert(t, "app", "mpaas.push_broadcast", 0, nil, "resend_unknown", true)
	want := []string{"unknown: refused: E1: bad; an earlier attempt may have been taken"}
	if diff := cmp.Diff(want, r.decided(t, id, 1)); diff != "" {
		t.Errorf("decided (-want +got):\n%s", diff)
	}
}
