//go:build unix && !linux

package embedpg

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// setParentDeathSignal does nothing: only Linux has one. The watchdog serves
// the others.
func setParentDeathSignal(*syscall.SysProcAttr) {}

// servesData reports whether pid is alive, not a zombie, and a server started
// on the data directory.
func servesData(pid int, data string) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	out, err := exec.CommandContext(context.Background(), "ps", "-o", "stat=,command=", "-p", strconv.Itoa(pid)).Output()
	line := strings.TrimSpace(string(out))
	return err == nil && !strings.HasPrefix(line, "Z") && strings.Contains(line, "postgres") && strings.Contains(line, data)
}

// strays finds none: without /proc, processes cannot be told by their directory.
func strays(string) []int { return nil }
