package engine

import (
	"sync"
	"time"
)

// A Clock tells the database's time from this machine's monotonic clock, so
// that a wrong or jumping wall clock here changes nothing. It is set by the
// heartbeat and is safe for concurrent use.
type Clock struct {
	mu    sync.RWMutex
	db    time.Time // the database's clock ...
	local time.Time // ... at this reading of ours, which carries a monotonic part
	trip  time.Duration
}

// Set takes a reading of the database's clock that was asked for at asked and
// arrived at answered, both by time.Now. The reading counts as taken in the
// middle between the two. A reading with a short round trip is kept in favour
// of one with a long round trip, unless they contradict each other. Then the
// database's clock was set, and Set returns by how much; forward is positive.
func (c *Clock) Set(db, asked, answered time.Time) (jump time.Duration) {
	trip := answered.Sub(asked)
	middle := asked.Add(trip / 2)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.local.IsZero() {
		apart := db.Sub(c.db.Add(middle.Sub(c.local)))
		switch agree := apart.Abs() <= (trip+c.trip)/2; {
		case agree && trip > c.trip:
			c.trip += c.trip/16 + time.Microsecond // old readings lose their weight as clocks drift
			return 0
		case !agree:
			jump = apart
		}
	}
	c.db, c.local, c.trip = db, middle, trip
	return jump
}

// Now returns the database's time, in UTC; before the first Set, this machine's.
func (c *Clock) Now() time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.local.IsZero() {
		return time.Now().UTC()
	}
	return c.db.Add(time.Since(c.local)).UTC()
}

// notBefore returns a reading of the clock, or least where that is later. On a
// busy machine the clock may be slightly wrong, or be corrected backwards. An
// event that is certain to have come first, since the database granted it, is
// recorded as the earlier one.
func notBefore(reading, least time.Time) time.Time {
	if reading.Before(least) {
		return least
	}
	return reading
}

// known says whether Now is the database's time.
func (c *Clock) known() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return !c.local.IsZero()
}

// Offset returns how far this machine's wall clock is ahead of the database's.
func (c *Clock) Offset() time.Duration {
	return time.Now().Round(0).Sub(c.Now())
}
