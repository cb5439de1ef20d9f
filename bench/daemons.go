//go:build unix

package main

import (
	"context"
	"fmt"
	"time"
)

// severalDaemons holds two and four daemons on one database against one. They
// share this process, and so the machine's cores: what is measured is what they
// cost each other.
func severalDaemons(ctx context.Context, b *bench) error {
	db, err := b.pg.scheduler(ctx, "bench_ours")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := b.register(ctx, db, b.tasks/benchApps+1); err != nil {
		return err
	}
	s := scene{5_000, 10 * time.Second}
	if b.short {
		s = scene{1_000, 2 * time.Second}
	}
	rates, late, least := map[int]sample{}, map[int]sample{}, map[int]sample{}
	for range b.rounds {
		b.machine.calibrate()
		for _, n := range []int{1, 2, 4} {
			perSecond, share, err := b.shareWork(ctx, db, n)
			if err != nil {
				return err
			}
			seen, err := b.oursLate(ctx, db, s, n)
			if err != nil {
				return err
			}
			b.say("%d daemons: %.0f per second, least share %.2f, p99 %v", n, perSecond, share, seen.p99)
			rates[n], late[n], least[n] = append(rates[n], perSecond), append(late[n], inMillis(seen.p99)), append(least[n], share)
		}
	}
	const still = 0.95 // rounds of the same differ by as much
	for _, n := range []int{2, 4} {
		b.table.compare(fmt.Sprintf("%d daemons, tasks decided, no call", n), new(atLeast(still)), perSecond, rates[n], "one daemon", rates[1])
		b.table.compare(fmt.Sprintf("%d daemons, %s over %v, with call, p99 lateness", n, thousands(float64(s.n)), s.spread), new(atMost(1.5)), millis, late[n], "one daemon", late[1])
		b.table.hold(fmt.Sprintf("%d daemons, work of the least busy one, of a fair share", n), new(atLeast(0.5)), times, least[n])
	}
	return nil
}

// shareWork lets n daemons decide tasks that fall due together once all of them
// are there, and returns how fast they were and what part of a fair share the
// least busy one had.
func (b *bench) shareWork(ctx context.Context, db *database, n int) (perSecond, share float64, err error) {
	due, err := stageAhead(func(due time.Time) error {
		return db.stage(ctx, fill{tasks: b.tasks, campaigns: benchCampaigns, due: due, spread: time.Millisecond})
	})
	if err != nil {
		return 0, 0, err
	}
	list, err := b.newDaemons(ctx, db, n, b.tasks/benchApps+1, true)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	took, err := b.decideAll(ctx, db, b.tasks, list)
	if err != nil {
		return 0, 0, err
	}
	took -= due.Sub(began)
	share = 1
	for _, d := range list {
		share = min(share, float64(d.pushes.Load())*float64(n)/float64(b.tasks))
	}
	return rate(b.tasks, took), share, nil
}
