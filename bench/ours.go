//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/internal/app"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

const workspace = "bench"

func appID(i int) string { return fmt.Sprintf("app-%d", i) }

// A daemon is ours, wired as the program wires it. Only the adapter may differ.
type daemon struct {
	app    *app.App
	pushes *atomic.Int64 // that came back accepted
}

// counting is the mPaaS adapter, with a count of its accepted pushes. Without a
// sandbox it accepts at once and calls nobody.
type counting struct {
	mpaas.Adapter
	instant bool
	pushes  *atomic.Int64
}

// New makes the Pusher of one app.
func (c counting) New(s dispatch.Settings) (dispatch.Pusher, error) {
	if c.instant {
		return countingPusher{pushes: c.pushes}, nil
	}
	p, err := c.Adapter.New(s)
	return countingPusher{p, c.pushes}, err
}

type countingPusher struct {
	dispatch.Pusher // nil: accept at once
	pushes          *atomic.Int64
}

// Push makes the call, or none.
func (p countingPusher) Push(ctx context.Context, push *dispatch.Push) dispatch.Outcome {
	o := dispatch.Outcome{Class: dispatch.Accepted, RequestID: "r", MessageID: "m"}
	if p.Pusher != nil {
		o = p.Pusher.Push(ctx, push)
	}
	if o.Class == dispatch.Accepted {
		p.pushes.Add(1)
	}
	return o
}

// newDaemon prepares a daemon for n apps.
func (b *bench) newDaemon(ctx context.Context, db *database, n, limit int, instant bool) (*daemon, error) {
	cfg := config.Default()
	cfg.Database.URL = config.Secret(db.url)
	cfg.Admin.Listen = "127.0.0.1:0"
	cfg.DataDir = b.dir
	cfg.RestoreGuard.Policy = "run" // databases come and go here
	if instant {
		cfg.Dispatch.MaxInFlight = b.inFlight
	}
	for i := range n {
		cfg.Apps = append(cfg.Apps, b.app(i+1, limit))
	}
	d := &daemon{pushes: new(atomic.Int64)}
	var err error
	d.app, err = app.New(ctx, app.Options{
		Config: &cfg, Adapters: []dispatch.Adapter{counting{instant: instant, pushes: d.pushes}}, Log: b.logger(), Version: "bench",
	})
	return d, err
}

func (b *bench) app(i, limit int) config.App {
	a := config.App{
		AppID: appID(i), WorkspaceID: workspace, Provider: "mpaas", Endpoint: b.box.url, TimeZone: "Asia/Shanghai",
		PendingLimit: limit, MaxInFlight: 64, Options: map[string]config.Secret{},
	}
	for name, value := range b.box.options {
		a.Options[name] = config.Secret(value)
	}
	return a
}

// register makes the database know the apps, as a daemon does at its start.
func (b *bench) register(ctx context.Context, db *database, limit int) error {
	d, err := b.newDaemon(ctx, db, benchApps, limit, true)
	if err != nil {
		return err
	}
	return d.app.Stop(ctx)
}

// decideAll starts daemons on a database with n tasks that are due and returns
// how long it took until every decision was durable, from when on the first
// daemon was started, and how many each of them pushed.
func (b *bench) decideAll(ctx context.Context, db *database, n int, daemons []*daemon) (time.Duration, error) {
	stop, err := b.profile()
	if err != nil {
		return 0, err
	}
	defer stop()
	began := time.Now()
	for _, d := range daemons {
		d.app.Start()
	}
	if err := awaitPushes(ctx, n, daemons); err != nil {
		return 0, err
	}
	if err := db.awaitRecords(ctx); err != nil {
		return 0, err
	}
	took := time.Since(began)
	for _, d := range daemons {
		if err := d.app.Stop(ctx); err != nil {
			return 0, err
		}
	}
	return took, db.expectDecided(ctx, n)
}

func pushed(daemons []*daemon) int {
	n := 0
	for _, d := range daemons {
		n += int(d.pushes.Load())
	}
	return n
}

func awaitPushes(ctx context.Context, n int, daemons []*daemon) error {
	deadline := time.Now().Add(3 * time.Minute)
	for pushed(daemons) < n {
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d tasks were pushed in three minutes", pushed(daemons), n)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// awaitRecords waits until no claim is open: then every outcome is durable.
func (d *database) awaitRecords(ctx context.Context) error {
	for {
		var open bool
		if err := d.QueryRow(ctx, `SELECT EXISTS (SELECT FROM scheduler.claims)`).Scan(&open); err != nil || !open {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func (d *database) expectDecided(ctx context.Context, n int) error {
	var got int
	err := d.QueryRow(ctx, `SELECT count(*) FROM scheduler.decided_tasks WHERE daemon_id IS NOT NULL AND status = 'succeeded'`).Scan(&got)
	if err == nil && got != n {
		err = fmt.Errorf("%d tasks succeeded, expected %d", got, n)
	}
	return err
}

var profiles atomic.Int64

// profile writes a CPU profile of one run of ours, when asked to.
func (b *bench) profile() (stop func(), err error) {
	if b.cpuprofile == "" {
		return func() {}, nil
	}
	f, err := os.Create(fmt.Sprintf("%s.%d", b.cpuprofile, profiles.Add(1)))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}), nil
}
