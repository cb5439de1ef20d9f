package engine

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// sightings hold by id what a daemon has seen of the others: how many heartbeats
// each has written, and since when it has written none. The instants are of this
// machine's monotonic clock, so that setting a clock makes no daemon count as dead
// or alive.
type sightings map[int64]sighting

type sighting struct {
	beats int64
	moved time.Time // when this number of beats was first seen
	grown bool      // whether the number was ever seen to grow
}

// look takes in the peers that a heartbeat returned. It returns the daemons that
// live, and those that have been silent for a whole lease, their own or the
// observer's, whichever is longer. A daemon that was never seen to beat, and whose
// lease has run out by the database's clock, is in neither list: it gets no apps,
// and is not yet certain to be dead.
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

// reap rules on the calls that dead daemons left. After an outage of the
// database all daemons have been silent though none died. So a daemon trusts the
// silence of others only when its own renewals have not failed for a whole
// lease.
func (l *lease) reap(ctx context.Context) error {
	l.mu.RLock()
	steady := !l.steady.IsZero() && (l.alone || time.Since(l.steady) >= l.length)
	l.mu.RUnlock()
	if !steady {
		return nil
	}
	failpoint.Hit("reap.before")
	ctx, cancel := context.WithTimeout(ctx, l.length/2) // the next renewal must not wait for the reaping
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
		l.wakes.daemonsGone() // the tasks they had begun left room
	}
	logDecisions(ctx, l.log, l.metrics, l.traces, r.Decided)
	return nil
}

// lack notes that this daemon has no credentials for an app that has tasks. The
// next heartbeat tells the other daemons, which then begin these tasks.
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

// forgetLacks forgets what lack noted, since the configuration has changed.
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

// owns says whether this daemon is to begin an app's tasks. Apps are spread by
// number over the daemons that have credentials for them, or over all daemons where
// none has. It spreads the work; it is not needed for correctness, so daemons may
// disagree for a moment.
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

// exceptions returns the apps whose owner does not follow from their number alone,
// since a daemon has no credentials for them: those that this daemon owns, and
// those that it does not.
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
