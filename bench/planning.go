//go:build unix

package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// planning is the planner alone: everything anew, one campaign more, and one
// large app again.
func planning(ctx context.Context, b *bench) error {
	apps := max(b.campaigns/100, b.rounds)
	big, err := b.planned(ctx, "bench_plan", apps, b.campaigns)
	if err != nil {
		return err
	}
	defer big.close()
	if err := b.replanAll(ctx, big, apps); err != nil {
		return err
	}
	empty, err := b.planned(ctx, "bench_empty", 1, 0)
	if err != nil {
		return err
	}
	defer empty.close()
	if err := b.insertOne(ctx, big, empty, apps); err != nil {
		return err
	}
	large, err := b.planned(ctx, "bench_large", 1, 10_000)
	if err != nil {
		return err
	}
	defer large.close()
	if err := b.replanLarge(ctx, large); err != nil {
		return err
	}
	return b.nextOccurrence()
}

// A plannedDatabase is a database with a planner of its own.
type plannedDatabase struct {
	*database
	store   *store.Store
	planner *engine.Planner
}

func (p *plannedDatabase) close() {
	p.store.Close()
	p.Close()
}

func (b *bench) planned(ctx context.Context, name string, apps, campaigns int) (*plannedDatabase, error) {
	db, err := b.pg.scheduler(ctx, name)
	if err != nil {
		return nil, err
	}
	_, err = db.Exec(ctx, `INSERT INTO scheduler.apps (app_id, workspace_id, provider) SELECT 'app-' || i, $2, 'mpaas' FROM generate_series(1, $1::bigint) AS i`, apps, workspace)
	if err != nil {
		return nil, err
	}
	if campaigns > 0 {
		b.say("filling %s: %d campaigns of %d apps", name, campaigns, apps)
		if err := db.fill(ctx, fill{tasks: campaigns, due: time.Now().Add(12 * time.Hour), spread: 6 * time.Hour, unplaced: true}); err != nil {
			return nil, err
		}
	}
	if err := db.settle(ctx); err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, store.Config{URL: db.url})
	if err != nil {
		return nil, err
	}
	return &plannedDatabase{db, s, engine.NewPlanner(engine.PlannerConfig{Store: s, Log: b.logger(), Compile: compile})}, nil
}

func compile(c *store.Campaign) (*dispatch.Message, []dispatch.Problem) {
	return mpaas.Adapter{}.Compile(dispatch.Request{Channel: c.Channel, TaskName: c.Name, Body: c.Request, StrategyType: int(c.StrategyType)})
}

// replanAll plans all apps from nothing, a part of them in each round.
func (b *bench) replanAll(ctx context.Context, p *plannedDatabase, apps int) error {
	var rates sample
	for round := range b.rounds {
		b.machine.calibrate()
		first, last := round*apps/b.rounds, (round+1)*apps/b.rounds
		stop, err := b.profile()
		if err != nil {
			return err
		}
		before := b.meter()
		took, err := p.planApps(ctx, first+1, last)
		stop()
		if err != nil {
			return err
		}
		b.say("%s", b.meter().since(before, (last-first)*(b.campaigns/apps)))
		if err := b.dearest(ctx, p.database); err != nil {
			return err
		}
		rates = append(rates, rate((last-first)*(b.campaigns/apps), took))
		b.say("full plan: %.0f campaigns per second", rates[round])
	}
	what := fmt.Sprintf("campaigns planned anew, of %s in %s apps", thousands(float64(b.campaigns)), thousands(float64(apps)))
	b.table.hold(what, new(atLeast(20_000)), perSecond, rates)
	var pending int
	err := p.QueryRow(ctx, `SELECT count(*) FROM scheduler.pending_tasks`).Scan(&pending)
	if err == nil && pending != b.campaigns/apps*apps {
		err = fmt.Errorf("%d tasks are pending after planning, expected %d", pending, b.campaigns)
	}
	return err
}

// planApps plans apps by their number, as many side by side as the engine does.
func (p *plannedDatabase) planApps(ctx context.Context, first, last int) (time.Duration, error) {
	var next atomic.Int64
	next.Store(int64(first))
	var wg sync.WaitGroup
	errs := make([]error, p.planner.Workers)
	began := time.Now()
	for w := range p.planner.Workers {
		wg.Go(func() {
			for no := next.Add(1) - 1; no <= int64(last) && errs[w] == nil; no = next.Add(1) - 1 {
				_, errs[w] = p.planner.PlanApp(ctx, int32(no), time.Time{})
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// insertOne compares writing and planning one campaign more, which displaces
// another's task where the app is full.
func (b *bench) insertOne(ctx context.Context, big, empty *plannedDatabase, apps int) error {
	if err := big.settle(ctx); err != nil {
		return err
	}
	var full, none sample
	for range b.rounds {
		b.machine.calibrate()
		var times [2][]time.Duration
		for i := range 50 {
			for k, p := range []*plannedDatabase{big, empty} {
				app := 1
				if p == big {
					app = 1 + i%apps
				}
				took, err := p.insert(ctx, app)
				if err != nil {
					return err
				}
				times[k] = append(times[k], took)
			}
		}
		full, none = append(full, inMillis(quantile(times[0], 0.5))), append(none, inMillis(quantile(times[1], 0.5)))
	}
	b.table.compare("one campaign inserted and planned, among all of those", new(atMost(1.5)), millis, full, "empty database", none)
	return nil
}

func (p *plannedDatabase) insert(ctx context.Context, app int) (time.Duration, error) {
	began := time.Now()
	_, err := p.Exec(ctx, `
		INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request)
		VALUES ('one more', $1, $2, 'mpaas.push_multiple', 1, jsonb_build_object('fixedTime', (extract(epoch FROM now() + interval '1 hour') * 1000)::bigint), $3)`,
		appID(app), workspace, request)
	if err != nil {
		return 0, err
	}
	_, err = p.planner.PlanApp(ctx, int32(app), time.Time{})
	return time.Since(began), err
}

// replanLarge refills an app of 10,000 campaigns after all of its pending tasks
// were decided.
func (b *bench) replanLarge(ctx context.Context, p *plannedDatabase) error {
	for progress := true; progress; {
		var err error
		if progress, err = p.planner.PlanApp(ctx, 1, time.Time{}); err != nil {
			return err
		}
	}
	if err := p.settle(ctx); err != nil {
		return err
	}
	var took sample
	for range max(b.rounds, 5) {
		_, err := p.Exec(ctx, `
			WITH gone AS (DELETE FROM scheduler.pending_tasks RETURNING *)
			INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count)
			SELECT id, app_no, campaign_id, revision, 1, origin, 'succeeded', due_at, now(), 1, 1, 1, 1 FROM gone`)
		if err != nil {
			return err
		}
		began := time.Now()
		if _, err := p.planner.PlanApp(ctx, 1, time.Time{}); err != nil {
			return err
		}
		took = append(took, inMillis(time.Since(began)))
	}
	b.table.hold("one app with 10,000 campaigns planned again, all its 100 tasks anew", new(atMost(50)), millis, took)
	return nil
}

// nextOccurrence times Schedule.Next, the slowest of several kinds and zones, and
// what several times of day cost.
func (b *bench) nextOccurrence() error {
	worst, allocs := 0.0, int64(0)
	for _, zone := range []string{"Asia/Shanghai", "America/New_York", "Australia/Lord_Howe"} {
		for _, kind := range []string{`"circleType":1`, `"circleType":2,"circleValue":[2,5]`, `"circleType":3,"circleValue":[1,15,31]`} {
			r, err := timeNext(zone, kind+`,"time":"09:30:00"`, nil, false)
			if err != nil {
				return err
			}
			worst, allocs = max(worst, float64(r.NsPerOp())), max(allocs, r.AllocsPerOp())
		}
	}
	b.table.hold("Schedule.Next, the slowest of three loops in three zones", new(atMost(250)), nanos, sample{worst})
	b.table.hold("its allocations", new(atMost(0)), thousands, sample{float64(allocs)})
	return b.nextOfTimes()
}

// nextOfTimes compares a daily loop by its time and by the column times.
func (b *bench) nextOfTimes() error {
	hours := make([]string, strategy.MaxTimes)
	for i := range hours {
		hours[i] = fmt.Sprintf("%02d:30:00", i)
	}
	var content, column, all, workdays sample
	for range max(b.rounds, 3) {
		for _, c := range []struct {
			keys   string
			times  []string
			closed bool
			took   *sample
		}{
			{`"circleType":1,"time":"09:30:00"`, nil, false, &content},
			{`"circleType":1`, []string{"09:30:00"}, false, &column},
			{`"circleType":1`, hours, false, &all},
			{`"circleType":1,"time":"09:30:00"`, nil, true, &workdays},
		} {
			r, err := timeNext("America/New_York", c.keys, c.times, c.closed)
			if err != nil {
				return err
			}
			*c.took = append(*c.took, float64(r.NsPerOp()))
		}
	}
	b.table.compare("Schedule.Next, a single time in the column times", new(atMost(1.10)), nanos, column, "StrategyContent's time", content)
	b.table.compare("Schedule.Next, by a calendar of workdays", new(atMost(1.25)), nanos, workdays, "without one", content)
	b.table.hold("Schedule.Next, 24 times a day", new(atMost(6000)), nanos, all)
	return nil
}

// timeNext times Schedule.Next of a loop over half a year, on workdays only where closed
// says so.
func timeNext(zone, keys string, times []string, closed bool) (testing.BenchmarkResult, error) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	spec := strategy.Spec{
		Type: strategy.Loop, Zone: zone, WrittenAt: now, CatchUpWindow: time.Hour, ShortMonth: "skip", DSTGap: "shift", Times: times,
		Content: fmt.Appendf(nil, `{"startTime":%d,"endTime":%d,%s}`, now.AddDate(0, 0, 1).UnixMilli(), now.AddDate(0, 0, 170).UnixMilli(), keys),
	}
	if closed { // on weekends
		spec.Calendar, spec.CalendarPolicy = "workdays", strategy.CalendarNextOpen
		for saturday := time.Date(2026, 2, 28, 5, 0, 0, 0, time.UTC); saturday.Year() < 2027; saturday = saturday.AddDate(0, 0, 7) {
			spec.Closed = append(spec.Closed, saturday, saturday.AddDate(0, 0, 2))
		}
	}
	s, _, err := strategy.Parse(spec)
	if err != nil {
		return testing.BenchmarkResult{}, err
	}
	return testing.Benchmark(func(b *testing.B) { //nolint:thelper // it is the benchmark itself
		for at := now; b.Loop(); {
			if at = s.Next(at); at.IsZero() {
				at = now
			}
		}
	}), nil
}
