package engine

import "sync"

// slots bound the calls under way in this daemon. The dispatcher is told through
// one channel when a slot is free again after there was none, and when enough
// are for a batch that is worth a claim.
type slots struct {
	mu     sync.Mutex
	free   int
	enough int
	freed  chan struct{}
}

func newSlots(n int) *slots {
	return &slots{free: n, enough: max(n/4, 1), freed: make(chan struct{}, 1)}
}

// acquire takes up to n slots and returns how many it got.
func (s *slots) acquire(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = max(min(n, s.free), 0)
	s.free -= n
	return n
}

// release gives slots back.
func (s *slots) release(n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	before := s.free
	s.free += n
	tell := before == 0 || before < s.enough && s.free >= s.enough
	s.mu.Unlock()
	if !tell {
		return
	}
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// scarce says that so few slots are free that it pays to wait a little for
// more before the next claim.
func (s *slots) scarce() bool { return s.available() < s.enough }

// available is how many slots are free now.
func (s *slots) available() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free
}
