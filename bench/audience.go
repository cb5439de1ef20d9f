//go:build unix

package main

import (
	"context"
	"fmt"
	"net/url"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/internal/app"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

// perCall is how many targets a call of push_multiple carries.
const perCall = 100

// A crowd is one run of a large audience.
type crowd struct {
	targets   int
	delay     time.Duration // of each call, beyond the sandbox's
	perSecond float64       // the app's bound; 0: none
	paced     float64       // the app's bound of targets per second; 0: none
	spread    time.Duration // of the campaign; 0: none
	throttled int64         // the call that is answered with 429; 0: none
	instant   bool          // no sandbox is called
	collected bool          // garbage is collected all the while, so that a brief run shows what it takes
}

// A crowded pusher is the mPaaS adapter's, as the run wants it.
type crowded struct {
	mpaas.Adapter
	crowd
	calls    *atomic.Int64
	arrivals *arrivals
}

// arrivals are the moments at which the calls of a run with a bound arrive.
type arrivals struct {
	mu sync.Mutex
	at []time.Time
}

func (a *arrivals) add() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
}

// busiest is the most that arrived within a second.
func (a *arrivals) busiest() float64 {
	slices.SortFunc(a.at, time.Time.Compare)
	most, first := 0, 0
	for i := range a.at {
		for a.at[i].Sub(a.at[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return float64(most)
}

// New makes the Pusher of one app.
func (c crowded) New(s dispatch.Settings) (dispatch.Pusher, error) {
	p, err := c.Adapter.New(s)
	return crowdedPusher{p, c}, err
}

type crowdedPusher struct {
	dispatch.Pusher
	of crowded
}

// Push makes the call, or one as the run wants it.
func (p crowdedPusher) Push(ctx context.Context, push *dispatch.Push) dispatch.Outcome {
	if p.of.perSecond > 0 || p.of.paced > 0 {
		p.of.arrivals.add()
	}
	if p.of.calls.Add(1) == p.of.throttled {
		return dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled}
	}
	if p.of.delay > 0 {
		time.Sleep(p.of.delay)
	}
	if p.of.instant {
		return dispatch.Outcome{Class: dispatch.Accepted, RequestID: "r", MessageID: "m"}
	}
	return p.Pusher.Push(ctx, push)
}

// A crossing is what a run of an audience came to.
type crossing struct {
	took        time.Duration // from the author's commit to the decision
	writes, wal float64       // row writes (UPDATE, DELETE) and bytes of WAL, a delivery
	peak        float64       // MiB in use at most, as a collection found them
	late        float64       // ms that a call began after it was to, at most
	busiest     float64       // calls that arrived within a second, at most; of a run with a bound
}

// cross lets one campaign push to a large audience.
func (b *bench) cross(ctx context.Context, db *database, name string, c crowd) (out crossing, err error) {
	if err := db.clear(ctx); err != nil {
		return out, err
	}
	if _, err := db.Exec(ctx, `UPDATE scheduler.apps SET targets_per_second = nullif($1::float8, 0)`, c.paced); err != nil {
		return out, err
	}
	var id int64
	err = db.QueryRow(ctx, `INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, request, status, spread)
		VALUES ('audience', $1, $2, 'mpaas.push_multiple', '{"DeliveryType": 3, "ExpiredSeconds": 600, "TemplateName": "welcome"}', 'paused', nullif($3::float8, 0) * interval '1 second') RETURNING id`,
		appID(1), workspace, c.spread.Seconds()).Scan(&id)
	if err != nil {
		return out, err
	}
	_, err = db.Exec(ctx, `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, 'user-' || to_char(g, 'FM0000000') FROM generate_series(1, $2::integer) g`, id, c.targets)
	if err != nil {
		return out, err
	}
	for _, sql := range []string{`VACUUM ANALYZE scheduler.campaign_targets`, `SELECT pg_stat_reset()`, `CHECKPOINT`} {
		if _, err := db.Exec(ctx, sql); err != nil {
			return out, err
		}
	}
	arrived := &arrivals{}
	d, err := b.crowdedDaemon(ctx, db, c, arrived)
	if err != nil {
		return out, err
	}
	d.Start()
	const wal = `SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn`
	var before, after float64
	if err := db.QueryRow(ctx, wal).Scan(&before); err != nil {
		return out, err
	}
	runtime.GC() // so that what the run before left is not counted
	stopProfile, err := b.profile()
	if err != nil {
		return out, err
	}
	defer stopProfile()
	began, meter := time.Now(), b.meter()
	if _, err := db.Exec(ctx, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id); err != nil {
		return out, err
	}
	for decided := false; !decided; {
		if err := db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM scheduler.decided_tasks)`).Scan(&decided); err != nil {
			return out, err
		}
		if c.collected {
			runtime.GC()
		}
		out.peak = max(out.peak, heapInUse())
		time.Sleep(5 * time.Millisecond)
	}
	out.took = time.Since(began)
	stopProfile()
	b.ran("audience "+name, rate(c.targets/perCall, out.took), meter, c.targets/perCall)
	if err := b.dearest(ctx, db); err != nil {
		return out, err
	}
	if err := db.QueryRow(ctx, wal).Scan(&after); err != nil {
		return out, err
	}
	if err := db.QueryRow(ctx, `
		SELECT max(extract(epoch FROM sent_at - ready_at) * 1000)::float8 FROM scheduler.slices`).Scan(&out.late); err != nil {
		return out, err
	}
	if err := d.Stop(ctx); err != nil { // its connections tell what they wrote
		return out, err
	}
	out.busiest = arrived.busiest()
	n := float64(c.targets / perCall)
	for range 100 { // they may take a moment to tell
		err = db.QueryRow(ctx, `SELECT sum(n_tup_upd + n_tup_del)::float8 FROM pg_stat_user_tables
		WHERE schemaname = 'scheduler' AND relname IN ('slices', 'slice_targets', 'running_tasks', 'quota_uses')`).Scan(&out.writes)
		if err != nil || out.writes >= 2*n {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	out.writes, out.wal = out.writes/n, (after-before)/n
	if err != nil {
		return out, err
	}
	return out, db.expectDecided(ctx, 1)
}

// heapInUse is what the last collection found in use, in MiB. Garbage is not
// counted: a longer run makes more of it before it is first collected.
func heapInUse() float64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return float64(live[0].Value.Uint64()) / (1 << 20)
}

func (b *bench) crowdedDaemon(ctx context.Context, db *database, c crowd, arrived *arrivals) (*app.App, error) {
	cfg := config.Default()
	cfg.Database.URL = config.Secret(db.url)
	cfg.Admin.Listen = "127.0.0.1:0"
	cfg.DataDir = b.dir
	cfg.RestoreGuard.Policy = "run"
	a := b.app(1, 100)
	a.CallsPerSecond = c.perSecond
	cfg.Apps = append(cfg.Apps, a)
	return app.New(ctx, app.Options{
		Config: &cfg, Adapters: []dispatch.Adapter{crowded{crowd: c, calls: new(atomic.Int64), arrivals: arrived}}, Log: b.logger(), Version: "bench",
	})
}

// A crowdCaller is the bare call with a whole delivery's targets.
type crowdCaller struct {
	*bareCaller
	delay time.Duration
}

func (b *bench) crowdCaller(delay time.Duration) crowdCaller {
	c := b.bareCaller()
	form := url.Values{
		"AppId": {appID(1)}, "DeliveryType": {"3"}, "ExpiredSeconds": {"600"}, "StrategyType": {"0"}, "TaskName": {"audience"},
		"TemplateName": {"welcome"}, "WorkspaceId": {workspace},
	}
	var body strings.Builder
	for i := range perCall {
		fmt.Fprintf(&body, "TargetMsg.%d.MsgKey=%%[1]s-%d&TargetMsg.%d.Target=user-%07d&", i+1, i, i+1, i)
	}
	c.body = body.String() + strings.ReplaceAll(form.Encode(), "%", "%%")
	return crowdCaller{c, delay}
}

func (c crowdCaller) push(ctx context.Context, n int64, due time.Time) error {
	if c.delay > 0 {
		time.Sleep(c.delay)
	}
	return c.bareCaller.push(ctx, n, due)
}

// audience is what large campaigns do: one of many targets, against a bare loop
// that makes the same calls, as many at once.
func audience(ctx context.Context, b *bench) error {
	db, err := b.pg.scheduler(ctx, "bench_ours")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := b.register(ctx, db, 100); err != nil {
		return err
	}
	large, small, bounded := b.audience, 10_000, b.audience/5
	const inFlight, slow, perSecondBound, spreadOver = 64, 50 * time.Millisecond, 200, 10 * time.Second
	runs := map[string]*struct {
		crowd
		perSecond, writes, wal, peak, late, busiest sample
	}{}
	for name, c := range map[string]crowd{
		"plain": {targets: large}, "slow": {targets: large, delay: slow}, "bound": {targets: bounded, perSecond: perSecondBound, instant: true},
		"paced": {targets: bounded, paced: perSecondBound * perCall, instant: true}, "spread": {targets: bounded, spread: spreadOver, instant: true},
		"smooth": {targets: bounded, instant: true, delay: slow}, "429": {targets: bounded, instant: true, delay: slow, throttled: 100}, "small": {targets: small, instant: true, collected: true},
		"many": {targets: large, instant: true, collected: true},
	} {
		runs[name] = &struct {
			crowd
			perSecond, writes, wal, peak, late, busiest sample
		}{crowd: c}
	}
	var bare, bareSlow, cancel sample
	for range b.rounds {
		b.machine.calibrate()
		for name, r := range runs {
			c, err := b.cross(ctx, db, name, r.crowd)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			n := r.targets / perCall
			b.say("audience %s: %d calls in %v, %.2f writes and %.0f bytes of WAL a delivery, %.0f MiB", name, n, c.took, c.writes, c.wal, c.peak)
			r.perSecond, r.writes = append(r.perSecond, rate(n, c.took)), append(r.writes, c.writes)
			r.wal, r.peak = append(r.wal, c.wal), append(r.peak, c.peak)
			r.late, r.busiest = append(r.late, c.late), append(r.busiest, c.busiest)
		}
		for _, l := range []struct {
			delay time.Duration
			out   *sample
		}{{0, &bare}, {slow, &bareSlow}} {
			n := large / perCall
			before := b.meter()
			took, err := loop(ctx, b.crowdCaller(l.delay), n, inFlight)
			if err != nil {
				return err
			}
			b.ran(fmt.Sprintf("audience, bare loop, %v", l.delay), rate(n, took), before, n)
			*l.out = append(*l.out, rate(n, took))
		}
		took, err := b.cancel(ctx, db, large)
		if err != nil {
			return err
		}
		b.say("cancel of %d waiting deliveries: %v", large, took)
		cancel = append(cancel, inMillis(took))
	}
	targets := thousands(float64(large)) + " targets"
	b.table.compare("one audience of "+targets+" over push_multiple, calls", new(atLeast(0.8)), perSecond, runs["plain"].perSecond, "bare loop, 64 at once", bare)
	b.table.compare("the same, the provider answers after 50 ms", new(atLeast(0.9)), perSecond, runs["slow"].perSecond, "bare loop, 64 at once", bareSlow)
	b.table.hold("row writes a delivery, beside its INSERT", new(atMost(2.1)), plain, runs["plain"].writes)
	b.table.hold("bytes of WAL a delivery, all in all", nil, plain, runs["plain"].wal)
	b.table.hold("row writes a delivery at calls_per_second 200", new(atMost(2.1)), plain, runs["bound"].writes)
	b.table.compare("calls at calls_per_second 200", new(atLeast(0.95)), perSecond, runs["bound"].perSecond, "the bound", sample{perSecondBound})
	b.table.compare("calls that arrive within any second of it, at most", new(atMost(1)), perSecond, runs["bound"].busiest, "the bound", sample{perSecondBound})
	b.table.hold("row writes a delivery at targets_per_second 20,000", new(atMost(2.1)), plain, runs["paced"].writes)
	b.table.compare("calls of 100 targets at targets_per_second 20,000", new(atLeast(0.95)), perSecond, runs["paced"].perSecond, "the bound", sample{perSecondBound})
	b.table.compare("calls that arrive within any second of it, at most", new(atMost(1)), perSecond, runs["paced"].busiest, "the bound", sample{perSecondBound})
	b.table.hold("row writes a delivery spread over 10 s", new(atMost(2.1)), plain, runs["spread"].writes)
	b.table.compare("calls spread over 10 s", new(atLeast(0.95)), perSecond, runs["spread"].perSecond, "evenly", sample{rate(bounded/perCall, spreadOver)})
	b.table.hold("a call begins after it was to, by the spread, at most", new(atMost(250)), millis, runs["spread"].late)
	b.table.compare("an audience with one 429 without Retry-After, calls", new(atLeast(0.83)), perSecond, runs["429"].perSecond, "without", runs["smooth"].perSecond)
	b.table.compare("heap in use, at most, "+targets, new(atMost(1.5)), mebibytes, runs["many"].peak, thousands(float64(small))+" targets", runs["small"].peak)
	b.table.hold("cancel of "+thousands(float64(large))+" waiting deliveries, to its COMMIT", new(atMost(2000)), millis, cancel)
	return nil
}

// cancel is how long an author's cancel takes of a campaign of which n
// deliveries wait.
func (b *bench) cancel(ctx context.Context, db *database, n int) (time.Duration, error) {
	if err := db.clear(ctx); err != nil {
		return 0, err
	}
	for _, sql := range []string{
		`INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, request) SELECT 'audience', app_id, workspace_id, 'mpaas.push_multiple', '{}' FROM scheduler.apps LIMIT 1`,
		`INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
			SELECT nextval('scheduler.task_ids'), app_no, id, 1, 'immediate', now(), now(), ` + fmt.Sprint(n) + `, 0 FROM scheduler.campaigns`,
		`INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at)
			SELECT id, g, app_no, campaign_id, now() FROM scheduler.running_tasks, generate_series(1, slices) g`,
	} {
		if _, err := db.Exec(ctx, sql); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	_, err := db.Exec(ctx, `UPDATE scheduler.campaigns SET status = 'cancelled'`)
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	return took, db.clear(ctx)
}
