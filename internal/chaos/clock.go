//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/faketime"
)

// A clock is the database's wall clock, which the harness can set. The push
// APIs keep the machine's clock. The daemons' clocks differ from it by minutes.
type clock struct {
	library string // empty: the machine has none, and the clock is the machine's
	file    string

	mu      sync.Mutex
	history []setting
}

// A setting says how far the clock was ahead from a moment on.
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

// ahead returns by how much, at the least and at the most, the clock was ahead
// in the seconds before a moment. A call that arrives then began within these
// seconds.
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

// wallEdits let a process's wall clock be set apart from the machine's. They
// change the standard library, so that nothing in the daemon or its libraries
// can notice. A static binary has no other place for this. The monotonic clock
// stays as it is. See internal/failpoint/wallclock.go.
func wallEdits(ctx context.Context) ([]Edit, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("find the standard library: %w", err)
	}
	file := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	return []Edit{
		{file, "//go:linkname Now\n", "//go:linkname Now\n\n//go:linkname wallAhead\nvar wallAhead int64\n"},
		{file, "	sec, nsec, mono := runtimeNow()\n	if mono == 0 {", "	sec, nsec, mono := runtimeNow()\n	sec += wallAhead\n	if mono == 0 {"},
	}, nil
}

// setWall puts the daemon's wall clock ahead of the machine's, or behind.
func (d *daemon) setWall(ahead time.Duration) error {
	unfinished := d.wallFile() + ".new"
	if err := os.WriteFile(unfinished, fmt.Appendln(nil, int64(ahead/time.Second)), 0o644); err != nil {
		return err
	}
	return os.Rename(unfinished, d.wallFile())
}

func (d *daemon) wallFile() string { return filepath.Join(d.dir, d.name+".clock") }

// moveClocks lets the daemons' wall clocks jump, one at a time. The first daemon
// starts with the machine's, the others are off by minutes.
func (r *run) moveClocks(ctx context.Context, rng *rand.Rand) {
	for {
		sleep(ctx, time.Duration(2000+rng.IntN(6000))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		d, ahead := pick(rng, r.daemons...), time.Duration(rng.IntN(600)-300)*time.Second
		r.Log.InfoContext(ctx, "clock", "daemon", d.name, "ahead", ahead)
		r.report.count("jumps of a daemon's clock", 1)
		if err := d.setWall(ahead); err != nil {
			r.Log.WarnContext(ctx, "clock", "daemon", d.name, "error", err)
		}
	}
}
