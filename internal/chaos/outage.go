//go:build linux

package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/badnet"
)

// An outage is a fault of the database, a network or a push API. run returns
// when the outage is over.
type outage struct {
	name string
	run  func(ctx context.Context, pause time.Duration) error

	delays bool // calls may arrive long after they began
}

// breakThings makes one outage after the other, at times two at once.
func (r *run) breakThings(ctx context.Context, rng *rand.Rand) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		sleep(ctx, time.Duration(1000+rng.IntN(5000))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		if rng.IntN(3) == 0 { // a second outage, of one daemon's network
			o, pause := r.network(rng, rng.IntN(len(r.daemons)), 1), r.pause(rng)
			wg.Go(func() { r.suffer(ctx, o, pause) })
		}
		r.suffer(ctx, r.outage(rng), r.pause(rng))
	}
}

// pause draws how long an outage lasts: often less than a lease, often more.
func (r *run) pause(rng *rand.Rand) time.Duration {
	return time.Duration(300+rng.IntN(int(3*lease/time.Millisecond))) * time.Millisecond
}

func (r *run) suffer(ctx context.Context, o outage, pause time.Duration) {
	r.Log.InfoContext(ctx, "outage", "kind", o.name, "for", pause)
	r.report.count("outages", 1)
	r.report.count("outages: "+o.name, 1)
	began := time.Now()
	defer func() {
		if o.delays {
			r.report.excuse(began, time.Now().Add(4*time.Second))
		}
	}()
	if err := o.run(ctx, pause); err != nil && ctx.Err() == nil {
		r.Log.WarnContext(ctx, "outage", "kind", o.name, "error", err)
	}
	if err := r.db.revive(context.WithoutCancel(ctx)); err != nil {
		r.report.violate("the database can be started again", "after %s: %v", o.name, err)
	}
}

func (r *run) outage(rng *rand.Rand) outage {
	if r.Mutant != nil && r.Mutant.Fault != "" && rng.IntN(2) == 0 {
		return r.badAPI(r.Mutant.Fault)
	}
	switch rng.IntN(12) {
	case 0:
		return outage{name: "database restarted", run: func(ctx context.Context, pause time.Duration) error {
			return r.db.restart(context.WithoutCancel(ctx), false, pause/2)
		}}
	case 1:
		return outage{name: "database crashed", run: func(ctx context.Context, pause time.Duration) error {
			return r.db.restart(context.WithoutCancel(ctx), true, pause/4)
		}}
	case 2:
		return outage{name: "database hung", run: func(ctx context.Context, pause time.Duration) error {
			r.db.hang(ctx, pause)
			return nil
		}}
	case 3:
		return outage{name: "database read-only", run: r.db.readOnly}
	case 4:
		return outage{name: "out of connections", run: r.db.exhaust}
	case 5:
		if r.db.disk != nil {
			return outage{name: "disk full", run: r.db.fill}
		}
		return outage{name: "database read-only", run: r.db.readOnly}
	case 6:
		return outage{name: "push API killed", run: func(ctx context.Context, pause time.Duration) error {
			r.api.process.kill()
			sleep(ctx, pause/2)
			return r.api.start()
		}}
	case 7, 8:
		return r.badAPI(pick(rng, "throttle=0.5", "status=503:0.4", "cut_before=0.5", "cut_after=0.5", "hang=0.2", "hang_after=0.3", "error=0.4",
			"html=0.3", "delay=700ms:0.5", "refuse=0.3", "delay=1900ms:0.3,cut_after=0.2,throttle=0.2", "forged=0.5@alipay", "throttle=1*1@alipay.single_send", "throttle=1*1"))
	default:
		first, n := rng.IntN(len(r.daemons)), 1
		if rng.IntN(2) == 0 {
			n = len(r.daemons)
		}
		return r.network(rng, first, n)
	}
}

// jumpClock now and then sets the database's clock: by up to half a minute, or back
// by an hour and after a while forward again.
func (r *run) jumpClock(ctx context.Context, rng *rand.Rand) {
	for hour := true; ; hour = rng.IntN(3) == 0 {
		sleep(ctx, time.Duration(5000+rng.IntN(8000))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		ahead := r.ahead() + time.Duration(rng.IntN(60_000)-30_000)*time.Millisecond
		pause := time.Duration(0)
		if hour {
			ahead, pause = r.ahead()-time.Hour, r.pause(rng)
		}
		r.Log.InfoContext(ctx, "the database's clock", "ahead", ahead, "for", pause)
		err := r.db.clock.set(ahead)
		if hour {
			r.report.count("database's clock an hour back", 1)
			sleep(ctx, pause)
			err = errors.Join(err, r.db.clock.set(r.ahead()))
		} else {
			r.report.count("jumps of the database's clock", 1)
		}
		if err != nil {
			r.Log.WarnContext(ctx, "the database's clock", "error", err)
		}
	}
}

// badAPI makes some calls fail; spec is in the sandbox's syntax of faults.
func (r *run) badAPI(spec string) outage {
	return outage{name: "push API: " + spec, run: func(ctx context.Context, pause time.Duration) error {
		if err := r.api.faults(spec); err != nil {
			return err
		}
		sleep(ctx, pause)
		return r.api.faults("")
	}}
}

// network breaks one of the two connections of n daemons, from the first on.
func (r *run) network(rng *rand.Rand, first, n int) outage {
	way, fault := pick(rng, "database", "database", "push API"), pick(rng, "cut", "refused", "black hole", "black hole", "slow")
	delay := time.Duration(20+rng.IntN(400)) * time.Millisecond
	if r.Mutant.freezes() {
		way = "database"
	}
	each := func(f func(*daemon, *badnet.Proxy)) {
		for i := range n {
			d := r.daemons[(first+i)%len(r.daemons)]
			if p := d.db; way == "database" {
				f(d, p)
			} else {
				f(d, d.api)
			}
		}
	}
	return outage{name: "way to the " + way + ": " + fault, delays: way == "push API", run: func(ctx context.Context, pause time.Duration) error {
		each(func(_ *daemon, p *badnet.Proxy) {
			switch fault {
			case "cut":
				p.Cut()
			case "refused":
				p.Refuse()
			case "black hole":
				p.BlackHole()
			default:
				p.Delay(delay)
			}
		})
		if fault != "cut" {
			sleep(ctx, pause)
		}
		var err error
		each(func(d *daemon, p *badnet.Proxy) {
			if e := d.heal(p); e != nil {
				err = e
			}
		})
		return err
	}}
}
