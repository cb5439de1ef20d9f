//go:build failpoint

// Package failpoint in a build for the chaos harness.
package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// armed is the one failpoint of this process. CHAOS_FAILPOINT is
// NAME:COUNT:ACTION. The COUNT-th hit does the action: kill is SIGKILL, stop is
// SIGSTOP.
var armed = parse(os.Getenv("CHAOS_FAILPOINT"))

type point struct {
	name   string
	signal syscall.Signal
	left   atomic.Int64
}

func parse(text string) *point {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return nil
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return nil
	}
	p := &point{name: parts[0], signal: syscall.SIGKILL}
	if parts[2] == "stop" {
		p.signal = syscall.SIGSTOP
	}
	p.left.Store(n)
	return p
}

// Hit ends or freezes the process when the moment is the armed one.
func Hit(name string) {
	if armed == nil || armed.name != name || armed.left.Add(-1) != 0 {
		return
	}
	_, _ = fmt.Fprintf(os.Stderr, "failpoint=%s\n", name)
	_ = syscall.Kill(os.Getpid(), armed.signal)
}
