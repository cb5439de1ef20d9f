package engine

import (
	"context"
	"errors"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// Errors of Stop. Neither loses anything: another daemon, or the next start,
// rules on calls whose outcome is not recorded.
var (
	ErrNotRecorded = errors.New("outcomes could not be recorded within the grace period; another daemon will rule on them")
	ErrCutShort    = errors.New("stopped before every outcome was recorded; another daemon will rule on the rest")
)

// Stop ends the services: nothing new begins, calls under way may end within
// the grace period, their outcomes are recorded, and the lease is given up, so
// that others go on with the rest at once. It returns early, having cut the
// calls, when ctx ends.
func (e *Engine) Stop(ctx context.Context) error {
	rest := e.beatOn()
	e.stop()
	e.wg.Wait()
	e.waitForCalls(ctx)
	e.stopCalls()
	e.calls.Dismiss()
	err := e.flush(ctx)
	rest()
	e.stopRecorders()
	e.late.Wait()
	return errors.Join(err, e.retire(ctx))
}

// beatOn keeps the lease while calls end and outcomes are recorded, until the
// returned function is called.
func (e *Engine) beatOn() (rest func()) {
	ctx, cancel := context.WithCancel(context.Background())
	e.late.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				e.wakes.draining()
			}
		}
	})
	return cancel
}

func (e *Engine) waitForCalls(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		e.calls.Wait()
		close(done)
	}()
	timer := time.NewTimer(e.cfg.Grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// flush waits until every outcome is recorded.
func (e *Engine) flush(ctx context.Context) error {
	timer := time.NewTimer(e.cfg.Grace)
	defer timer.Stop()
	for _, drained := range []<-chan struct{}{e.recorder.drained(), e.deliveries.drained()} {
		select {
		case <-drained:
			continue
		default:
		}
		select {
		case <-drained:
		case <-timer.C:
			return ErrNotRecorded
		case <-ctx.Done():
			return ErrCutShort
		}
	}
	return nil
}

// retire gives the lease up. Who wants to end now does not wait for a database
// that does not answer: the lease runs out by itself.
func (e *Engine) retire(ctx context.Context) error {
	id := e.lease.id()
	if id == 0 {
		return nil
	}
	patience := e.cfg.StatementTimeout
	if ctx.Err() != nil {
		patience = time.Second
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	err := e.cfg.Store.Retire(ctx, id)
	if store.IsOutage(err) && ctx.Err() == nil { // the connection may be one that a failover broke
		e.cfg.Store.Discard()
		err = e.cfg.Store.Retire(ctx, id)
	}
	return err
}
