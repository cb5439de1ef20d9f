package engine

import (
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
