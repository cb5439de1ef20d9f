//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
	"github.com/campaign-scheduler/scheduler/store"
)

// floodCallers is how many connections carry the flood, each of which makes its next
// call when the last one was refused.
const floodCallers = 16

// flood is scheduled pushes of the program itself, in a process of its own, with and
// without a flood of badly signed calls to its API. On this machine the flood's
// caller and the daemon share the processors.
func flood(ctx context.Context, b *bench) error {
	db, err := b.pg.scheduler(ctx, "bench_flood")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := b.register(ctx, db, 100); err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Config{URL: db.url, MaxConns: 1})
	if err != nil {
		return err
	}
	err = s.PrepareTrial(ctx, apiRole)
	s.Close()
	if err != nil {
		return err
	}
	scene := scene{10_000, 20 * time.Second}
	if b.short {
		scene.n, scene.spread = 2_000, 4*time.Second
	}
	warm, err := b.startProgram(ctx, db, 100) // builds it, which must not count against the lead
	if err != nil {
		return err
	}
	warm.stop()
	var alone, flooded sample
	for range b.rounds {
		b.machine.calibrate()
		without, _, err := b.floodedLate(ctx, db, scene, false)
		if err != nil {
			return err
		}
		with, calls, err := b.floodedLate(ctx, db, scene, true)
		if err != nil {
			return err
		}
		b.say("flood: p99 %v, and %v under %.0f bad calls per second", without.p99, with.p99, calls)
		alone, flooded = append(alone, inMillis(without.p99)), append(flooded, inMillis(with.p99))
	}
	b.table.compare(fmt.Sprintf("%s over %v, p99 lateness under a flood of bad signatures", thousands(float64(scene.n)), scene.spread),
		new(atMost(1.5)), millis, flooded, "without it", alone)
	return nil
}

// floodedLate runs a scene, under a flood or not, and returns how many calls a second
// were refused.
func (b *bench) floodedLate(ctx context.Context, db *database, s scene, flooded bool) (late spell, calls float64, err error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return late, 0, err
	}
	if _, err := stageAhead(func(due time.Time) error { return db.stage(ctx, fill{tasks: s.n, due: due, spread: s.spread}) }); err != nil {
		return late, 0, err
	}
	from := b.box.mark()
	p, err := b.startProgram(ctx, db, 100, fmt.Sprintf("api:\n  listen: %s\n  clients: [{access_key_id: bench, access_key_secret: secret, role: %s}]\n", address, apiRole))
	if err != nil {
		return late, 0, err
	}
	defer p.stop()
	stop := func() (float64, error) { return 0, nil }
	if flooded {
		stop = badCalls(ctx, "http://"+address)
	}
	err = db.awaitDecided(ctx, s.n)
	calls, floodErr := stop()
	if err := errors.Join(err, floodErr); err != nil {
		return late, 0, err
	}
	late, err = b.box.spell(from, s.n)
	return late, calls, err
}

// freeAddress is one of loopback on which nobody listens.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// awaitDecided looks seldom, so that it weighs on nothing.
func (d *database) awaitDecided(ctx context.Context, n int) error {
	for deadline := time.Now().Add(3 * time.Minute); ; {
		err := d.expectDecided(ctx, n)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if err := sleepUntil(ctx, time.Now().Add(500*time.Millisecond)); err != nil {
			return err
		}
	}
}

// badCalls makes calls with a wrong secret until it is stopped; stop says how many a
// second were refused. Another answer than the refusal is an error.
func badCalls(ctx context.Context, endpoint string) (stop func() (perSecond float64, err error)) {
	ctx, cancel := context.WithCancel(ctx)
	wrong := aliyun.NewKey("bench", "not the secret", "")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: floodCallers}}
	var refused atomic.Int64
	var once sync.Once
	var failed error
	var wait sync.WaitGroup
	began := time.Now()
	address := aliyun.SignURL(endpoint, wrong, "PushMultiple", pushParams(0), rand.Text(), time.Now())
	for range floodCallers {
		wait.Go(func() {
			for ctx.Err() == nil {
				switch status, err := openAddress(ctx, client, address); {
				case err != nil: // it does not listen yet, or this is over
					_ = sleepUntil(ctx, time.Now().Add(10*time.Millisecond))
				case status != http.StatusBadRequest:
					once.Do(func() { failed = fmt.Errorf("a badly signed call was answered with HTTP %d", status) })
				default:
					refused.Add(1)
				}
			}
		})
	}
	return func() (float64, error) {
		took := time.Since(began)
		cancel()
		wait.Wait()
		client.CloseIdleConnections()
		if failed == nil && refused.Load() == 0 {
			failed = errors.New("the flood never reached the API")
		}
		return rate(int(refused.Load()), took), failed
	}
}

func openAddress(ctx context.Context, client *http.Client, address string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}
