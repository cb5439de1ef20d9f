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

	"github.com/campaign-scheduler/scheduler/store"
)

// A lease is this daemon's right to begin pushes. Its loop renews it once a
// second. The answer tells the database's clock and which other daemons live, and
// whether a dead one left calls to rule on.
type lease struct {
	*loop
	store   *store.Store
	log     *slog.Logger
	metrics *Metrics
	clock   *Clock
	name    string
	version string
	length  time.Duration // time without a renewal after which the daemon counts as dead
	alone   bool
	guard   Guard
	inline  func(*store.Campaign) []string // the targets that a campaign's request names
	traces  *traces
	memory  *memory
	ledger  *ledger
	wakes   wakes
	app     func(appNo int32) *App
	setKeys func(Keys)                                             // is called with the database's keys, by which messages are named
	rewrite func(*store.Known, ledgerCopy, *store.Recognition) int // has records written again that the database lost

	mu       sync.RWMutex
	daemon   int64
	daemons  []int64
	lacking  map[int64][]int32 // by daemon: the apps for which it has no credentials
	lacks    map[int32]bool    // the same for this daemon
	paced    map[int32]bool    // apps with a ceiling of targets per second; only the running loop touches it
	peers    sightings
	dead     []store.Peer // daemons found dead and not ended yet; only the running loop touches it
	renewed  time.Time    // start of the last successful renewal, by our monotonic clock
	steady   time.Time    // since when renewals have not failed
	outage   time.Time    // since when heartbeats fail; zero: they do not
	troubled bool         // the log says that the database fails
	warned   bool

	last       int64     // the identity of the last lease, even when that lease is lost
	beatAt     time.Time // the last heartbeat, by the database's clock
	seal       string    // of the database, as this daemon knows it; empty: it knows none
	origin     uint32    // of the database; a database restored from a dump has another
	recognised bool      // the database that answers has this seal, and all daemons have looked through it

	installation string // the database's id
	beats        int64  // heartbeats written as this daemon
	held         bool   // nothing may begin until an operator releases it
	holdReason   string
	released     time.Time // when a hold was last seen to have ended; zero: none was
}

func newLease(cfg *Config, clock *Clock, t *traces, w wakes, inline func(*store.Campaign) []string, setKeys func(Keys), rewrite func(*store.Known, ledgerCopy, *store.Recognition) int) *lease {
	l := &lease{
		store: cfg.Store, log: cfg.Log, metrics: cfg.Metrics, clock: clock, name: cfg.Name, version: cfg.Version, length: cfg.Lease, alone: cfg.Alone,
		guard: cfg.Guard, traces: t, memory: &memory{dir: cfg.Guard.Dir, log: cfg.Log}, ledger: newLedger(),
		wakes: w, inline: inline, app: cfg.App, setKeys: setKeys, rewrite: rewrite,
	}
	l.loop = newLoop("heartbeat", cfg.Log, cfg.Lease, nil, l.beat)
	return l
}

// id returns the daemon's identity, or 0 where it has none. It changes when the
// lease is lost and taken anew.
func (l *lease) id() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.daemon
}

// alive says whether pushes may begin: the lease certainly holds now, the
// database is recognised, and nothing is held.
func (l *lease) alive() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return !l.held && l.recognised && l.leased()
}

func (l *lease) leased() bool {
	now := time.Now()
	// The monotonic clock stands still while a machine sleeps, the wall clock
	// does not. The one by which more time has passed counts.
	passed := max(now.Sub(l.renewed), now.Round(0).Sub(l.renewed.Round(0)))
	return l.daemon != 0 && passed < l.length*9/10
}

// mayPush says whether pushes that were claimed under a lease may begin: this
// is still the same lease, and alive is true.
func (l *lease) mayPush(daemon int64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return !l.held && l.recognised && l.daemon == daemon && l.leased()
}

// answers says whether the database answered the last heartbeat.
func (l *lease) answers() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.outage.IsZero()
}

// hasLease says whether the lease certainly holds now.
func (l *lease) hasLease() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.leased()
}

// failing returns how the database fails, or nil where it does not; the lease may
// still hold.
func (l *lease) failing() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case !l.outage.IsZero():
		return fmt.Errorf("no heartbeat could be written for %s", time.Since(l.outage).Truncate(time.Second))
	case l.troubled:
		return errors.New("a connection to the database broke, and no heartbeat was written since")
	}
	return nil
}

func (l *lease) written() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.beats
}

// share returns the apps that this daemon begins: those whose number is share
// modulo shares. ok is false without a lease. It spreads the work; it is not
// needed for correctness, so daemons may disagree for a moment.
func (l *lease) share() (share, shares int, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i := slices.Index(l.daemons, l.daemon)
	if i < 0 {
		return 0, 0, false
	}
	return i, len(l.daemons), true
}

// beat renews the lease, or takes a new one, and rules on what the dead left.
func (l *lease) beat(ctx context.Context) error {
	if err := l.recognise(ctx); err != nil {
		l.fails(ctx, time.Now(), "recognise", err)
		return err
	}
	if l.id() == 0 {
		if err := l.enlist(ctx); err != nil {
			l.fails(ctx, time.Now(), "enlist", err)
			return err
		}
	}
	asked := time.Now()
	hb, err := l.renew(ctx)
	answered := time.Now()
	if errors.Is(err, store.ErrLeaseLost) {
		l.lost(ctx)
		return nil
	}
	if err != nil {
		l.fails(ctx, asked, "renew lease", err)
		return err
	}
	l.recovers()
	l.watchJump(ctx, l.clock.Set(hb.Now, asked, answered))
	l.watchHold(ctx, hb.Held)
	l.pace(hb.Paced)
	l.keep(asked, hb.Peers)
	l.remember(hb)
	l.watchClock(ctx)
	if hb.Stored {
		l.wakes.deliveriesFound()
	}
	if hb.Left || len(l.dead) > 0 {
		return l.reap(ctx)
	}
	return nil
}

// pace sets the apps' ceilings of targets per second as the heartbeat returned them.
func (l *lease) pace(paced []store.Pace) {
	if len(paced)+len(l.paced) == 0 {
		return
	}
	rates := make(map[int32]float64, len(paced)+len(l.paced))
	for no := range l.paced {
		rates[no] = 0
	}
	l.paced = make(map[int32]bool, len(paced))
	for _, p := range paced {
		rates[p.AppNo], l.paced[p.AppNo] = p.TargetsPerSecond, true
	}
	for no, perSecond := range rates {
		if app := l.app(no); app != nil && app.setTargetsPerSecond(perSecond) {
			l.wakes.paceChanged()
		}
	}
}

// renew writes a heartbeat. Its time limit is shorter than a lease, so that
// both an outage and its end are noticed early: the next try is at most a
// second later.
func (l *lease) renew(ctx context.Context) (store.Heartbeat, error) {
	ctx, cancel := context.WithTimeout(ctx, min(l.length/3, 3*time.Second))
	defer cancel()
	return l.store.Renew(ctx, l.id(), l.length, l.written(), l.withoutCredentials()...)
}

func (l *lease) lost(ctx context.Context) {
	l.log.WarnContext(ctx, "lease lost: another daemon took over what was under way, or the database was set back", "daemon", l.id())
	l.mu.Lock()
	l.daemon, l.daemons, l.steady, l.dead = 0, nil, time.Time{}, nil
	l.mu.Unlock()
	l.wakes.leaseLost()
	l.Wake()
}

// releasedAt is when a hold was last seen to have ended, by the database's clock.
func (l *lease) releasedAt() time.Time {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.released
}

// steadyFor returns for how long no heartbeat has failed.
func (l *lease) steadyFor() time.Duration {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.steady.IsZero() {
		return 0
	}
	return time.Since(l.steady)
}

// fails notes that a heartbeat, begun at asked, has failed.
func (l *lease) fails(ctx context.Context, asked time.Time, what string, err error) {
	l.mu.Lock()
	l.steady = time.Time{}
	if l.outage.IsZero() {
		l.outage = asked
	}
	l.mu.Unlock()
	l.metrics.DatabaseUp.Set(0)
	time.AfterFunc(250*time.Millisecond, l.Wake)
	l.trouble(ctx, what, err)
}

func (l *lease) keep(asked time.Time, peers []store.Peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed = asked
	if l.steady.IsZero() {
		l.steady = asked
		l.peers = nil // a daemon that was silent while nobody could write is not dead
	}
	lacking := make(map[int64][]int32)
	for _, p := range peers {
		if len(p.Lacks) > 0 {
			lacking[p.ID] = p.Lacks
		}
	}
	moved := !maps.EqualFunc(lacking, l.lacking, slices.Equal)
	l.lacking = lacking
	daemons, dead := l.peers.look(time.Now(), peers, l.daemon, l.length)
	l.dead = dead
	if !slices.Equal(l.daemons, daemons) {
		if slices.ContainsFunc(l.daemons, func(id int64) bool { return !slices.Contains(daemons, id) }) {
			l.wakes.daemonsGone()
		}
		l.daemons = daemons
		l.log.Info("daemons on this database", "count", len(daemons))
		moved = true
	}
	if moved {
		l.wakes.shareChanged()
	}
	l.metrics.Daemons.Set(float64(len(daemons)))
}

// watchClock warns once when this machine's clock and the database's begin to
// differ.
func (l *lease) watchClock(ctx context.Context) {
	offset := l.clock.Offset()
	l.metrics.ClockOffset.Set(offset.Seconds())
	apart := offset.Abs() > time.Second
	if apart && !l.warned {
		l.log.WarnContext(ctx, "this machine's clock differs from the database's, which rules", "ahead", offset)
	}
	l.warned = apart
}

// clockJump is the least jump of the database's clock that is logged. Smaller
// ones come from slow answers and from drift.
const clockJump = 500 * time.Millisecond

// watchJump logs a jump of the database's clock. Only due times go by that
// clock.
func (l *lease) watchJump(ctx context.Context, jump time.Duration) {
	if jump.Abs() < clockJump {
		return
	}
	l.metrics.ClockJumps.Inc()
	l.log.WarnContext(ctx, "the database's clock jumped", "by", jump)
}

// trouble logs that the database fails, once until it is back.
func (l *lease) trouble(ctx context.Context, what string, err error) {
	if ctx.Err() == context.Canceled {
		return
	}
	if store.IsUnrecognised(err) {
		l.setRecognised(false)
		l.Wake()
		return
	}
	if store.IsReadOnly(err) {
		l.store.Discard()
	}
	l.mu.Lock()
	first := !l.troubled
	l.troubled = true
	l.mu.Unlock()
	if first {
		l.log.WarnContext(ctx, "database in trouble, will keep trying", "doing", what, "error", err)
	}
}

// recovers notes that the database answers. After an outage it cuts the
// connections on which statements still wait since before, so that their
// services go on at once.
func (l *lease) recovers() {
	l.mu.Lock()
	outage, troubled := l.outage, l.troubled
	l.outage, l.troubled = time.Time{}, false
	l.mu.Unlock()
	l.metrics.DatabaseUp.Set(1)
	if !outage.IsZero() {
		l.store.Renounce(outage)
	}
	if troubled {
		l.log.Info("database is back")
	}
}
