//go:build linux

package chaos

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// fakeTimeLibraries is where Debian, Fedora and others keep libfaketime, which
// gives one program a clock of its own.
var fakeTimeLibraries = []string{
	"/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
	"/usr/lib64/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1",
}

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
	c := &clock{file: filepath.Join(dir, "clock")}
	for _, path := range fakeTimeLibraries {
		if _, err := os.Stat(path); err == nil {
			c.library = path
			break
		}
	}
	return c
}

// set puts the clock ahead of the machine's, or behind.
func (c *clock) set(ahead time.Duration) error {
	if c.library == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	text := fmt.Sprintf("%+.3f\n", ahead.Seconds())
	unfinished := c.file + ".new"
	if err := os.WriteFile(unfinished, []byte(text), 0o644); err != nil {
		return err
	}
	c.history = append(c.history, setting{time.Now(), ahead})
	return os.Rename(unfinished, c.file)
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
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(programs)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.Name() == "postgres" {
			script := fmt.Sprintf("#!/bin/sh\nexport LD_PRELOAD=%s FAKETIME_TIMESTAMP_FILE=%s FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\nexec %s \"$@\"\n",
				c.library, c.file, filepath.Join(programs, "postgres"))
			err = os.WriteFile(path, []byte(script), 0o755)
		} else {
			err = os.Symlink(filepath.Join(programs, e.Name()), path)
		}
		if err != nil && !os.IsExist(err) {
			return "", err
		}
	}
	return dir, nil
}
