package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// pending are the due times of an app's scheduled pending tasks, earliest first.
func (r *rig) pending(t testing.TB, app int32) []time.Time {
	t.Helper()
	return list[time.Time](t, r, `SELECT due_at FROM scheduler.pending_tasks WHERE app_no = $1 AND slot IS NOT NULL ORDER BY due_at`, app)
}

// earliest works out anew, from the campaigns alone, what should be pending: the
// first occurrences that have no decision and are not running.
func (r *rig) earliest(t testing.TB, app int32, limit int) []time.Time {
	t.Helper()
	ids := list[int64](t, r, `SELECT id FROM scheduler.campaigns WHERE app_no = $1 AND status = 'active' AND strategy_type <> 0`, app)
	campaigns, err := r.store.Campaigns(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	var all []time.Time
	for i := range campaigns {
		s, err := engine.Parse(&campaigns[i])
		if err != nil {
			t.Fatal(err)
		}
		done := make(map[int64]bool)
		for _, at := range list[time.Time](t, r, `SELECT due_at FROM scheduler.tasks WHERE campaign_id = $1 AND status <> 'pending'`, campaigns[i].ID) {
			done[at.UnixMicro()] = true
		}
		for n, at := 0, engine.First(s); n < limit && !at.IsZero(); at = s.Next(at) {
			if !done[at.UnixMicro()] {
				all = append(all, at)
				n++
			}
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all[:min(len(all), limit)]
}

// Issue 2, point 4: many campaigns over several apps from several connections
// while three planners run; the cap holds at every moment, what is pending is
// the earliest, and nothing is lost when the tasks then run.
func TestManyCampaignsManyPlanners(t *testing.T) {
	t.Parallel()
	const campaigns, days, authors, planners, limit = 200, 60, 4, 3, 40
	r := newRig(t)
	var apps []int32
	for i := range 4 {
		apps = append(apps, r.app(t, fmt.Sprint("app", i), "webhook", nil))
	}
	r.run(t, `UPDATE scheduler.apps SET pending_limit = $1`, limit)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var busy, inserting sync.WaitGroup
	var samples atomic.Int64
	busy.Go(func() { r.sampleCap(ctx, t, limit, &samples) })
	for range planners {
		p := r.planner(t)
		busy.Go(func() {
			for ctx.Err() == nil {
				if _, err := p.PlanApp(ctx, apps[rand.IntN(len(apps))], time.Time{}); err != nil && ctx.Err() == nil {
					t.Errorf("plan: %v", err)
				}
			}
		})
	}
	tomorrow := time.Now().UTC().AddDate(0, 0, 1)
	for author := range authors {
		inserting.Go(func() {
			for i := author; i < campaigns; i += authors {
				clock := fmt.Sprintf("%02d:%02d:%02d", rand.IntN(24), rand.IntN(60), rand.IntN(60))
				_, err := r.Exec(ctx, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content)
					VALUES ('n', $1, 'webhook', 2, $2)`, fmt.Sprint("app", i%len(apps)), daily(tomorrow, days, clock))
				if err != nil {
					t.Errorf("insert: %v", err)
				}
			}
		})
	}
	inserting.Wait()
	until(t, "every campaign to be planned", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.campaign_changes`) == 0 })
	stop()
	busy.Wait()
	if samples.Load() == 0 {
		t.Error("the cap was never looked at")
	}
	p := r.planner(t)
	for _, app := range apps {
		plan(t, p, app, time.Time{})
		if diff := cmp.Diff(r.earliest(t, app, limit), r.pending(t, app)); diff != "" {
			t.Fatalf("app %d: pending is not the earliest (-want +got):\n%s", app, diff)
		}
	}
	r.runThrough(t, apps, limit)
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'succeeded'`); n != campaigns*days {
		t.Errorf("%d tasks succeeded, want %d", n, campaigns*days)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE status <> 'succeeded'`); n != 0 {
		t.Errorf("%d tasks did not succeed", n)
	}
}

// sampleCap looks again and again for an app with too many pending tasks.
func (r *rig) sampleCap(ctx context.Context, t *testing.T, limit int, samples *atomic.Int64) {
	t.Helper()
	for ctx.Err() == nil {
		var most int
		err := r.QueryRow(ctx, `SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM scheduler.pending_tasks GROUP BY app_no) x`).Scan(&most)
		if err == nil && most > limit {
			t.Errorf("%d tasks pending at once", most)
		}
		samples.Add(1)
	}
}

// runThrough moves the apps' time from one pending task to the next until none
// is left, each app by a daemon of its own, with two planners at work.
func (r *rig) runThrough(t *testing.T, apps []int32, limit int) {
	t.Helper()
	daemon := r.enlist(t)
	var wg sync.WaitGroup
	for _, app := range apps {
		p, s := r.planner(t), r.open(t)
		wg.Go(func() {
			for round := 0; ; round++ {
				now, n := r.runPending(t, s, daemon, app)
				if n == 0 {
					return
				}
				plan(t, p, app, now)
				if n := len(r.pending(t, app)); n > limit {
					t.Errorf("%d tasks pending", n)
				}
				if round%50 == 0 {
					if diff := cmp.Diff(r.earliest(t, app, limit), r.pending(t, app)); diff != "" {
						t.Errorf("app %d at %v: pending is not the earliest (-want +got):\n%s", app, now, diff)
					}
				}
			}
		})
	}
	wg.Wait()
}

func (r *rig) enlist(t testing.TB) int64 {
	t.Helper()
	return get[int64](t, r, `INSERT INTO scheduler.daemons (name, version, leased_until) VALUES ('test', '', now() + interval '1 hour') RETURNING id`)
}

// runPending claims and decides all pending tasks of an app at the time of the
// last, and returns that time and how many there were.
func (r *rig) runPending(t testing.TB, s *store.Store, daemon int64, app int32) (time.Time, int) {
	t.Helper()
	rows, _ := r.Query(t.Context(), `SELECT id, campaign_id, due_at FROM scheduler.pending_tasks WHERE app_no = $1`, app)
	byID := make(map[int64]*store.Decision)
	var ids []int64
	var now time.Time
	for rows.Next() {
		d := &store.Decision{AppNo: app, Channel: "webhook", Origin: "scheduled", Status: "succeeded"}
		if err := rows.Scan(&d.TaskID, &d.CampaignID, &d.DueAt); err != nil {
			t.Fatal(err)
		}
		if d.DueAt.After(now) {
			now = d.DueAt
		}
		byID[d.TaskID], ids = d, append(ids, d.TaskID)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if len(ids) == 0 {
		return now, 0
	}
	claim, tasks, err := s.Claim(t.Context(), daemon, now, ids)
	if err != nil || len(tasks) != len(ids) {
		t.Fatalf("claimed %d of %d: %v", len(tasks), len(ids), err)
	}
	decisions := make([]*store.Decision, 0, len(ids))
	for _, task := range tasks {
		d := byID[task.ID]
		d.ClaimID, d.Revision, d.StartedAt, d.SentAt = claim, task.Revision, now, now
		decisions = append(decisions, d)
	}
	recorded, err := s.Record(t.Context(), daemon, decisions, []int64{claim})
	if err != nil || len(recorded) != len(ids) {
		t.Fatalf("recorded %d of %d: %v", len(recorded), len(ids), err)
	}
	return now, len(ids)
}

func TestDisplacedTasksReturn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 3`)
	p := r.planner(t)
	tomorrow := time.Now().UTC().AddDate(0, 0, 1)
	late := r.insert(t, "app", "webhook", 2, daily(tomorrow, 4, "20:00:00"))
	plan(t, p, app, time.Time{})
	early := r.insert(t, "app", "webhook", 2, daily(tomorrow, 2, "08:00:00"))
	plan(t, p, app, time.Time{})
	var got []int64
	owners := func() []int64 {
		return list[int64](t, r, `SELECT campaign_id FROM scheduler.pending_tasks ORDER BY due_at`)
	}
	if diff := cmp.Diff([]int64{early, late, early}, owners()); diff != "" {
		t.Errorf("after the displacement (-want +got):\n%s", diff)
	}
	r.run(t, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, early)
	plan(t, p, app, time.Time{})
	if diff := cmp.Diff([]int64{late, late, late}, owners()); diff != "" {
		t.Errorf("after the return (-want +got):\n%s", diff)
	}
	daemon := r.enlist(t)
	for range 3 {
		now, _ := r.runPending(t, r.store, daemon, app)
		plan(t, p, app, now)
	}
	got = list[int64](t, r, `SELECT campaign_id FROM scheduler.decided_tasks WHERE status = 'succeeded' ORDER BY due_at`)
	if diff := cmp.Diff([]int64{late, late, late, late}, got); diff != "" {
		t.Errorf("run (-want +got):\n%s", diff)
	}
}

// Planning is declarative: a second look at the same state changes nothing.
func TestPlanningTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	p := r.planner(t)
	for i := range 30 {
		r.insert(t, "app", "webhook", 2, daily(time.Now().UTC().AddDate(0, 0, 1+i%3), 9, fmt.Sprintf("%02d:00:00", i%24)))
	}
	plan(t, p, app, time.Time{})
	state := func() []string {
		return list[string](t, r, `SELECT to_jsonb(p)::text FROM scheduler.pending_tasks p UNION ALL SELECT to_jsonb(c)::text FROM scheduler.campaign_cursors c ORDER BY 1`)
	}
	before := state()
	for range 3 {
		plan(t, p, app, time.Time{})
	}
	if diff := cmp.Diff(before, state()); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	p := r.planner(t)
	start := time.Now().UTC().AddDate(0, 0, 1).Truncate(24 * time.Hour)
	id := r.insert(t, "app", "webhook", 2, daily(start, 6, "10:00:00"), "catch_up_window", "30:00:00")
	at := func(day, hour int) time.Time { return start.AddDate(0, 0, day).Add(time.Duration(hour) * time.Hour) }
	plan(t, p, app, time.Time{})
	r.run(t, `UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`, id)
	plan(t, p, app, at(0, 9))
	if n := len(r.pending(t, app)); n != 0 {
		t.Errorf("%d tasks pending while paused", n)
	}
	// What leaves its window during the pause is decided though nobody resumes.
	if _, err := r.store.RevisitPaused(t.Context(), at(2, 17), 100); err != nil {
		t.Fatal(err)
	}
	plan(t, p, app, at(2, 17))
	missed := list[string](t, r, `SELECT status || ': ' || reason FROM scheduler.tasks WHERE decided_at IS NOT NULL ORDER BY due_at`)
	if diff := cmp.Diff([]string{"missed: campaign paused", "missed: campaign paused"}, missed[:min(len(missed), 2)]); diff != "" || len(missed) != 2 {
		t.Errorf("%d decisions, want 2 (-want +got):\n%s", len(missed), diff)
	}
	// What is still inside its window returns, for the misfire policy to judge.
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
	plan(t, p, app, at(2, 17))
	want := []time.Time{at(2, 10), at(3, 10), at(4, 10), at(5, 10)}
	if diff := cmp.Diff(want, r.pending(t, app)); diff != "" {
		t.Errorf("after the pause (-want +got):\n%s", diff)
	}
}

// Versions that were replaced before the planner saw them still account for the
// occurrences that fell due while they stood.
func TestEditsBeforeThePlannerLooked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, change, want string }{
		{"replaced", `UPDATE scheduler.campaigns SET strategy_content = %s`, "cancelled: campaign changed (update) before it was pushed"},
		{"cancelled", `UPDATE scheduler.campaigns SET status = 'cancelled'`, "cancelled: campaign changed (cancel) before it was pushed"},
		{"deleted", `DELETE FROM scheduler.campaigns`, "cancelled: campaign changed (delete) before it was pushed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			app := r.app(t, "app", "webhook", nil)
			now := time.Now().UTC()
			id := r.insert(t, "app", "webhook", 1, fixed(now.Add(-10*time.Minute)))
			if c.name == "replaced" {
				r.run(t, `UPDATE scheduler.campaigns SET strategy_content = $1`, fixed(now.Add(time.Hour)))
			} else {
				r.run(t, c.change)
			}
			plan(t, r.planner(t), app, time.Time{})
			if diff := cmp.Diff([]string{c.want}, r.decided(t, id, 1)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n, want := len(r.pending(t, app)), map[bool]int{true: 1}[c.name == "replaced"]; n != want {
				t.Errorf("%d pending, want %d", n, want)
			}
		})
	}
}

func TestNewStrategyReplacesPendingTasks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	p := r.planner(t)
	start := time.Now().UTC().AddDate(0, 0, 1).Truncate(24 * time.Hour)
	id := r.insert(t, "app", "webhook", 2, daily(start, 3, "10:00:00"))
	plan(t, p, app, time.Time{})
	r.run(t, `UPDATE scheduler.campaigns SET strategy_content = $2 WHERE id = $1`, id, daily(start, 2, "15:00:00"))
	plan(t, p, app, time.Time{})
	want := []time.Time{start.Add(15 * time.Hour), start.Add(39 * time.Hour)}
	if diff := cmp.Diff(want, r.pending(t, app)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks WHERE revision <> 2`); n != 0 {
		t.Errorf("%d tasks of an old revision", n)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks`); n != 0 {
		t.Errorf("%d decisions about occurrences that never came", n)
	}
}

func TestRejectedAndMended(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	p := r.planner(t)
	id := r.insert(t, "app", "webhook", 2, daily(time.Now().UTC().AddDate(0, 0, 1), 3, "10:00:00"), "request", `{"bad": "too long"}`)
	now := r.insert(t, "app", "webhook", 0, nil, "request", `{"bad": "empty"}`)
	plan(t, p, app, time.Time{})
	for id, want := range map[int64]string{id: "bad: too long; request: must be better", now: "bad: empty; request: must be better"} {
		if got := get[string](t, r, `SELECT status || ' ' || status_reason FROM scheduler.campaigns WHERE id = $1`, id); got != "rejected "+want {
			t.Errorf("campaign is %s", got)
		}
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.tasks`); n != 0 {
		t.Errorf("%d tasks of rejected campaigns", n)
	}
	r.run(t, `UPDATE scheduler.campaigns SET request = '{}'`)
	plan(t, p, app, time.Time{})
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE campaign_id = $1`, id); n != 3 {
		t.Errorf("%d tasks of the fixed loop, want 3", n)
	}
	if got := get[string](t, r, `SELECT origin || ' ' || status FROM scheduler.tasks WHERE campaign_id = $1`, now); got != "immediate pending" {
		t.Errorf("the fixed immediate campaign has a task %s", got)
	}
	// An edit that makes it bad takes its tasks away; nothing is sent.
	r.run(t, `UPDATE scheduler.campaigns SET request = '{"bad": "again"}' WHERE id = $1`, id)
	plan(t, p, app, time.Time{})
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE campaign_id = $1`, id); n != 0 {
		t.Errorf("%d tasks after the bad edit", n)
	}
	r.run(t, `UPDATE scheduler.campaigns SET request = '{}' WHERE id = $1`, id)
	plan(t, p, app, time.Time{})
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE campaign_id = $1 AND status = 'pending'`, id); n != 3 {
		t.Errorf("%d tasks after the second mending, want 3", n)
	}
}

// An author's transaction that stays open holds that author's campaigns only,
// however many they are.
func TestOpenTransactionHoldsNobodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 5`)
	p := r.planner(t)
	tomorrow := time.Now().UTC().AddDate(0, 0, 1)
	for range 8 {
		r.insert(t, "app", "webhook", 2, daily(tomorrow, 5, "01:00:00"))
	}
	plan(t, p, app, time.Time{})
	now, _ := r.runPending(t, r.store, r.enlist(t), app)
	author, err := r.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = author.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := author.Exec(t.Context(), `UPDATE scheduler.campaigns SET request = '{"a": 1}'`); err != nil {
		t.Fatal(err)
	}
	// All of these come after more of the author's occurrences than there is room for.
	other := r.insert(t, "app", "webhook", 2, daily(tomorrow, 5, "02:00:00"))
	immediate := r.insert(t, "app", "webhook", 0, nil, "catch_up_window", "48:00:00")
	plan(t, p, app, now)
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE campaign_id = $1 AND status = 'pending'`, immediate); n != 1 {
		t.Error("another author's immediate campaign waits")
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE campaign_id = $1 AND status = 'pending'`, other); n != 5 {
		t.Errorf("%d tasks of another author's loop, want 5", n)
	}
	if err := author.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	plan(t, p, app, now)
	if diff := cmp.Diff(r.earliest(t, app, 5), r.pending(t, app)); diff != "" {
		t.Errorf("after the commit, pending is not the earliest (-want +got):\n%s", diff)
	}
}

// After a long outage many occurrences have left their windows. All of them are
// decided in one go, so that those which have not do not wait behind them.
func TestMissedOccurrencesDoNotHoldUpTheRest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 5`)
	now := time.Now().UTC()
	for i := range 30 {
		id := r.insert(t, "app", "webhook", 1, fixed(now.Add(time.Hour)))
		r.backdate(t, id, fixed(now.Add(-48*time.Hour+time.Duration(i)*time.Minute)), now.Add(-72*time.Hour))
	}
	due := r.insert(t, "app", "webhook", 1, fixed(now.Add(-50*time.Minute)))
	r.run(t, `UPDATE scheduler.campaign_changes SET rewind_to = NULL`)
	// As if they had been planned before the outage, with the cursor at the first.
	r.run(t, `INSERT INTO scheduler.campaign_cursors (campaign_id, app_no, revision, active, next_due_at)
		SELECT id, app_no, revision, true, to_timestamp((strategy_content ->> 'fixedTime')::bigint / 1000) FROM scheduler.campaigns`)
	r.run(t, `DELETE FROM scheduler.campaign_changes`)
	p := r.planner(t)
	plan(t, p, app, time.Time{})
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'missed'`); n != 30 {
		t.Errorf("%d missed, want 30", n)
	}
	if got := list[int64](t, r, `SELECT campaign_id FROM scheduler.pending_tasks`); !slices.Equal(got, []int64{due}) {
		t.Errorf("pending are the tasks of %v, want of %d", got, due)
	}
}

// What left its window tells nothing about what comes next: the earliest occurrence
// of all campaigns is planned, and of equal ones the first campaign's, however small
// the app's limit is.
func TestTheEarliestIsPlannedAfterWhatWasMissed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 1`)
	day := time.Now().UTC().AddDate(0, 0, 1).Truncate(24 * time.Hour)
	first := r.insert(t, "app", "webhook", 2, daily(day, 5, "09:00:00"))
	r.insert(t, "app", "webhook", 2, daily(day, 5, "09:00:00"))
	p := r.planner(t)
	plan(t, p, app, time.Time{})
	r.run(t, `DELETE FROM scheduler.pending_tasks WHERE campaign_id = $1`, first) // it has begun; the second one's has no room
	plan(t, p, app, day.Add(33*time.Hour))
	if got := list[int64](t, r, `SELECT campaign_id FROM scheduler.pending_tasks`); !slices.Equal(got, []int64{first}) {
		t.Errorf("pending are the tasks of %v, want of %d", got, first)
	}
}

// One daemon plans an app, another begins its tasks: the room is filled with the
// next heartbeat though the other knew of nothing that waits.
func TestRoomIsFilledByWhoeverBeginsTheTasks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 5`)
	beginner := engine.NewPlanner(engine.PlannerConfig{Store: r.open(t), Log: r.log, Compile: r.compile, Others: func() bool { return true }})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	beginner.Start(ctx, &wg)
	defer wg.Wait()
	defer cancel()
	r.insert(t, "app", "webhook", 2, daily(time.Now().UTC().AddDate(0, 0, 1), 2, "01:00:00"))
	beginner.Wake() // its first pass looks at everything, and leaves nothing waiting
	until(t, "the first pass", func() bool { return len(r.pending(t, app)) == 2 })
	r.insert(t, "app", "webhook", 2, daily(time.Now().UTC().AddDate(0, 0, 1), 20, "02:00:00"))
	plan(t, r.planner(t), app, time.Time{})
	r.runPending(t, r.store, r.enlist(t), app)
	beginner.Hint(time.Now(), app)
	beginner.Wake() // the heartbeat
	until(t, "the room to be filled", func() bool { return len(r.pending(t, app)) == 5 })
}

// Room that nothing needs soon is left for a while, so that the tasks that begin
// meanwhile are made up for together; room that something needs is filled at once.
func TestRoomIsFilledWhenItIsWorthIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	later, soon := r.app(t, "later", "webhook", nil), r.app(t, "soon", "webhook", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 8`)
	p := engine.NewPlanner(engine.PlannerConfig{Store: r.store, Log: r.log, Compile: r.compile, Patience: time.Hour})
	r.insert(t, "later", "webhook", 2, daily(time.Now().UTC().AddDate(0, 0, 1), 20, "02:00:00"))
	for i := range 9 {
		r.insert(t, "soon", "webhook", 1, fixed(time.Now().Add(time.Duration(i)*time.Second)))
	}
	p.RunOnce(t.Context())
	for app := range map[int32]bool{later: true, soon: true} {
		r.run(t, `DELETE FROM scheduler.pending_tasks WHERE (app_no, due_at) = (SELECT app_no, min(due_at) FROM scheduler.pending_tasks WHERE app_no = $1 GROUP BY app_no)`, app)
		p.Hint(time.Now().Add(time.Minute), app)
	}
	p.RunOnce(t.Context())
	got := map[int32]int{later: len(r.pending(t, later)), soon: len(r.pending(t, soon))}
	if diff := cmp.Diff(map[int32]int{later: 7, soon: 8}, got); diff != "" {
		t.Errorf("pending tasks after one of each app began (-want +got):\n%s", diff)
	}
}
