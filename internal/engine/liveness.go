package engine

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// sightings are what a daemon has seen of the others, by their ids: how many
// heartbeats each has written, and since when it has written none. The instants
// are this machine's monotonic clock, so that nobody lives or dies because a clock
// was set.
type sightings map[int64]sighting

type sighting struct {
	beats int64
	moved time.Time // when the beats were first seen to be so many
	grown bool      // whether they have ever been seen to grow
}

// look takes in what a heartbeat was told, and says who lives and who has been
// silent for a whole lease, its own or the observer's, whichever is longer. One
// that was never seen to beat, and whose lease has run out by the database's clock,
// takes no part any more before it is certain that it is dead.
func (s *sightings) look(now time.Time, peers []store.Peer, self int64, lease time.Duration) (alive []int64, dead []store.Peer) {
	next := make(sightings, len(peers))
	for _, p := range peers {
		was, known := (*s)[p.ID]
		switch {
		case !known:
			was = sighting{beats: p.Beats, moved: now}
		case was.beats != p.Beats:
			was = sighting{beats: p.Beats, moved: now, grown: true}
		}
		next[p.ID] = was
		switch {
		case p.ID == self:
			alive = append(alive, p.ID)
		case now.Sub(was.moved) >= max(lease, p.Lease):
			dead = append(dead, p)
		case was.grown || !p.Lapsed:
			alive = append(alive, p.ID)
		}
	}
	*s = next
	return alive, dead
}

// reap rules on what dead daemons left. After an outage of the database all have
// been silent though nobody died: so a daemon trusts what it sees only when its
// own renewals have not failed for a whole lease.
func (l *lease) reap(ctx context.Context) error {
	l.mu.RLock()
	steady := !l.steady.IsZero() && (l.alone || time.Since(l.steady) >= l.length)
	l.mu.RUnlock()
	if !steady {
		return nil
	}
	failpoint.Hit("reap.before")
	ctx, cancel := context.WithTimeout(ctx, l.length/2) // the next renewal must not wait for it
	defer cancel()
	r, err := l.store.Reap(ctx, l.inline, l.dead...)
	failpoint.Hit("reap.after")
	if err != nil {
		return err
	}
	if len(r.Daemons) > 0 {
		l.wakes.daemonsGone()
		l.metrics.LeasesExpired.Add(float64(len(r.Daemons)))
		l.log.WarnContext(ctx, "daemon found dead", "daemons", r.Daemons)
	}
	if r.Unknown+r.Resent > 0 {
		l.log.WarnContext(ctx, "calls of dead daemons ruled on", "unknown", r.Unknown, "resent", r.Resent)
		l.metrics.Reaped.WithLabelValues("unknown").Add(float64(r.Unknown))
		l.metrics.Reaped.WithLabelValues("resend").Add(float64(r.Resent))
		l.wakes.deliveriesFound()
		l.wakes.daemonsGone() // what they had begun left room
	}
	logDecisions(ctx, l.log, l.metrics, l.traces, r.Decided)
	return nil
}

// lack notes that this daemon has no credentials for an app that has tasks: others
// are told with the next heartbeat, and begin them.
func (l *lease) lack(app int32) {
	l.mu.Lock()
	news := !l.lacks[app]
	if l.lacks == nil {
		l.lacks = make(map[int32]bool)
	}
	l.lacks[app] = true
	l.mu.Unlock()
	if news {
		l.Wake()
	}
}

// forgetLacks begins anew, since the configuration has changed.
func (l *lease) forgetLacks() {
	l.mu.Lock()
	l.lacks = nil
	l.mu.Unlock()
	l.Wake()
}

func (l *lease) withoutCredentials() []int32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Sorted(maps.Keys(l.lacks))
}

// owns says whether an app is this daemon's to begin: apps are spread by number
// over the daemons that have credentials for them, or over all where none has. It
// spreads the work; it is not needed for correctness, so daemons may disagree for a
// moment.
func (l *lease) owns(app int32) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.owner(app) == l.daemon
}

func (l *lease) owner(app int32) int64 {
	able := make([]int64, 0, len(l.daemons))
	for _, id := range l.daemons {
		if !slices.Contains(l.lacking[id], app) {
			able = append(able, id)
		}
	}
	if len(able) == 0 {
		able = l.daemons
	}
	if len(able) == 0 {
		return 0
	}
	return able[int(app)%len(able)]
}

// exceptions are the apps that do not go by their number alone, since a daemon has
// no credentials for them: those that are this daemon's, and those that are not.
func (l *lease) exceptions() (mine, others []int32) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	seen := make(map[int32]bool)
	for _, id := range l.daemons {
		for _, app := range l.lacking[id] {
			switch {
			case seen[app]:
				continue
			case l.owner(app) == l.daemon:
				mine = append(mine, app)
			default:
				others = append(others, app)
			}
			seen[app] = true
		}
	}
	return mine, others
}
