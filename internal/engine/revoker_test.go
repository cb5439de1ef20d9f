package engine_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// A taker is a push API that takes messages back.
type taker struct {
	*pusher
	mu      sync.Mutex
	asked   []dispatch.Revocation
	outcome []dispatch.Outcome // of each call in turn; the last one stays
}

func (k *taker) Revoke(_ context.Context, r *dispatch.Revocation) dispatch.Outcome {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, *r)
	return k.outcome[min(len(k.asked), len(k.outcome))-1]
}

// revoked pushes a campaign now, has it revoked and returns what was recorded.
func revoked(t *testing.T, r *rig, push dispatch.Pusher, note string) (task int64, recorded []string) {
	t.Helper()
	app := &engine.App{}
	r.app(t, "app", "mpaas", app)
	app.Pusher = push
	start(t, r.config(t))
	id := r.insert(t, "app", "mpaas.push_broadcast", 0, nil)
	r.decided(t, id, 1)
	task = get[int64](t, r, `SELECT id FROM scheduler.decided_tasks WHERE campaign_id = $1`, id)
	before := get[string](t, r, `SELECT to_jsonb(d)::text FROM scheduler.decided_tasks d WHERE id = $1`, task)
	if n := get[int64](t, r, `SELECT scheduler.revoke_task($1, $2)`, task, note); n != 1 {
		t.Errorf("%d deliveries to revoke, want 1", n)
	}
	if n := get[int64](t, r, `SELECT scheduler.revoke_task($1, $2)`, task, "again"); n != 0 {
		t.Errorf("%d deliveries more by asking again", n)
	}
	until(t, "the revocation to end", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.revocation_calls WHERE finished_at IS NULL`) == 0
	})
	if after := get[string](t, r, `SELECT to_jsonb(d)::text FROM scheduler.decided_tasks d WHERE id = $1`, task); after != before {
		t.Errorf("the decision changed from %s to %s", before, after)
	}
	return task, list[string](t, r, `SELECT concat_ws(' ', status, attempts, reason, code) FROM scheduler.revocation_calls`)
}

// Each answer is recorded by delivery, what certainly failed to arrive is asked
// again, and no decision changes.
func TestRevocationIsRecorded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		outcomes []dispatch.Outcome
		want     string
	}{
		"accepted":      {[]dispatch.Outcome{{Class: dispatch.Accepted, Code: "OK"}}, "revoked 1 OK"},
		"refused":       {[]dispatch.Outcome{{Class: dispatch.Permanent, Reason: dispatch.ReasonRefused, Code: "3001"}}, "refused 1 refused 3001"},
		"not sent once": {[]dispatch.Outcome{notSent, {Class: dispatch.Accepted, Code: "OK"}}, "revoked 2 OK"},
		"unknown once":  {[]dispatch.Outcome{unknown, {Class: dispatch.Accepted, Code: "OK"}}, "revoked 2 OK"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			k := &taker{pusher: r.pusher, outcome: tt.outcomes}
			_, got := revoked(t, r, k, "wrong text")
			if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
				t.Error(diff)
			}
			if a := k.asked[0]; a.DeliveryID == "" || a.Target != "" {
				t.Errorf("asked: %+v", a)
			}
			if note := get[string](t, r, `SELECT note || ' by ' || requested_by FROM scheduler.revocations`); note != "wrong text by postgres" {
				t.Errorf("audit: %s", note)
			}
		})
	}
}

// A panic in the call is told of, and ends the revocation.
func TestRevocationWhoseCallPanics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	logs := &lines{}
	r.log = slog.New(slog.NewTextHandler(logs, nil))
	_, got := revoked(t, r, panicking{r.pusher}, "")
	if diff := cmp.Diff([]string{"unknown 1 a fault of this program during the call"}, got); diff != "" {
		t.Error(diff)
	}
	if n := strings.Count(logs.String(), "where=call"); n != 1 {
		t.Errorf("%d faults in the log, want 1", n)
	}
}

// panicking is a push API whose adapter cannot take messages back.
type panicking struct{ *pusher }

func (panicking) Revoke(context.Context, *dispatch.Revocation) dispatch.Outcome { panic("oops") }

func TestRevocationWhereTheProviderHasNone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, got := revoked(t, r, r.pusher, "")
	if diff := cmp.Diff([]string{"unsupported 1 the provider takes no push back"}, got); diff != "" {
		t.Error(diff)
	}
}

// A daemon that was killed in the middle of the call leaves its lease, after
// which another one calls again.
func TestRevocationGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := &taker{pusher: r.pusher, outcome: []dispatch.Outcome{accepted}}
	task, _ := revoked(t, r, k, "")
	s := r.open(t)
	r.run(t, `UPDATE scheduler.revocation_calls SET status = 'waiting', finished_at = NULL, ready_at = clock_timestamp() + interval '1 hour' WHERE task_id = $1`, task) // taken, and lost
	if calls, err := s.TakeRevocations(t.Context(), time.Minute, 10, 10); err != nil || len(calls) != 0 {
		t.Errorf("taken within the lease: %v, %v", calls, err)
	}
	r.run(t, `UPDATE scheduler.revocation_calls SET ready_at = clock_timestamp()`)
	until(t, "the second call", func() bool {
		return get[string](t, r, `SELECT status || attempts FROM scheduler.revocation_calls`) == "revoked2"
	})
}

// stuck is a push API that does not answer who wants something back.
type stuck struct{ *pusher }

func (stuck) Revoke(ctx context.Context, _ *dispatch.Revocation) dispatch.Outcome {
	<-ctx.Done()
	return unknown
}

// TestRevocationsKeepNobodyOut has much taken back of an app whose provider does
// not answer: another app's is taken back all the same.
func TestRevocationsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	flood, honest := &engine.App{}, &engine.App{}
	r.app(t, "flood", "mpaas", flood)
	r.app(t, "honest", "mpaas", honest)
	flood.Pusher, honest.Pusher = stuck{r.pusher}, &taker{pusher: r.pusher, outcome: []dispatch.Outcome{accepted}}
	r.run(t, `UPDATE scheduler.hold SET held_since = now(), reason = 'test'`)
	task := func(app string) int64 {
		id := r.insert(t, app, "mpaas.push_broadcast", 0, nil)
		return get[int64](t, r, `INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, attempts, slices, accepted, target_count)
			SELECT id + 1000, app_no, id, 1, 1, 'scheduled', 'succeeded', '1999-01-01', 1, 1, 1, 0 FROM scheduler.campaigns WHERE id = $1 RETURNING id`, id)
	}
	r.run(t, `SELECT scheduler.revoke_task($1, NULL, 'u' || g) FROM generate_series(1, 100) g`, task("flood"))
	wanted := task("honest")
	r.run(t, `SELECT scheduler.revoke_task($1)`, wanted)
	r.run(t, `UPDATE scheduler.hold SET held_since = NULL`)
	start(t, r.config(t))
	until(t, "the other app's revocation", func() bool {
		return get[string](t, r, `SELECT status FROM scheduler.revocation_calls WHERE task_id = $1`, wanted) == "revoked"
	})
}

func TestRevokeTaskRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "mpaas", nil)
	r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(time.Now().Add(time.Hour)))
	plan(t, r.planner(t), app, time.Time{})
	s := r.open(t)
	if _, err := s.RevokeTask(t.Context(), 999999, "", ""); err == nil {
		t.Error("a task that there is not")
	}
	if _, err := s.RevokeTask(t.Context(), get[int64](t, r, `SELECT id FROM scheduler.pending_tasks`), "", ""); err == nil {
		t.Error("a task of which nothing was sent")
	}
}
