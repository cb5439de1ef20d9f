package engine

import "sync"

// A callLimit bounds the calls under way in this daemon: each holds a slot. The
// channel freed gets a value when a slot is free again after there was none, and
// when enough are free for a batch that is worth a claim. A callLimit is safe for
// concurrent use.
type callLimit struct {
	mu     sync.Mutex
	size   int
	free   int // less than zero while more are taken than there are since a resize
	enough int
	freed  chan struct{}
	spared chan struct{} // told when there are spare ones again after there were none
}

func newCallLimit(n int) *callLimit {
	l := &callLimit{freed: make(chan struct{}, 1), spared: make(chan struct{}, 1)}
	l.resize(n)
	return l
}

// resize changes how many slots there are. Calls under way keep theirs.
func (l *callLimit) resize(n int) {
	l.mu.Lock()
	more := n - l.size
	l.size, l.enough = n, max(n/2, 1)
	l.mu.Unlock()
	l.release(more)
}

// acquire takes up to n slots and returns how many it got.
func (l *callLimit) acquire(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = max(min(n, l.free), 0)
	l.free -= n
	return n
}

// release gives slots back.
func (l *callLimit) release(n int) {
	if n == 0 {
		return
	}
	l.mu.Lock()
	before := l.free
	l.free += n
	tell := before <= 0 && l.free > 0 || before < l.enough && l.free >= l.enough
	spare := before <= l.size/2-1 && l.free > l.size/2-1
	l.mu.Unlock()
	if tell {
		signal(l.freed)
	}
	if spare {
		signal(l.spared)
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
func (l *callLimit) scarce() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free < l.enough
}

// spare is how many slots are free beyond half of all, and one.
func (l *callLimit) spare() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free - l.size/2 + 1
}

// available is how many slots are free now.
func (l *callLimit) available() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free
}
