package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// lockWaits looks for sessions of others for whose locks sessions of the engine
// wait, and logs who they are. It takes no lock and waits for none. Any number of
// daemons may run it at once.
type lockWaits struct {
	*loop
	store   *store.Store
	log     *slog.Logger
	metrics *Metrics

	mu     sync.Mutex
	last   []store.Wait
	logged map[int32]bool // the sessions that the log has named, by process id
}

func newLockWaits(cfg *Config) *lockWaits {
	w := &lockWaits{store: cfg.Store, log: cfg.Log, metrics: cfg.Metrics, logged: make(map[int32]bool)}
	w.loop = newLoop("lock waits", cfg.Log, 3*time.Second, nil, w.look)
	return w
}

func (w *lockWaits) look(ctx context.Context) error {
	found, err := w.store.Waits(ctx)
	if err != nil {
		return err
	}
	logged := make(map[int32]bool, len(found))
	for _, f := range found {
		logged[f.PID] = true
		if !w.logged[f.PID] {
			w.log.WarnContext(ctx, "the engine waits for somebody's lock", "pid", f.PID, "login", f.Login, "application", f.Application, "relation", f.Relation)
		}
	}
	w.logged = logged
	w.metrics.Blocking.Set(float64(len(found)))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = found
	return nil
}

// Blocking returns the sessions for whose locks the engine's sessions have
// waited for more than a second, as of the last look.
func (e *Engine) Blocking() []store.Wait {
	e.lockWaits.mu.Lock()
	defer e.lockWaits.mu.Unlock()
	return e.lockWaits.last
}
