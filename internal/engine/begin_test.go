package engine_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

func TestImmediateCampaign(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	start(t, r.config(t))
	id := r.insert(t, "app", "webhook", 0, nil)
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	type record struct {
		Origin, RequestID, MessageID string
		Attempts, Deliveries, Done   int
		InOrder                      bool
	}
	var got record
	err := r.QueryRow(t.Context(), `SELECT origin, request_id, message_id, attempts, deliveries, deliveries_done,
		due_at <= started_at AND started_at <= sent_at AND decided_at IS NOT NULL FROM scheduler.tasks`).
		Scan(&got.Origin, &got.RequestID, &got.MessageID, &got.Attempts, &got.Deliveries, &got.Done, &got.InOrder)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(record{"immediate", "req-1", "msg-1", 1, 1, 1, true}, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	until(t, "the campaign to be finished", func() bool {
		return get[string](t, r, `SELECT status FROM scheduler.campaigns`) == "finished"
	})
	if calls := r.pusher.seen(); len(calls) != 1 || calls[0].msgKey == "" || calls[0].deliveryID == "" {
		t.Errorf("calls %+v", calls)
	}
}

// TestFinishedCampaignIsTriggered pushes once more what has had its day, as
// after a failure: the record and the campaign stay as they are.
func TestFinishedCampaignIsTriggered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	start(t, r.config(t))
	id := r.insert(t, "app", "webhook", 0, nil)
	until(t, "the campaign to be finished", func() bool {
		return get[string](t, r, `SELECT status FROM scheduler.campaigns`) == "finished"
	})
	r.run(t, `UPDATE scheduler.hold SET held_since = now(), reason = 'to look at it'`)
	if _, _, err := r.store.Trigger(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	if found := r.verify(t); len(found) > 0 {
		t.Errorf("verify, while it is pending: %q", found)
	}
	r.run(t, `UPDATE scheduler.hold SET held_since = NULL`)
	if diff := cmp.Diff([]string{"succeeded", "succeeded"}, r.decided(t, id, 2)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if found := r.verify(t); len(found) > 0 {
		t.Errorf("verify: %q", found)
	}
}

// On a busy machine the daemon's reckoning of the database's clock is not exact,
// and is set back when a better one is had. The record keeps its order.
func TestRecordedTimesAreInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	e := start(t, r.config(t))
	until(t, "the engine to be ready", func() bool { return ready(t, e) })
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for wrong := 100 * time.Millisecond; ctx.Err() == nil; wrong = -wrong {
			now := time.Now()
			e.Clock().Set(now.Add(wrong), now, now.Add(time.Microsecond))
			<-time.After(time.Millisecond)
		}
	})
	for range 100 { // some of them between two readings
		r.insert(t, "app", "webhook", 0, nil)
	}
	until(t, "all to be decided", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`) == 100 })
	stop()
	wg.Wait()
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks WHERE started_at < due_at OR sent_at < started_at`); n != 0 {
		t.Errorf("%d tasks began before they were due, or were sent before they began", n)
	}
}

func TestFixedTimeIsNeverEarly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	start(t, r.config(t))
	var ids []int64
	for i := range 20 {
		ids = append(ids, r.insert(t, "app", "webhook", 1, fixed(time.Now().Add(time.Duration(i%3)*time.Second))))
	}
	for _, id := range ids {
		if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks WHERE sent_at < due_at OR started_at < due_at`); n != 0 {
		t.Errorf("%d pushed early", n)
	}
}

func TestOutcomesBecomeDecisions(t *testing.T) {
	t.Parallel()
	always := func(o dispatch.Outcome) func(context.Context, call) dispatch.Outcome {
		return func(context.Context, call) dispatch.Outcome { return o }
	}
	first := func(n int, o dispatch.Outcome) func(context.Context, call) dispatch.Outcome {
		return func(_ context.Context, c call) dispatch.Outcome {
			if c.attempt <= n {
				return o
			}
			return accepted
		}
	}
	throttled := dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled, RetryAfter: time.Millisecond}
	const window = "4 seconds" // long enough for a first call on a busy machine
	cases := []struct {
		name    string
		answer  func(context.Context, call) dispatch.Outcome
		columns []any
		want    string
		calls   int // 0: any number
	}{
		{name: "accepted", answer: always(accepted), want: "succeeded", calls: 1},
		{name: "permanent", answer: always(permanent), want: "failed: refused: E1: bad", calls: 1},
		{name: "unknown", answer: always(unknown), want: "unknown: timeout: no answer", calls: 1},
		{name: "not sent, then accepted", answer: first(3, notSent), want: "succeeded", calls: 4},
		{name: "not sent, then permanent", answer: func(_ context.Context, c call) dispatch.Outcome {
			if c.attempt == 1 {
				return notSent
			}
			return permanent
		}, want: "failed: refused: E1: bad", calls: 2},
		{name: "throttled, then accepted", answer: first(1, throttled), want: "succeeded", calls: 2},
		{
			name: "not sent until the window closes", answer: always(notSent), columns: []any{"catch_up_window", window},
			want: "missed: not sent within the catch-up window: connect: refused",
		},
		{name: "unknown, resent", answer: first(2, unknown), columns: []any{"resend_unknown", true}, want: "succeeded", calls: 3},
		{
			name: "unknown until the window closes", answer: always(unknown), columns: []any{"resend_unknown", true, "catch_up_window", window},
			want: "unknown: ",
		},
		{
			name: "unknown, then not sent until the window closes", answer: func(_ context.Context, c call) dispatch.Outcome {
				if c.attempt == 1 {
					return unknown
				}
				return notSent
			}, columns: []any{"resend_unknown", true, "catch_up_window", window},
			want: "unknown: ",
		},
		{name: "a bug in the adapter", answer: func(context.Context, call) dispatch.Outcome { panic("oops") }, want: "unknown: bad answer: the adapter panicked, which is a fault of this program", calls: 1},
	}
	r := newRig(t)
	pushers := make(map[string]*pusher)
	for _, c := range cases {
		pushers[c.name] = r.tenant(t, c.name, "webhook")
		pushers[c.name].answers(c.answer)
	}
	start(t, r.config(t))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			id := r.insert(t, c.name, "webhook", 0, nil, c.columns...)
			got := r.decided(t, id, 1)
			if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("decisions %q, want %q", got, c.want)
			}
			calls := pushers[c.name].seen()
			if c.calls != 0 && len(calls) != c.calls {
				t.Errorf("%d calls, want %d", len(calls), c.calls)
			}
			for _, again := range calls {
				if again.msgKey != calls[0].msgKey || again.deliveryID != calls[0].deliveryID {
					t.Errorf("another attempt has keys of its own: %+v and %+v", calls[0], again)
				}
			}
			if n := get[int](t, r, `SELECT attempts FROM scheduler.tasks WHERE campaign_id = $1`, id); n != len(calls) {
				t.Errorf("%d attempts recorded of %d calls", n, len(calls))
			}
			r.settled(t)
		})
	}
}

// settled fails unless nothing is left of running tasks.
func (r *rig) settled(t testing.TB) {
	t.Helper()
	until(t, "claims and running tasks to go", func() bool {
		return get[int](t, r, `SELECT (SELECT count(*) FROM scheduler.claims) + (SELECT count(*) FROM scheduler.running_tasks)
			+ (SELECT count(*) FROM scheduler.slices WHERE finished_at IS NULL)`) == 0
	})
}

func TestMisfirePolicies(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string][]string{
		"all":    {"missed: older than", "succeeded", "succeeded", "succeeded"},
		"latest": {"missed: older than", "missed: misfire policy latest", "missed: misfire policy latest", "succeeded"},
		"skip":   {"missed: older than", "missed: misfire policy skip", "missed: misfire policy skip", "missed: misfire policy skip"},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "webhook", nil)
			now := time.Now().UTC()
			id := r.insert(t, "app", "webhook", 2, daily(now, 2, "12:00:00"), "misfire_policy", policy, "catch_up_window", "75:00:00", "status", "paused")
			// Four occurrences are past: 79, 55, 31 and 7 hours ago.
			begin := now.Add(-79 * time.Hour)
			r.backdate(t, id, daily(begin, 4, begin.Format(time.TimeOnly)), begin.Add(-time.Minute))
			r.run(t, `UPDATE scheduler.campaigns SET status = 'active'`)
			start(t, r.config(t))
			got := r.decided(t, id, 4)
			if !slices.EqualFunc(got, want, strings.HasPrefix) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// A campaign with several times a day is late like any other: the catch-up window
// and the policy see its occurrences, not its days.
func TestMisfirePoliciesOfSeveralTimesADay(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string][]string{
		"all":    {"missed: older than", "succeeded", "succeeded", "succeeded"},
		"latest": {"missed: older than", "missed: misfire policy latest", "missed: misfire policy latest", "succeeded"},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "webhook", nil)
			now := time.Now().UTC()
			id := r.insert(t, "app", "webhook", 2, daily(now, 2, "12:00:00"), "misfire_policy", policy, "catch_up_window", "03:30:00", "status", "paused",
				"time_zone", "UTC", "times", []string{"12:00:00"})
			// Four occurrences are past: 4, 3, 2 and 1 hours ago.
			var times []string
			for ago := 1; ago <= 4; ago++ {
				times = append(times, now.Add(-time.Duration(ago)*time.Hour).Format(time.TimeOnly))
			}
			written := now.Add(-5 * time.Hour)
			r.backdate(t, id, daily(written, 3, "12:00:00"), written) // it may not start before the day it is written
			r.run(t, `UPDATE scheduler.campaigns SET status = 'active'`)
			r.without(t, `UPDATE scheduler.campaigns SET times = $1`, times)
			start(t, r.config(t))
			got := r.decided(t, id, 4)
			if !slices.EqualFunc(got, want, strings.HasPrefix) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func TestCatchUpWindow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	now := time.Now()
	inside := r.insert(t, "app", "webhook", 1, fixed(now.Add(-30*time.Minute)), "misfire_policy", "latest")
	outside := r.insert(t, "app", "webhook", 1, fixed(now.Add(time.Hour)))
	r.backdate(t, outside, fixed(now.Add(-2*time.Hour)), now.Add(-3*time.Hour))
	start(t, r.config(t))
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, inside, 1)); diff != "" {
		t.Errorf("inside (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"missed: older than the catch-up window of 1h0m0s"}, r.decided(t, outside, 1)); diff != "" {
		t.Errorf("outside (-want +got):\n%s", diff)
	}
}

// targets adds targets t0001, t0002, ... to a campaign.
func (r *rig) targets(t testing.TB, campaign int64, n int) {
	t.Helper()
	r.run(t, `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, 't' || to_char(g, 'FM0000000') FROM generate_series(1, $2) g`, campaign, n)
}

// reached lists the targets of all accepted calls, sorted.
func (r *rig) reached(t testing.TB, campaign int64) []string {
	t.Helper()
	var out []string
	for _, c := range r.pusher.seen() {
		if c.campaign == campaign {
			out = append(out, c.targets...)
		}
	}
	slices.Sort(out)
	return out
}

func names(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("t%07d", i+1))
	}
	return out
}

func TestTargets(t *testing.T) {
	t.Parallel()
	add := func(n int) string {
		return fmt.Sprintf(`INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, 't' || to_char(g, 'FM0000000') FROM generate_series(1, %d) g`, n)
	}
	cases := []struct {
		name    string
		channel string
		request string
		before  int    // targets there before the engine sees the campaign
		after   string // what an author does between that and the push
		want    string
		reached []string
		calls   int
	}{
		{"inline", "mpaas.push_multiple", `{"targets": ["a", "b"]}`, 0, "", "succeeded", []string{"a", "b"}, 1},
		{"stored", "mpaas.push_multiple", `{}`, 100, "", "succeeded", names(100), 1},
		{"sliced", "mpaas.push_multiple", `{}`, 250, "", "succeeded", names(250), 3},
		{"one a call", "alipay.single_send", `{}`, 12, "", "succeeded", names(12), 12},
		{"empty audience", "mpaas.push_multiple", `{}`, 0, "", "succeeded: empty audience", nil, 0},
		{"broadcast", "mpaas.push_broadcast", `{}`, 0, "", "succeeded", nil, 1},
		{"added later", "mpaas.push_multiple", `{}`, 0, add(3), "succeeded", names(3), 1},
		{"many added later", "mpaas.push_multiple", `{}`, 0, add(120), "succeeded", names(120), 2},
		{"webhook without targets", "webhook", `{}`, 0, "", "succeeded", nil, 1},
		{"webhook with targets", "webhook", `{}`, 130, "", "succeeded", names(130), 2},
		{"webhook, added later", "webhook", `{}`, 0, add(3), "succeeded", names(3), 1},
		{"webhook, many added later", "webhook", `{}`, 0, add(130), "succeeded", names(130), 2},
		{
			"deleted before the push", "mpaas.push_multiple", `{}`, 3,
			`DELETE FROM scheduler.campaign_targets WHERE campaign_id = $1 AND target = 't0000002'`,
			"succeeded",
			[]string{"t0000001", "t0000003"},
			1,
		},
		{
			"all deleted before the push", "mpaas.push_multiple", `{}`, 3,
			`DELETE FROM scheduler.campaign_targets WHERE campaign_id = $1`,
			"succeeded: empty audience", nil, 0,
		},
		{
			"all of many deleted before the push", "mpaas.push_multiple", `{}`, 300,
			`DELETE FROM scheduler.campaign_targets WHERE campaign_id = $1`,
			"succeeded: empty audience", nil, 0,
		},
	}
	r := newRig(t)
	pushers := make(map[string]*pusher)
	for _, c := range cases {
		provider, _, _ := strings.Cut(c.channel, ".")
		pushers[c.name] = r.tenant(t, c.name, provider)
	}
	cfg := r.config(t)
	cfg.Horizon = 30 * time.Second // read, compiled and cached at once
	start(t, cfg)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			insert := func(due time.Time) int64 {
				id := r.insert(t, c.name, c.channel, 1, fixed(due), "request", c.request, "status", "paused")
				r.targets(t, id, c.before)
				r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
				return id
			}
			var id int64
			if c.after == "" {
				id = insert(time.Now().Add(time.Second))
			}
			for ahead, changed := 5*time.Second, c.after == ""; !changed; ahead *= 2 { // a busy machine may take longer than that
				due := time.Now().Add(ahead)
				id = insert(due)
				until(t, "the task to be planned", func() bool {
					return get[bool](t, r, `SELECT EXISTS (SELECT FROM scheduler.tasks WHERE campaign_id = $1)`, id)
				})
				<-time.After(time.Until(due) / 2) // for the daemon to have read it; sooner or later must not matter
				r.run(t, c.after, id)
				changed = get[bool](t, r, `SELECT EXISTS (SELECT FROM scheduler.pending_tasks WHERE campaign_id = $1)`, id)
			}
			if diff := cmp.Diff([]string{c.want}, r.decided(t, id, 1)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.reached, slices.Sorted(slices.Values(pushers[c.name].reached()))); diff != "" {
				t.Errorf("reached (-want +got):\n%s", diff)
			}
			if n := pushers[c.name].count(); n != c.calls {
				t.Errorf("%d calls, want %d", n, c.calls)
			}
			if n := get[int](t, r, `SELECT targets FROM scheduler.tasks WHERE campaign_id = $1`, id); n != len(c.reached) {
				t.Errorf("%d targets recorded, want %d", n, len(c.reached))
			}
			r.settled(t)
		})
	}
}

// deliveriesThatWait returns a campaign with three deliveries, none of which may
// begin before release.
func deliveriesThatWait(t *testing.T) (r *rig, id int64, release func()) {
	t.Helper()
	r = newRig(t)
	r.app(t, "app", "mpaas", &engine.App{MaxInFlight: 1})
	begun, release := block(r.pusher, accepted)
	start(t, r.config(t))
	r.insert(t, "app", "mpaas.push_broadcast", 0, nil)
	until(t, "the only call that may be under way", func() bool { return begun.Load() == 1 })
	id = r.insert(t, "app", "mpaas.push_multiple", 0, nil, "status", "paused")
	r.targets(t, id, 250)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
	until(t, "its deliveries to wait", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.slices`) == 3 })
	return r, id, release
}

// A task whose targets are all gone before any of its deliveries was sent has
// reached nobody, and says so.
func TestAudienceThatIsGoneBeforeItsDeliveries(t *testing.T) {
	t.Parallel()
	r, id, release := deliveriesThatWait(t)
	r.run(t, `DELETE FROM scheduler.campaign_targets WHERE campaign_id = $1`, id)
	release()
	if diff := cmp.Diff([]string{"succeeded: empty audience"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(r.reached(t, id)); n > 0 {
		t.Errorf("reached %d targets", n)
	}
}

// deleteAsTargetsAreRead deletes a campaign while the daemon waits for its
// targets, which begin has it ask for.
func (r *rig) deleteAsTargetsAreRead(t *testing.T, id int64, begin func()) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), r, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `LOCK TABLE scheduler.campaign_targets`); err != nil {
			return err
		}
		begin()
		until(t, "the targets to be asked for", func() bool {
			return get[bool](t, r, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'scheduler.campaign_targets'::regclass)`)
		})
		_, err := tx.Exec(t.Context(), `DELETE FROM scheduler.campaigns WHERE id = $1`, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A campaign that is deleted between the begin of a delivery and the look at its
// targets takes the delivery with it: nothing was accepted.
func TestCampaignThatIsDeletedBeforeItsTargetsAreRead(t *testing.T) {
	t.Parallel()
	r, id, release := deliveriesThatWait(t)
	r.deleteAsTargetsAreRead(t, id, release)
	want := []string{"cancelled: 0 of 3 deliveries accepted, 0 failed, 0 unknown, 3 cancelled, 0 missed; first: campaign deleted"}
	if diff := cmp.Diff(want, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The same of a task with one call: it is not a success with nobody in it.
func TestCampaignThatIsDeletedBetweenItsClaimAndItsTargets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	r.run(t, `CREATE FUNCTION delete_campaign() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM scheduler.campaigns; RETURN NULL; END'`)
	r.run(t, `CREATE TRIGGER delete_campaign AFTER INSERT ON scheduler.claims FOR EACH ROW EXECUTE FUNCTION delete_campaign()`)
	start(t, r.config(t))
	id := r.insert(t, "app", "mpaas.push_multiple", 1, fixed(time.Now().Add(2*time.Second)), "status", "paused")
	r.targets(t, id, 1)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active'`)
	if diff := cmp.Diff([]string{"cancelled: campaign deleted"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := r.pusher.count(); n > 0 {
		t.Errorf("%d calls, want none", n)
	}
	r.settled(t)
}

func TestMessageKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	start(t, r.config(t))
	id := r.insert(t, "app", "mpaas.push_multiple", 1, fixed(time.Now().Add(time.Second)))
	r.run(t, `INSERT INTO scheduler.campaign_targets (campaign_id, target, msg_key) VALUES ($1, 'a', NULL), ($1, 'b', 'mine')`, id)
	r.decided(t, id, 1)
	due := get[time.Time](t, r, `SELECT due_at FROM scheduler.tasks`)
	calls := r.pusher.seen()
	keys := r.keys(t)
	want := []string{keys.Message(id, due, "a", ""), keys.Message(id, due, "b", "mine")}
	if diff := cmp.Diff(want, calls[0].keys); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if keys.Message(id, due, "a", "") == keys.Message(id, due.Add(time.Second), "a", "") ||
		keys.Message(id, due, "b", "mine") == keys.Message(id, due.Add(time.Second), "b", "mine") {
		t.Error("two occurrences share a key")
	}
}

func (r *rig) keys(t testing.TB) engine.Keys {
	t.Helper()
	k, err := r.store.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return engine.Keys{Installation: k.Installation, Campaigns: k.Campaigns, Tasks: k.Tasks}
}

// Two installations on one provider's app never send the same key for different
// messages, though campaigns and tasks have the same numbers and due times.
func TestKeysOfTwoInstallationsDiffer(t *testing.T) {
	t.Parallel()
	var sent [2]call
	at := time.Now().Add(2 * time.Second)
	for i := range sent {
		r := newRig(t)
		r.app(t, "app", "mpaas", nil)
		start(t, r.config(t))
		id := r.insert(t, "app", "mpaas.push_multiple", 1, fixed(at))
		r.run(t, `INSERT INTO scheduler.campaign_targets (campaign_id, target, msg_key) VALUES ($1, 'a', NULL), ($1, 'b', 'mine')`, id)
		r.decided(t, id, 1)
		sent[i] = r.pusher.seen()[0]
		if n := len(sent[i].deliveryID); n > 32 {
			t.Errorf("a delivery id of %d characters", n)
		}
	}
	for i, key := range sent[0].keys {
		if sent[1].keys[i] == key {
			t.Errorf("both sent the key %s", key)
		}
	}
	if sent[0].msgKey == sent[1].msgKey || sent[0].deliveryID == sent[1].deliveryID {
		t.Errorf("both sent %s, %s", sent[0].msgKey, sent[0].deliveryID)
	}
}

// What was sent before the installation had a key of its own keeps its keys, so
// that what is sent again is known for the same.
func TestKeysStayAcrossTheUpgrade(t *testing.T) {
	t.Parallel()
	k := engine.Keys{Installation: "0123456789", Campaigns: 7, Tasks: 70}
	at := time.UnixMicro(36)
	for got, want := range map[string]string{
		k.Message(7, at, "", ""): "c7-10", k.Message(8, at, "", ""): "c8i0123456789-10", k.Message(7, at, "b", "mine"): "mine-7-10",
		k.Message(8, at, "b", "mine"): "mine-8i0123456789-10", k.Delivery(70, 1): "t1y-1", k.Delivery(71, 1): "t1z-1-0123456789",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if n := len(k.Delivery(math.MaxInt64, 1_000_000)); n > 32 {
		t.Errorf("a delivery id of %d characters", n)
	}
}

func TestAudienceView(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	r.run(t, `CREATE SCHEMA IF NOT EXISTS audience`)
	r.run(t, `CREATE VIEW audience.due AS SELECT 't' || to_char(g, 'FM0000000') AS target, jsonb_build_object('n', g) AS template_key_value,
		NULL::jsonb AS extended_params FROM generate_series(1, 120) g`)
	start(t, r.config(t))
	id := r.insert(t, "app", "mpaas.push_multiple", 0, nil, "audience_view", "due")
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(names(120), r.reached(t, id)); diff != "" {
		t.Errorf("reached (-want +got):\n%s", diff)
	}
}

// TestBrokenAudienceView decides at once what to try again would not fix, and
// says what is wrong; an error that may pass is waited out.
func TestBrokenAudienceView(t *testing.T) {
	t.Parallel()
	const whole = `SELECT 'a'::text AS target, NULL::jsonb AS template_key_value, NULL::jsonb AS extended_params`
	for name, c := range map[string]struct{ view, want string }{
		"missing":        {``, `failed: audience view due: relation "audience.due" does not exist (SQLSTATE 42P01)`},
		"without column": {`CREATE VIEW audience.due AS SELECT 'a'::text AS target`, `failed: audience view due: column "template_key_value" does not exist (SQLSTATE 42703)`},
		"bad data":       {`CREATE VIEW audience.due AS ` + whole + ` WHERE 1 / extract(epoch FROM now() - now()) > 0`, `failed: audience view due: division by zero (SQLSTATE 22012)`},
		"soon right": {`CREATE SEQUENCE public.times; CREATE FUNCTION public.later() RETURNS boolean LANGUAGE plpgsql AS $$
			BEGIN IF nextval('public.times') < 2 THEN RAISE 'not yet'; END IF; RETURN true; END $$;
			CREATE VIEW audience.due AS ` + whole + ` WHERE public.later()`, `succeeded`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.app(t, "app", "mpaas", nil)
			r.run(t, c.view)
			start(t, r.config(t))
			id := r.insert(t, "app", "mpaas.push_multiple", 0, nil, "audience_view", "due")
			if diff := cmp.Diff([]string{c.want}, r.decided(t, id, 1)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if found := r.verify(t); len(found) > 0 {
				t.Errorf("verify: %q", found)
			}
		})
	}
}

// What is paused or cancelled while it waits for another attempt is not tried
// again.
func TestPauseAndCancelHoldRetries(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	r.pusher.answers(func(context.Context, call) dispatch.Outcome { return notSent })
	start(t, r.config(t))
	paused, cancelled := r.insert(t, "app", "webhook", 0, nil), r.insert(t, "app", "webhook", 0, nil)
	until(t, "both to be tried twice", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.slices WHERE attempts >= 2`) == 2
	})
	r.run(t, `UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`, paused)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, cancelled)
	got := r.decided(t, cancelled, 1)
	if diff := cmp.Diff([]string{"cancelled: campaign cancelled"}, got); diff != "" {
		t.Errorf("cancelled (-want +got):\n%s", diff)
	}
	until(t, "the paused one to be held", func() bool {
		return get[string](t, r, `SELECT status::text FROM scheduler.slices WHERE campaign_id = $1`, paused) == "held"
	})
	r.pusher.answers(nil)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, paused)
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, paused, 1)); diff != "" {
		t.Errorf("resumed (-want +got):\n%s", diff)
	}
}

func TestRejectedCampaignIsNotPushed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	start(t, r.config(t))
	id := r.insert(t, "app", "webhook", 0, nil, "request", `{"bad": "no"}`)
	until(t, "the campaign to be rejected", func() bool {
		return get[string](t, r, `SELECT status FROM scheduler.campaigns WHERE id = $1`, id) == "rejected"
	})
	r.run(t, `UPDATE scheduler.campaigns SET request = '{}' WHERE id = $1`, id)
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("fixed (-want +got):\n%s", diff)
	}
	if n := r.pusher.count(); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// A change whose notification is lost is found by polling.
func TestLostNotification(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	start(t, r.config(t))
	var id int64
	err := pgx.BeginFunc(t.Context(), r, func(tx pgx.Tx) error {
		// Without the trigger that notifies; what it writes is written here.
		if _, err := tx.Exec(t.Context(), `ALTER TABLE scheduler.campaigns DISABLE TRIGGER campaigns_inserted`); err != nil {
			return err
		}
		err := tx.QueryRow(t.Context(), `INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('n', 'app', 'webhook') RETURNING id`).Scan(&id)
		if err != nil {
			return err
		}
		_, err = tx.Exec(t.Context(), `INSERT INTO scheduler.campaign_changes (app_no, campaign_id) SELECT app_no, id FROM scheduler.campaigns`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"succeeded"}, r.decided(t, id, 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Far more fall due in one second than may be pending at once; they all follow.
func TestCapDelaysStoringNotPushing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 10`)
	start(t, r.config(t))
	start(t, r.config(t))
	r.run(t, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content)
		SELECT 'n', 'app', 'webhook', 1, $1::jsonb FROM generate_series(1, 500)`, fixed(time.Now().Add(3*time.Second)))
	until(t, "all to succeed", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'succeeded'`) == 500
	})
	if n := r.pusher.count(); n != 500 {
		t.Errorf("%d calls", n)
	}
}
