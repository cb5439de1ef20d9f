package engine

import (
	"context"
	"sync"
	"time"
)

// unheard gives back what the database holds of this daemon without its
// knowing: claims whose statement failed here, or was given up, and committed
// there, at once or when the network at last let it through.
type unheard struct {
	Config
	*loop
	clock      *Clock
	heart      *heart
	recorder   *recorder
	deliveries *deliveries
	ledger     *ledger

	// asking is held for reading from before a claim is asked for until what it
	// got is known here: what is then neither asked for nor known is lost.
	asking sync.RWMutex

	mu    sync.Mutex
	since time.Time // when an answer last did not arrive; zero: that is dealt with
	swept time.Time
}

// settled is how old a claim must be to be given back: longer than this
// daemon's reckoning of the database's clock can be wrong.
const settled = 10 * time.Second

func newUnheard(cfg Config) *unheard {
	u := &unheard{Config: cfg}
	u.loop = newLoop("unheard", cfg.Log, cfg.StatementTimeout, u.giveBack)
	return u
}

// note remembers that a claim's answer did not arrive.
func (u *unheard) note() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.since = time.Now()
}

// due says whether to look: for a while after an answer was lost, and now and
// then in any case. Not before the database's clock is known: by this machine's,
// which may be ahead, what is claimed later would seem to be old.
func (u *unheard) due(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.heart.id() != 0 && u.clock.known() && (!u.since.IsZero() || now.Sub(u.swept) >= u.Sweep)
}

// giveBack is one pass.
func (u *unheard) giveBack(ctx context.Context) error {
	now := time.Now()
	if !u.due(now) {
		return nil
	}
	u.asking.Lock()
	daemon, before := u.heart.id(), u.clock.Now().Add(-settled)
	claims, slices := append(u.recorder.claims(), u.ledger.recorded()...), u.deliveries.ids()
	u.asking.Unlock()
	n, err := u.Store.Unhear(ctx, daemon, before, claims, slices)
	if err != nil {
		return err
	}
	if n > 0 {
		u.Log.WarnContext(ctx, "claims given back whose answer was lost", "calls", n)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.swept = now
	if now.Sub(u.since) > 3*settled {
		u.since = time.Time{}
	}
	return nil
}
