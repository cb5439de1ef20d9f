//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// lead is how far ahead of their due time tasks are stored.
const lead = 6 * time.Second

// stageAhead sets a stage whose due time is in the future, and still is far
// enough when all is set; on a slow machine it takes more than one try.
func stageAhead(prepare func(due time.Time) error) (due time.Time, err error) {
	for ahead := lead; ahead < 2*time.Minute; ahead *= 2 {
		due = time.Now().Add(ahead).Truncate(time.Second)
		if err := prepare(due); err != nil || time.Until(due) > 3*time.Second {
			return due, err
		}
	}
	return due, errors.New("setting the stage took too long: nothing was measured")
}

// A companion goes on beside the pushes of the program, through a listener of its own.
type companion struct {
	what     string                      // in the table
	settings func(address string) string // of the program, so that it listens there
	history  int                         // decided tasks that are stored
	// begin starts it, and stop ends it and says what it came to. The program may not
	// listen yet. Nil: there is none.
	begin func(ctx context.Context, address string) (stop func() (text string, err error))
}

// besideLate is scheduled pushes of the program itself, in a process of its own, with and
// without a companion.
func (b *bench) besideLate(ctx context.Context, db *database, c companion) error {
	s := scene{10_000, 20 * time.Second}
	if b.short {
		s = scene{2_000, 4 * time.Second}
	}
	warm, err := b.startProgram(ctx, db, 100) // builds it, which must not count against the lead
	if err != nil {
		return err
	}
	warm.stop()
	var alone, beside sample
	for range b.rounds {
		b.machine.calibrate()
		without, _, err := b.lateWith(ctx, db, s, companion{settings: c.settings, history: c.history})
		if err != nil {
			return err
		}
		with, text, err := b.lateWith(ctx, db, s, c)
		if err != nil {
			return err
		}
		b.say("p99 %v, and %v with %s", without.p99, with.p99, text)
		alone, beside = append(alone, inMillis(without.p99)), append(beside, inMillis(with.p99))
	}
	b.table.compare(fmt.Sprintf("%s over %v, p99 lateness %s", thousands(float64(s.n)), s.spread, c.what), new(atMost(1.5)), millis, beside, "without", alone)
	return nil
}

// lateWith runs a scene, and returns what the companion came to.
func (b *bench) lateWith(ctx context.Context, db *database, s scene, c companion) (late spell, text string, err error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return late, "", err
	}
	if _, err := stageAhead(func(due time.Time) error {
		return db.stage(ctx, fill{tasks: s.n, history: c.history, due: due, spread: s.spread})
	}); err != nil {
		return late, "", err
	}
	from := b.box.mark()
	p, err := b.startProgram(ctx, db, 100, c.settings(address))
	if err != nil {
		return late, "", err
	}
	defer p.stop()
	stop := func() (string, error) { return "", nil }
	if c.begin != nil {
		stop = c.begin(ctx, address)
	}
	err = db.awaitDecided(ctx, s.n)
	text, stopErr := stop()
	if err := errors.Join(err, stopErr, b.dearest(ctx, db)); err != nil {
		return late, "", err
	}
	late, err = b.box.spell(from, s.n)
	return late, text, err
}

// freeAddress is one of loopback on which nobody listens.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// awaitDecided looks seldom, and counts nothing before the last task has ended, so
// that it weighs on nothing.
func (d *database) awaitDecided(ctx context.Context, n int) error {
	for deadline := time.Now().Add(3 * time.Minute); ; {
		var some bool
		err := d.QueryRow(ctx, `SELECT EXISTS (SELECT FROM scheduler.pending_tasks) OR EXISTS (SELECT FROM scheduler.claims)`).Scan(&some)
		if err != nil || !some || time.Now().After(deadline) {
			return errors.Join(err, d.expectDecided(ctx, n))
		}
		if err := sleepUntil(ctx, time.Now().Add(500*time.Millisecond)); err != nil {
			return err
		}
	}
}

// A spell is what the sandbox saw of one run.
type spell struct {
	p50, p99, last time.Duration // due to arrival
	early          int           // arrivals before their due time
}

func (x *box) spell(from int64, n int) (spell, error) {
	arrivals, err := x.arrivals(from)
	if err != nil {
		return spell{}, err
	}
	if len(arrivals) != n {
		return spell{}, fmt.Errorf("%d calls arrived, expected %d", len(arrivals), n)
	}
	var s spell
	late := make([]time.Duration, n)
	for i, a := range arrivals {
		late[i] = a.at.Sub(a.due)
		if late[i] < 0 {
			s.early++
		}
	}
	s.p50, s.p99, s.last = quantile(late, 0.5), quantile(late, 0.99), quantile(late, 1)
	return s, nil
}

// A scene is n tasks due over a stretch of time.
type scene struct {
	n      int
	spread time.Duration
}

// lateness is measured from the due time to the request's arrival, by the
// sandbox's clock.
func lateness(ctx context.Context, b *bench) error {
	db, err := b.pg.scheduler(ctx, "bench_ours")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := b.register(ctx, db, 100); err != nil {
		return err
	}
	river, err := newRival(ctx, b, "bench_river", true)
	if err != nil {
		return err
	}
	spread, burst := scene{10_000, 20 * time.Second}, scene{10_000, 0}
	if b.short {
		spread, burst = scene{2_000, 4 * time.Second}, scene{2_000, 0}
	}
	early, err := b.spreadLateness(ctx, db, river, spread)
	if err != nil {
		return err
	}
	more, err := b.burstLateness(ctx, db, river, burst)
	if err != nil {
		return err
	}
	b.table.hold("requests that arrived before their due time", new(atMost(0)), thousands, sample{float64(early + more)})
	return nil
}

func (b *bench) spreadLateness(ctx context.Context, db *database, river *rival, s scene) (early int, err error) {
	var p50, p99, riverP99 sample
	for range b.rounds {
		b.machine.calibrate()
		ours, err := b.oursLate(ctx, db, s, 1)
		if err != nil {
			return 0, err
		}
		theirs, err := b.riverLate(ctx, river, s)
		if err != nil {
			return 0, err
		}
		b.say("spread: ours p50 %v p99 %v last %v, River p50 %v p99 %v", ours.p50, ours.p99, ours.last, theirs.p50, theirs.p99)
		p50, p99 = append(p50, inMillis(ours.p50)), append(p99, inMillis(ours.p99))
		riverP99 = append(riverP99, inMillis(theirs.p99))
		early += ours.early
	}
	what := fmt.Sprintf("%s over %v, with call, ", thousands(float64(s.n)), s.spread)
	b.table.hold(what+"p99 lateness", new(atMost(5)), millis, p99)
	b.table.hold(what+"p50 lateness", nil, millis, p50)
	b.table.compare(what+"p99 lateness against River", nil, millis, riverP99, "ours", p99)
	return early, nil
}

func (b *bench) burstLateness(ctx context.Context, db *database, river *rival, s scene) (early int, err error) {
	bareCaller := b.bareCaller()
	goroutines, err := b.bestConcurrency(ctx, bareCaller)
	if err != nil {
		return 0, err
	}
	var p99, bare, riverP99 sample
	for range b.rounds {
		b.machine.calibrate()
		ours, err := b.oursLate(ctx, db, s, 1)
		if err != nil {
			return 0, err
		}
		took, err := loop(ctx, bareCaller, s.n, goroutines)
		if err != nil {
			return 0, err
		}
		theirs, err := b.riverLate(ctx, river, s)
		if err != nil {
			return 0, err
		}
		b.say("burst: ours p50 %v p99 %v, bare loop took %v, River p50 %v p99 %v", ours.p50, ours.p99, took, theirs.p50, theirs.p99)
		p99, bare, riverP99 = append(p99, inMillis(ours.p99)), append(bare, inMillis(took)), append(riverP99, inMillis(theirs.p99))
		early += ours.early
	}
	what := thousands(float64(s.n)) + " due in the same second, with call, p99 lateness against "
	b.table.compare(what+"the time the bare loop needs for them", new(atMost(1.15)), millis, p99, "bare loop", bare)
	b.table.compare(what+"River", nil, millis, p99, "River", riverP99)
	return early, nil
}

// oursLate runs a scene on as many daemons as told.
func (b *bench) oursLate(ctx context.Context, db *database, s scene, daemons int) (spell, error) {
	_, err := stageAhead(func(due time.Time) error { return db.stage(ctx, fill{tasks: s.n, due: due, spread: s.spread}) })
	if err != nil {
		return spell{}, err
	}
	from := b.box.mark()
	list, err := b.newDaemons(ctx, db, daemons, 100, false)
	if err != nil {
		return spell{}, err
	}
	if _, err := b.decideAll(ctx, db, s.n, list); err != nil {
		return spell{}, err
	}
	return b.box.spell(from, s.n)
}

func (b *bench) newDaemons(ctx context.Context, db *database, n, limit int, instant bool) ([]*daemon, error) {
	list := make([]*daemon, n)
	for i := range list {
		var err error
		if list[i], err = b.newDaemon(ctx, db, benchApps, limit, instant); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (b *bench) riverLate(ctx context.Context, r *rival, s scene) (spell, error) {
	due, err := stageAhead(func(due time.Time) error { return r.stage(ctx, s.n, due, s.spread) })
	if err != nil {
		return spell{}, err
	}
	from := b.box.mark()
	if _, err := r.run(ctx, s.n, due); err != nil {
		return spell{}, err
	}
	return b.box.spell(from, s.n)
}
