//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
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
	return b.besideLate(ctx, db, companion{
		what: "under a flood of bad signatures",
		settings: func(address string) string {
			return fmt.Sprintf("api:\n  listen: %s\n  clients: [{access_key_id: bench, access_key_secret: secret, role: %s}]\n", address, apiRole)
		},
		begin: func(ctx context.Context, address string) func() (string, error) {
			stop := badCalls(ctx, "http://"+address)
			return func() (string, error) {
				calls, err := stop()
				return fmt.Sprintf("%.0f bad calls per second", calls), err
			}
		},
	})
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
