package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// figure is the value of a gauge or counter.
func figure(t testing.TB, c prometheus.Collector) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatalf("%d families, %v", len(families), err)
	}
	m := families[0].GetMetric()[0]
	return m.GetGauge().GetValue() + m.GetCounter().GetValue()
}

// hold begins a transaction that stays open until the returned function is called, or
// the test ends.
func (r *rig) hold(t testing.TB, sql string, args ...any) (end func()) {
	t.Helper()
	conn, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	end = func() {
		once.Do(func() {
			_ = tx.Rollback(context.WithoutCancel(t.Context()))
			conn.Release()
		})
	}
	t.Cleanup(end)
	return end
}

// running runs a planner until the test ends.
func (r *rig) running(t testing.TB, cfg engine.PlannerConfig) *engine.Planner {
	t.Helper()
	cfg.Store, cfg.Log = r.open(t), r.log
	if cfg.Compile == nil {
		cfg.Compile = r.compile
	}
	p := engine.NewPlanner(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	p.Start(ctx, &wg)
	wg.Go(func() { // the heartbeat
		for ctx.Err() == nil {
			p.Wake()
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

func (r *rig) tasks(t testing.TB, campaign int64) int {
	t.Helper()
	return get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE campaign_id = $1`, campaign)
}

// Fault 9: an admin's open UPDATE of apps kept every app's campaigns waiting. The
// other apps are planned while it is open, and the blocked one is told of with the
// session that is in the way, and planned when that has ended.
func TestBlockedAppHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	for name, lock := range map[string]string{
		"the app's row":          `UPDATE scheduler.apps SET updated_at = now() WHERE app_no = $1`,
		"the planner's own lock": `SELECT FROM scheduler.engine_locks WHERE app_no = $1 FOR UPDATE`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			m := engine.NewMetrics(nil)
			a := r.app(t, "a", "webhook", nil)
			for i := range 8 {
				r.app(t, fmt.Sprint("b", i), "webhook", nil)
			}
			end := r.hold(t, lock, a)
			// One worker alone: whoever waited for the app would keep all others waiting.
			p := r.running(t, engine.PlannerConfig{Workers: 1, Metrics: m})
			soon := fixed(time.Now().Add(time.Hour))
			blocked := r.insert(t, "a", "webhook", 1, soon)
			for i := range 8 {
				other := r.insert(t, fmt.Sprint("b", i), "webhook", 0, nil)
				until(t, "another app's campaign", func() bool { return r.tasks(t, other) == 1 })
			}
			if n := r.tasks(t, blocked); n != 0 {
				t.Errorf("the blocked app has %d tasks", n)
			}
			until(t, "the blocked app to be told of", func() bool { return figure(t, m.Unplanned) == 1 })
			until(t, "the session to be named", func() bool {
				list := p.Unplanned()
				return len(list) == 1 && list[0].App == a && (name != "the app's row" || strings.Contains(list[0].Blockers, "idle in transaction"))
			})
			end()
			until(t, "the app to be planned", func() bool { return r.tasks(t, blocked) == 1 })
			until(t, "the figure to be zero again", func() bool { return figure(t, m.Unplanned) == 0 })
		})
	}
}

// An author who holds more campaigns than are looked at together keeps none of the
// app's others back; nor does one whose row can be locked, and not be changed.
func TestHeldChangesDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	soon := fixed(time.Now().Add(time.Hour))
	for range 4 {
		r.insert(t, "app", "webhook", 1, soon)
	}
	end := r.hold(t, `UPDATE scheduler.campaigns SET name = 'held'`)
	shared := r.insert(t, "app", "webhook", 1, soon, "request", `{"bad": "cannot be rejected while another shares its row"}`)
	endShared := r.hold(t, `SELECT FROM scheduler.campaigns WHERE id = $1 FOR SHARE`, shared)
	free := r.insert(t, "app", "webhook", 1, soon)
	r.run(t, `INSERT INTO scheduler.campaign_changes (app_no, campaign_id) VALUES ($1, 99)`, app)
	r.running(t, engine.PlannerConfig{Changes: 2})
	until(t, "the free campaign", func() bool { return r.tasks(t, free) == 1 })
	until(t, "the campaign that is gone", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.campaign_changes WHERE campaign_id = 99`) == 0
	})
	end()
	endShared()
	until(t, "the rest", func() bool { return len(r.pending(t, app)) == 5 })
	until(t, "the rejection", func() bool {
		return get[string](t, r, `SELECT status FROM scheduler.campaigns WHERE id = $1`, shared) == "rejected"
	})
}

// Authors finding 2: a campaign was judged inside the planner's transaction, which
// the server ended when that took long, without end.
func TestNoTransactionIsOpenWhileACampaignIsJudged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	var once sync.Once
	busy, moved := 0, make(chan int64, 1)
	compile := func(c *store.Campaign) (*dispatch.Message, []dispatch.Problem) {
		once.Do(func() {
			busy = get[int](t, r, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'scheduler' AND xact_start IS NOT NULL`)
			// Meanwhile its author changes it: what was judged is of no use any more.
			r.run(t, `UPDATE scheduler.campaigns SET request = '{"bad": "now"}' WHERE id = $1`, c.ID)
			moved <- c.ID
		})
		return r.compile(c)
	}
	p := engine.NewPlanner(engine.PlannerConfig{Store: r.open(t), Log: r.log, Compile: compile})
	id := r.insert(t, "app", "webhook", 1, fixed(time.Now().Add(time.Hour)))
	p.RunOnce(t.Context())
	if <-moved != id || busy != 0 {
		t.Errorf("%d transactions open while the campaign was judged", busy)
	}
	p.RunOnce(t.Context())
	if got := get[string](t, r, `SELECT status FROM scheduler.campaigns`); got != "rejected" || r.tasks(t, id) != 0 {
		t.Errorf("the campaign is %s with %d tasks, though its new request cannot be pushed", got, r.tasks(t, id))
	}
}

// Fault 6: a panic in Compile ended the process, again at every start. The
// campaign is rejected, the stack is in the log and nowhere else, and others are
// pushed.
func TestPanicInCompileRejectsTheCampaign(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	logs := &lines{}
	r.log = slog.New(slog.NewTextHandler(logs, nil))
	r.app(t, "app", "webhook", nil)
	m := engine.NewMetrics(nil)
	cfg := r.config(t)
	cfg.Metrics = m
	cfg.Compile = func(c *store.Campaign) (*dispatch.Message, []dispatch.Problem) {
		if strings.Contains(string(c.Request), "boom") {
			panic("boom of the author's text")
		}
		return r.compile(c)
	}
	for life := range 2 { // a restart changes nothing
		t.Run(fmt.Sprint("life ", life+1), func(t *testing.T) { //nolint:paralleltest // one after the other
			cfg.Store = r.open(t)
			revived := r.insert(t, "app", "webhook", 1, fixed(time.Now().Add(time.Hour)))
			r.run(t, `ALTER TABLE scheduler.campaigns DISABLE TRIGGER USER`)
			r.run(t, `UPDATE scheduler.campaigns SET status = 'rejected', status_reason = 'an older program could not read it' WHERE id = $1`, revived)
			r.run(t, `ALTER TABLE scheduler.campaigns ENABLE TRIGGER USER`)
			r.run(t, `DELETE FROM scheduler.campaign_changes`)
			start(t, cfg)
			// It is looked at again together with the bad one of the first life.
			until(t, "the acceptance", func() bool { return status(t, r, revived) == "active" })
			bad := r.insert(t, "app", "webhook", 0, nil, "request", `{"targets": ["boom"]}`)
			good := r.insert(t, "app", "webhook", 0, nil)
			if got := r.decided(t, good, 1); got[0] != "succeeded" {
				t.Errorf("the other campaign: %v", got)
			}
			until(t, "the rejection", func() bool {
				return get[string](t, r, `SELECT status FROM scheduler.campaigns WHERE id = $1`, bad) == "rejected"
			})
			want := "request: this program cannot read the request (a fault of the program)"
			if got := get[string](t, r, `SELECT status_reason FROM scheduler.campaigns WHERE id = $1`, bad); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	if n := figure(t, m.Faults.WithLabelValues("compile")); n != 2 {
		t.Errorf("%v panics counted, want 2", n)
	}
	if n := strings.Count(logs.String(), "stack="); n != 2 { // once a process
		t.Errorf("%d stacks in the log of two engines", n)
	}
	if strings.Contains(logs.String(), "boom of the author's text") {
		t.Error("the log has what the author wrote")
	}
}

// Field finding 1: a row that could not be read stopped its app's planner for
// good. It is rejected with the reason, whether it is new or has been planned, and
// stops nothing else, in the planner and in the dispatcher.
func TestUnreadableCampaignStopsNothingElse(t *testing.T) {
	t.Parallel()
	spoil := map[string]string{
		"a time without a value":  `UPDATE scheduler.campaigns SET written_at = 'infinity' WHERE id = $1`,
		"a strategy nobody reads": `UPDATE scheduler.campaigns SET strategy_content = '{"fixedTime": "x"}' WHERE id = $1`,
		"too large to be loaded":  `UPDATE scheduler.campaigns SET request = jsonb_build_object('t', repeat('x', 3000000)) WHERE id = $1`,
	}
	for name, sql := range spoil {
		for _, planned := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", planned ", planned), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				r.app(t, "app", "webhook", nil)
				r.run(t, `UPDATE scheduler.apps SET pending_limit = 1`)
				bad := r.insert(t, "app", "webhook", 2, daily(time.Now().UTC().AddDate(0, 0, 1), 9, "01:00:00"))
				if planned {
					r.planner(t).RunOnce(t.Context())
				}
				err := pgx.BeginFunc(t.Context(), r, func(tx pgx.Tx) error {
					if _, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`); err != nil {
						return err
					}
					_, err := tx.Exec(t.Context(), sql, bad)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				start(t, r.config(t))
				good := r.insert(t, "app", "webhook", 0, nil)
				if got := r.decided(t, good, 1); got[0] != "succeeded" {
					t.Errorf("the other campaign: %v", got)
				}
				if planned { // its task begins: the planner meets it as a candidate, or the dispatcher loads it
					r.run(t, `UPDATE scheduler.pending_tasks SET due_at = now(), ready_at = now() WHERE campaign_id = $1`, bad)
				}
				if planned && !strings.HasPrefix(name, "too large") {
					r.run(t, `INSERT INTO scheduler.campaign_changes (app_no, campaign_id) SELECT app_no, 0 FROM scheduler.apps`)
					r.run(t, `DELETE FROM scheduler.pending_tasks WHERE campaign_id = $1`, bad)
				}
				until(t, "the rejection", func() bool {
					return get[string](t, r, `SELECT status FROM scheduler.campaigns WHERE id = $1`, bad) == "rejected"
				})
				reason := get[string](t, r, `SELECT status_reason FROM scheduler.campaigns WHERE id = $1`, bad)
				if !strings.Contains(reason, "this program") && !strings.Contains(reason, "strategy_content") {
					t.Errorf("the reason is %q", reason)
				}
				late := r.insert(t, "app", "webhook", 1, fixed(time.Now().Add(time.Hour)))
				until(t, "the app to be planned after it", func() bool { return r.tasks(t, late) == 1 })
			})
		}
	}
}

// What fails with the same campaign again and again is set aside, and told.
func TestPlanThatFailsAgainAndAgainIsSetAside(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "webhook", nil)
	r.run(t, `CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.campaign_id = 1 THEN RAISE 'no room for campaign 1'; END IF; RETURN NEW; END $$`)
	r.run(t, `CREATE TRIGGER fail BEFORE INSERT ON scheduler.campaign_cursors FOR EACH ROW EXECUTE FUNCTION fail()`)
	soon := fixed(time.Now().Add(time.Hour))
	for range 20 {
		r.insert(t, "app", "webhook", 1, soon)
	}
	m := engine.NewMetrics(nil)
	r.running(t, engine.PlannerConfig{Metrics: m})
	until(t, "the other campaigns", func() bool { return len(r.pending(t, app)) == 19 })
	until(t, "the rejection", func() bool {
		return get[string](t, r, `SELECT status FROM scheduler.campaigns WHERE id = 1`) == "rejected"
	})
	if got := get[string](t, r, `SELECT status_reason FROM scheduler.campaigns WHERE id = 1`); !strings.Contains(got, "no room for campaign 1") {
		t.Errorf("the reason is %q", got)
	}
	if n := figure(t, m.SetAside); n != 1 {
		t.Errorf("%v set aside, want 1", n)
	}
}

// What was judged once and has become bad without a change of its row is rejected
// when it is to be pushed, and not left until it is missed.
func TestBadAfterItWasJudged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	id := r.insert(t, "app", "webhook", 1, fixed(time.Now().Add(time.Hour)))
	r.planner(t).RunOnce(t.Context())
	cfg := r.config(t)
	cfg.Compile = func(*store.Campaign) (*dispatch.Message, []dispatch.Problem) {
		return nil, []dispatch.Problem{{Field: "request", Text: "the configuration has changed"}}
	}
	start(t, cfg)
	r.run(t, `UPDATE scheduler.pending_tasks SET due_at = now(), ready_at = now() WHERE campaign_id = $1`, id)
	until(t, "the rejection", func() bool { return get[string](t, r, `SELECT status FROM scheduler.campaigns`) == "rejected" })
	if got := get[string](t, r, `SELECT status_reason FROM scheduler.campaigns`); got != "request: the configuration has changed" {
		t.Errorf("the reason is %q", got)
	}
}
