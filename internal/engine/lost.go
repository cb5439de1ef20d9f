package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// lostClaims gives back claims whose answer was lost: the statement failed here, or
// was given up, and the database committed it, at once or when the network let it
// through later. No call of such a claim begins here.
type lostClaims struct {
	*loop
	store    *store.Store
	log      *slog.Logger
	clock    *Clock
	lease    *lease
	recorder *recorder
	ledger   *ledger
	attempts func() []int64 // deliveries under way here, by id
	sweep    time.Duration  // between looks without a reason

	// asking is read-locked from before a claim is sent until its answer is
	// registered. While it is write-locked, any claim in the database that is not
	// registered is one whose answer was lost.
	asking sync.RWMutex

	mu    sync.Mutex
	since time.Time // when an answer last did not arrive; zero: no such answer is left to deal with
	swept time.Time
}

// settled is the least age of a claim that is given back. It is longer than
// this daemon's estimate of the database's clock can be wrong.
const settled = 10 * time.Second

func newLostClaims(cfg *Config, clock *Clock, own *lease, r *recorder, attempts func() []int64) *lostClaims {
	l := &lostClaims{
		store: cfg.Store, log: cfg.Log, clock: clock, lease: own, recorder: r, ledger: own.ledger, attempts: attempts, sweep: cfg.Sweep,
	}
	l.loop = newLoop("lost claims", cfg.Log, cfg.StatementTimeout, own.answers, l.giveBack)
	return l
}

// answerLost remembers that a claim's answer did not arrive.
func (l *lostClaims) answerLost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = time.Now()
}

// due says whether to look for lost claims: for a while after an answer was
// lost, and at each sweep. It is false before the database's clock is known.
// This machine's clock may be ahead, and new claims would seem to be old.
func (l *lostClaims) due(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lease.id() != 0 && l.clock.known() && (!l.since.IsZero() || now.Sub(l.swept) >= l.sweep)
}

// giveBack is one pass.
func (l *lostClaims) giveBack(ctx context.Context) error {
	now := time.Now()
	if !l.due(now) {
		return nil
	}
	l.asking.Lock()
	daemon, before := l.lease.id(), l.clock.Now().Add(-settled)
	claims, slices := append(l.recorder.claims(), l.ledger.recorded()...), l.attempts()
	l.asking.Unlock()
	n, err := l.store.ReturnLostClaims(ctx, daemon, before, claims, slices)
	if err != nil {
		return err
	}
	if n > 0 {
		l.log.WarnContext(ctx, "claims given back whose answer was lost", "calls", n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swept = now
	if now.Sub(l.since) > 3*settled {
		l.since = time.Time{}
	}
	return nil
}
