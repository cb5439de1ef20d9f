package engine

import "sync"

// slots bound the calls under way in this daemon. The dispatcher is told through
// one channel when a slot is free again after there was none, and when enough
// are for a batch that is worth a claim.
type slots struct {
	mu     sync.Mutex
	size   int
	free   int // less than zero while more are taken than there are since a resize
	enough int
	freed  chan struct{}
	spared chan struct{} // told when there are spare ones again after there were none
}

func newSlots(n int) *slots {
	s := &slots{freed: make(chan struct{}, 1), spared: make(chan struct{}, 1)}
	s.resize(n)
	return s
}

// resize changes how many slots there are. Calls under way keep theirs.
func (s *slots) resize(n int) {
	s.mu.Lock()
	more := n - s.size
	s.size, s.enough = n, max(n/2, 1)
	s.mu.Unlock()
	s.release(more)
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
	tell := before <= 0 && s.free > 0 || before < s.enough && s.free >= s.enough
	spare := before <= s.size/2-1 && s.free > s.size/2-1
	s.mu.Unlock()
	if tell {
		signal(s.freed)
	}
	if spare {
		signal(s.spared)
	}
}

// signal sends on a channel that holds one, unless it does already.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// scarce says that so few slots are free that it pays to wait a little for
// more before the next claim.
func (s *slots) scarce() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free < s.enough
}

// spare is how many slots are free beyond half of all, and one.
func (s *slots) spare() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free - s.size/2 + 1
}

// available is how many slots are free now.
func (s *slots) available() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free
}
