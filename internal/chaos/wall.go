//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// wallEdits put a process's wall clock ahead of the machine's, or behind: they
// are laid over the standard library, so that nothing in the daemon or its
// libraries can tell. A static binary leaves nothing else to hook into. The
// monotonic clock stays as it is. See internal/failpoint/wallclock.go.
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
