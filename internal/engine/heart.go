package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// A heart keeps the daemon's lease, its idea of the database's clock, and its
// idea of who else is there; and it rules on what dead daemons left behind.
type heart struct {
	*loop
	store    *store.Store
	log      *slog.Logger
	metrics  *Metrics
	clock    *Clock
	name     string
	version  string
	lease    time.Duration
	alone    bool
	guard    Guard
	inline   func(*store.Campaign) []string // whom a campaign's request names
	traces   *traces
	memory   *memory
	ledger   *ledger
	onStored func()                                                 // stored deliveries may be ready, or their tasks complete
	onShare  func()                                                 // daemons came or went: what is this one's to begin has changed
	onGone   func()                                                 // daemons went: what only they knew has to be found
	onLoss   func()                                                 // the lease was lost: forget what was planned
	onLost   func(*store.Known, ledgerCopy, *store.Recognition) int // the database lost records: write them again
	onKeys   func(Keys)

	mu       sync.RWMutex
	daemon   int64
	daemons  []int64
	lacking  map[int64][]int32 // of daemons: the apps they have no credentials for
	lacks    map[int32]bool    // the same of this one
	peers    sightings
	dead     []store.Peer // found dead and not ended yet; only the running loop touches it
	renewed  time.Time    // begin of the last successful renewal, by our monotonic clock
	steady   time.Time    // since when renewals have not failed
	outage   time.Time    // since when heartbeats fail; zero: they do not
	troubled bool         // the log says that the database fails
	warned   bool

	last       int64     // the identity with the last lease, also when it is lost
	beatAt     time.Time // the last heartbeat, by the database's clock
	seal       string    // of the database, as this daemon knows it; empty: it knows none
	origin     uint32    // of the database: another one was restored from a dump
	recognised bool      // the database that answers has that seal, and all daemons have looked

	installation string // the database's id
	beats        int64  // heartbeats written as this daemon
	held         bool   // nothing may begin until an operator releases it
	holdReason   string
	released     time.Time // when a hold was last seen to have ended; zero: none was
}

func newHeart(cfg Config, clock *Clock) *heart {
	h := &heart{
		store: cfg.Store, log: cfg.Log, metrics: cfg.Metrics, clock: clock, name: cfg.Name, version: cfg.Version, lease: cfg.Lease, alone: cfg.Alone,
		guard: cfg.Guard, memory: &memory{dir: cfg.Guard.Dir, log: cfg.Log}, ledger: newLedger(),
	}
	h.inline = inlineNames(newFaults(cfg.Log, cfg.Metrics).guard(cfg.Compile))
	h.loop = newLoop("heartbeat", cfg.Log, cfg.Lease, h.beat)
	return h
}

// id is the daemon's identity; it changes when the lease was lost.
func (h *heart) id() int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.daemon
}

// alive says whether pushes may begin: the lease certainly holds now, and the
// restore guard does not hold them.
func (h *heart) alive() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return !h.held && h.recognised && h.leased()
}

func (h *heart) leased() bool {
	now := time.Now()
	// The monotonic clock stands still while a machine sleeps, the wall clock
	// does not; whichever says that more time has passed is believed.
	passed := max(now.Sub(h.renewed), now.Round(0).Sub(h.renewed.Round(0)))
	return h.daemon != 0 && passed < h.lease*9/10
}

// mayPush says whether pushes claimed under a lease may begin: alive, and it is
// still that lease.
func (h *heart) mayPush(daemon int64) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return !h.held && h.recognised && h.daemon == daemon && h.leased()
}

// answers says whether the database answered the last heartbeat.
func (h *heart) answers() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.outage.IsZero()
}

// hasLease says whether the lease certainly holds now.
func (h *heart) hasLease() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.leased()
}

// failing says that the database fails, though the lease still holds.
func (h *heart) failing() error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case !h.outage.IsZero():
		return fmt.Errorf("no heartbeat could be written for %s", time.Since(h.outage).Truncate(time.Second))
	case h.troubled:
		return errors.New("a connection to the database broke, and no heartbeat was written since")
	}
	return nil
}

func (h *heart) written() int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.beats
}

// share tells which part of the apps is this daemon's to begin: those whose
// number is share modulo shares. It spreads the work; it is not needed for
// correctness, so daemons may disagree for a moment.
func (h *heart) share() (share, shares int, ok bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	i := slices.Index(h.daemons, h.daemon)
	if i < 0 {
		return 0, 0, false
	}
	return i, len(h.daemons), true
}

// beat renews the lease, or takes a new one, and reaps the dead.
func (h *heart) beat(ctx context.Context) error {
	if err := h.recognise(ctx); err != nil {
		h.fails(ctx, time.Now(), "recognise", err)
		return err
	}
	if h.id() == 0 {
		if err := h.enlist(ctx); err != nil {
			h.fails(ctx, time.Now(), "enlist", err)
			return err
		}
	}
	asked := time.Now()
	hb, err := h.renew(ctx)
	answered := time.Now()
	if errors.Is(err, store.ErrLeaseLost) {
		h.lost(ctx)
		return nil
	}
	if err != nil {
		h.fails(ctx, asked, "renew lease", err)
		return err
	}
	h.recovers()
	h.watchJump(ctx, h.clock.Set(hb.Now, asked, answered))
	h.watchHold(ctx, hb.Held)
	h.keep(asked, hb.Peers)
	h.remember(hb)
	h.watchClock(ctx)
	if hb.Stored {
		h.onStored()
	}
	if hb.Left || len(h.dead) > 0 {
		return h.reap(ctx)
	}
	return nil
}

// renew has less time than a lease, so that an outage is noticed early and its
// end too: the next try is at most a second later.
func (h *heart) renew(ctx context.Context) (store.Heartbeat, error) {
	ctx, cancel := context.WithTimeout(ctx, min(h.lease/3, 3*time.Second))
	defer cancel()
	return h.store.Renew(ctx, h.id(), h.lease, h.written(), h.withoutCredentials()...)
}

func (h *heart) lost(ctx context.Context) {
	h.log.WarnContext(ctx, "lease lost: another daemon took over what was under way, or the database was set back", "daemon", h.id())
	h.mu.Lock()
	h.daemon, h.daemons, h.steady, h.dead = 0, nil, time.Time{}, nil
	h.mu.Unlock()
	h.onLoss()
	h.Wake()
}

// releasedAt is when a hold was last seen to have ended, by the database's clock.
func (h *heart) releasedAt() time.Time {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.released
}

// steadyFor is how long heartbeats have not failed.
func (h *heart) steadyFor() time.Duration {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.steady.IsZero() {
		return 0
	}
	return time.Since(h.steady)
}

// fails notes that a heartbeat, begun at asked, has failed.
func (h *heart) fails(ctx context.Context, asked time.Time, what string, err error) {
	h.mu.Lock()
	h.steady = time.Time{}
	if h.outage.IsZero() {
		h.outage = asked
	}
	h.mu.Unlock()
	h.metrics.DatabaseUp.Set(0)
	time.AfterFunc(250*time.Millisecond, h.Wake)
	h.trouble(ctx, what, err)
}

func (h *heart) keep(asked time.Time, peers []store.Peer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.renewed = asked
	if h.steady.IsZero() {
		h.steady = asked
		h.peers = nil // who was silent while nobody could write is not dead
	}
	lacking := make(map[int64][]int32)
	for _, p := range peers {
		if len(p.Lacks) > 0 {
			lacking[p.ID] = p.Lacks
		}
	}
	moved := !maps.EqualFunc(lacking, h.lacking, slices.Equal)
	h.lacking = lacking
	daemons, dead := h.peers.look(time.Now(), peers, h.daemon, h.lease)
	h.dead = dead
	if !slices.Equal(h.daemons, daemons) {
		if slices.ContainsFunc(h.daemons, func(id int64) bool { return !slices.Contains(daemons, id) }) {
			h.onGone()
		}
		h.daemons = daemons
		h.log.Info("daemons on this database", "count", len(daemons))
		moved = true
	}
	if moved {
		h.onShare()
	}
	h.metrics.Daemons.Set(float64(len(daemons)))
}

// watchClock warns when this machine's clock and the database's part, once each
// time.
func (h *heart) watchClock(ctx context.Context) {
	offset := h.clock.Offset()
	h.metrics.ClockOffset.Set(offset.Seconds())
	apart := offset.Abs() > time.Second
	if apart && !h.warned {
		h.log.WarnContext(ctx, "this machine's clock differs from the database's, which rules", "ahead", offset)
	}
	h.warned = apart
}

// clockJump is the least movement of the database's clock that is told of; below
// it are slow answers and clocks that drift.
const clockJump = 500 * time.Millisecond

// watchJump tells of a jump of the database's clock. Nothing but due times goes by
// that clock.
func (h *heart) watchJump(ctx context.Context, jump time.Duration) {
	if jump.Abs() < clockJump {
		return
	}
	h.metrics.ClockJumps.Inc()
	h.log.WarnContext(ctx, "the database's clock jumped", "by", jump)
}

// reap rules on what dead daemons left. After an outage of the database all have
// been silent though nobody died: so a daemon trusts what it sees only when its
// own renewals have not failed for a whole lease.
func (h *heart) reap(ctx context.Context) error {
	h.mu.RLock()
	steady := !h.steady.IsZero() && (h.alone || time.Since(h.steady) >= h.lease)
	h.mu.RUnlock()
	if !steady {
		return nil
	}
	failpoint.Hit("reap.before")
	ctx, cancel := context.WithTimeout(ctx, h.lease/2) // the next renewal must not wait for it
	defer cancel()
	r, err := h.store.Reap(ctx, h.inline, h.dead...)
	failpoint.Hit("reap.after")
	if err != nil {
		return err
	}
	if len(r.Daemons) > 0 {
		h.onGone()
		h.metrics.LeasesExpired.Add(float64(len(r.Daemons)))
		h.log.WarnContext(ctx, "daemon found dead", "daemons", r.Daemons)
	}
	if r.Unknown+r.Resent > 0 {
		h.log.WarnContext(ctx, "calls of dead daemons ruled on", "unknown", r.Unknown, "resent", r.Resent)
		h.metrics.Reaped.WithLabelValues("unknown").Add(float64(r.Unknown))
		h.metrics.Reaped.WithLabelValues("resend").Add(float64(r.Resent))
		h.onStored()
		h.onGone() // what they had begun left room
	}
	tellAll(ctx, h.log, h.metrics, h.traces, r.Decided)
	return nil
}

// trouble logs that the database fails, once until it is back.
func (h *heart) trouble(ctx context.Context, what string, err error) {
	if ctx.Err() == context.Canceled {
		return
	}
	if store.IsUnrecognised(err) {
		h.setRecognised(false)
		h.Wake()
		return
	}
	if store.IsReadOnly(err) {
		h.store.Discard()
	}
	h.mu.Lock()
	first := !h.troubled
	h.troubled = true
	h.mu.Unlock()
	if first {
		h.log.WarnContext(ctx, "database in trouble, will keep trying", "doing", what, "error", err)
	}
}

// recovers notes that the database answers. After an outage, calls that still
// wait for an answer from before are cut, so that their services go on at once.
func (h *heart) recovers() {
	h.mu.Lock()
	outage, troubled := h.outage, h.troubled
	h.outage, h.troubled = time.Time{}, false
	h.mu.Unlock()
	h.metrics.DatabaseUp.Set(1)
	if !outage.IsZero() {
		h.store.Renounce(outage)
	}
	if troubled {
		h.log.Info("database is back")
	}
}
