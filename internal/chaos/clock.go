//go:build linux

package chaos

import (
	"math"
	"path/filepath"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/faketime"
)

// A clock is the database's wall clock, which the harness can set. The daemons
// and the push APIs keep the machine's: to each other they are off by minutes.
type clock struct {
	library string // empty: the machine has none, and the clock is the machine's
	file    string

	mu      sync.Mutex
	history []setting
}

// A setting is how far the clock was ahead from a moment on.
type setting struct {
	from  time.Time
	ahead time.Duration
}

func newClock(dir string) *clock {
	return &clock{library: faketime.Library(), file: filepath.Join(dir, "clock")}
}

// set puts the clock ahead of the machine's, or behind.
func (c *clock) set(ahead time.Duration) error {
	if c.library == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = append(c.history, setting{time.Now(), ahead})
	return faketime.Set(c.file, ahead)
}

// ahead is how much the clock was ahead in the seconds before a moment, at the
// least and at the most: what arrives then was begun within them.
func (c *clock) ahead(at time.Time) (least, most time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	least, most = math.MaxInt64, math.MinInt64
	for i, s := range c.history {
		over := i+1 < len(c.history) && c.history[i+1].from.Before(at.Add(-4*time.Second))
		if !over && !s.from.After(at) {
			least, most = min(least, s.ahead), max(most, s.ahead)
		}
	}
	if least > most { // it is the machine's clock
		return 0, 0
	}
	return least, most
}

// jumped says whether the clock was set while the database ran.
func (c *clock) jumped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.history) > 1
}

// wrap makes a folder of PostgreSQL's programs in which postgres runs on this
// clock.
func (c *clock) wrap(dir, programs string) (string, error) {
	if c.library == "" {
		return programs, nil
	}
	return dir, faketime.Wrap(c.library, c.file, programs, dir)
}
