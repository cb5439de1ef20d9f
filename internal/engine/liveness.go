package engine

import (
	"maps"
	"slices"
	"time"

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

// lack notes that this daemon has no credentials for an app that has tasks: others
// are told with the next heartbeat, and begin them.
func (h *heart) lack(app int32) {
	h.mu.Lock()
	news := !h.lacks[app]
	if h.lacks == nil {
		h.lacks = make(map[int32]bool)
	}
	h.lacks[app] = true
	h.mu.Unlock()
	if news {
		h.Wake()
	}
}

// forgetLacks begins anew, since the configuration has changed.
func (h *heart) forgetLacks() {
	h.mu.Lock()
	h.lacks = nil
	h.mu.Unlock()
	h.Wake()
}

func (h *heart) withoutCredentials() []int32 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Sorted(maps.Keys(h.lacks))
}

// owns says whether an app is this daemon's to begin: apps are spread by number
// over the daemons that have credentials for them, or over all where none has. It
// spreads the work; it is not needed for correctness, so daemons may disagree for a
// moment.
func (h *heart) owns(app int32) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.owner(app) == h.daemon
}

func (h *heart) owner(app int32) int64 {
	able := make([]int64, 0, len(h.daemons))
	for _, id := range h.daemons {
		if !slices.Contains(h.lacking[id], app) {
			able = append(able, id)
		}
	}
	if len(able) == 0 {
		able = h.daemons
	}
	if len(able) == 0 {
		return 0
	}
	return able[int(app)%len(able)]
}

// exceptions are the apps that do not go by their number alone, since a daemon has
// no credentials for them: those that are this daemon's, and those that are not.
func (h *heart) exceptions() (mine, others []int32) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	seen := make(map[int32]bool)
	for _, id := range h.daemons {
		for _, app := range h.lacking[id] {
			switch {
			case seen[app]:
				continue
			case h.owner(app) == h.daemon:
				mine = append(mine, app)
			default:
				others = append(others, app)
			}
			seen[app] = true
		}
	}
	return mine, others
}
