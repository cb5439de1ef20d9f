//go:build unix

package main

import (
	"context"
	"time"
)

const benchApps = 100

func last(s sample) float64 { return s[len(s)-1] }

func rate(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }

// benchCampaigns is how many campaigns the tasks belong to where their number is
// not what matters: few enough for their compiled messages to stay in memory,
// as River's worker keeps its one.
const benchCampaigns = 1000

// throughput is tasks decided per second, durably, with a pusher that accepts
// at once.
func throughput(ctx context.Context, b *bench) error {
	db, err := b.pg.scheduler(ctx, "bench_ours")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := b.register(ctx, db, b.tasks/benchApps+1); err != nil {
		return err
	}
	river, err := newRival(ctx, b, "bench_river", false)
	if err != nil {
		return err
	}
	raw, err := newRawRows(ctx, b)
	if err != nil {
		return err
	}
	var ours, own, planned, quiet, theirs, ceiling sample
	for range b.rounds {
		b.machine.calibrate()
		if err := b.decide(ctx, db, "ours, no call", fill{tasks: b.tasks, campaigns: benchCampaigns}, true, &ours); err != nil {
			return err
		}
		if err := b.decideOutsideQuiet(ctx, db, &quiet); err != nil {
			return err
		}
		if err := b.riverDecides(ctx, river, b.tasks, &theirs); err != nil {
			return err
		}
		took, err := raw.run(ctx, b.tasks)
		if err != nil {
			return err
		}
		ceiling = append(ceiling, rate(b.tasks, took))
		if err := b.decide(ctx, db, "ours, no call, a campaign of its own for each task", fill{tasks: b.tasks}, true, &own); err != nil {
			return err
		}
		if err := b.decide(ctx, db, "ours, the same, and its next occurrence planned", fill{tasks: b.tasks, further: true}, true, &planned); err != nil {
			return err
		}
		b.say("no call: ours %.0f, River %.0f, raw rows %.0f, ours with a campaign per task %.0f, and planning %.0f, and with quiet hours later on %.0f per second",
			last(ours), last(theirs), last(ceiling), last(own), last(planned), last(quiet))
	}
	b.table.compare("tasks decided, no call", nil, perSecond, ours, "River", theirs)
	b.table.compare("the same, of apps whose quiet hours are later", new(atLeast(0.9)), perSecond, quiet, "apps without", ours)
	b.table.compare("the same against raw claim-and-finish of rows", new(atLeast(0.9)), perSecond, ours, "raw pgx", ceiling)
	b.table.compare("the same, each task of a campaign of its own that is loaded and compiled for it", nil, perSecond, own, "River", theirs)
	b.table.compare("the same, and its next occurrence planned", nil, perSecond, planned, "River", theirs)
	return nil
}

// decideOutsideQuiet is a round of apps that have quiet hours some hours from now:
// every claim asks for them.
func (b *bench) decideOutsideQuiet(ctx context.Context, db *database, out *sample) error {
	_, err := db.Exec(ctx, `UPDATE scheduler.apps SET quiet_from = ((now() + interval '11 hours') AT TIME ZONE time_zone)::time, quiet_until = ((now() + interval '12 hours') AT TIME ZONE time_zone)::time`)
	if err != nil {
		return err
	}
	if err := b.decide(ctx, db, "ours, no call, quiet hours later", fill{tasks: b.tasks, campaigns: benchCampaigns}, true, out); err != nil {
		return err
	}
	_, err = db.Exec(ctx, `UPDATE scheduler.apps SET quiet_from = NULL, quiet_until = NULL`)
	return err
}

// decide is one round of ours on tasks that are due already.
func (b *bench) decide(ctx context.Context, db *database, name string, f fill, instant bool, out *sample) error {
	f.due, f.spread = time.Now().Add(-15*time.Second), 10*time.Second
	if err := db.stage(ctx, f); err != nil {
		return err
	}
	d, err := b.newDaemon(ctx, db, benchApps, f.tasks/benchApps+1, instant)
	if err != nil {
		return err
	}
	before := b.meter()
	took, err := b.decideAll(ctx, db, f.tasks, []*daemon{d})
	if err != nil {
		return err
	}
	*out = append(*out, rate(f.tasks, took))
	b.ran(name, last(*out), before, f.tasks)
	return b.dearest(ctx, db)
}

func (b *bench) riverDecides(ctx context.Context, r *rival, n int, out *sample) error {
	if err := r.stage(ctx, n, time.Now().Add(-15*time.Second), 10*time.Second); err != nil {
		return err
	}
	before := b.meter()
	took, err := r.run(ctx, n, time.Time{})
	if err != nil {
		return err
	}
	*out = append(*out, rate(n, took))
	name := "River, no call"
	if r.caller != nil {
		name = "River, with call"
	}
	b.ran(name, last(*out), before, n)
	return nil
}

// loops is one round of a loop without a scheduler.
func (b *bench) loops(ctx context.Context, name string, c caller, goroutines int, out *sample) error {
	before := b.meter()
	took, err := loop(ctx, c, b.calls, goroutines)
	if err != nil {
		return err
	}
	*out = append(*out, rate(b.calls, took))
	b.ran(name, last(*out), before, b.calls)
	return nil
}

// calls is the same with one signed HTTP call per task.
func calls(ctx context.Context, b *bench) error {
	db, err := b.pg.scheduler(ctx, "bench_ours")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := b.register(ctx, db, b.calls/benchApps+1); err != nil {
		return err
	}
	river, err := newRival(ctx, b, "bench_river", true)
	if err != nil {
		return err
	}
	bareCaller := b.bareCaller()
	ownCaller, err := b.ownCaller()
	if err != nil {
		return err
	}
	goroutines, err := b.bestConcurrency(ctx, bareCaller)
	if err != nil {
		return err
	}
	var ours, own, theirs, bare, adapter sample
	for range b.rounds {
		b.machine.calibrate()
		if err := b.decide(ctx, db, "ours, with call", fill{tasks: b.calls, campaigns: benchCampaigns}, false, &ours); err != nil {
			return err
		}
		if err := b.loops(ctx, "bare loop", bareCaller, goroutines, &bare); err != nil {
			return err
		}
		if err := b.loops(ctx, "bare loop on our adapter", ownCaller, goroutines, &adapter); err != nil {
			return err
		}
		if err := b.riverDecides(ctx, river, b.calls, &theirs); err != nil {
			return err
		}
		if err := b.decide(ctx, db, "ours, with call, a campaign of its own for each task", fill{tasks: b.calls}, false, &own); err != nil {
			return err
		}
		b.say("with call: ours %.0f, bare loop %.0f, River %.0f, ours with a campaign per task %.0f per second", last(ours), last(bare), last(theirs), last(own))
	}
	b.table.compare("one signed call per task, against the bare loop", new(atLeast(0.9)), perSecond, ours, "bare loop", bare)
	b.table.compare("the same, against the bare loop on our adapter and connections", new(atLeast(0.7)), perSecond, ours, "bare loop", adapter)
	b.table.compare("one signed call per task, against River", nil, perSecond, ours, "River", theirs)
	b.table.compare("the same, each task of a campaign of its own", nil, perSecond, own, "River", theirs)
	return nil
}
