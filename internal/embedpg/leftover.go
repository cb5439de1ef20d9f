//go:build unix

package embedpg

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// evict deals with what an earlier, killed parent left on this data directory.
// We hold the lock, so nobody who matters owns it any more. A live server is
// shut down; backends that outlived a killed postmaster are ended (a new one
// would say "pre-existing shared memory block is still in use"); then the pid
// file and the socket locks go, which PostgreSQL itself keeps honouring when
// their pid is a zombie, as in containers without an init, or was given out anew.
func evict(ctx context.Context, data, sockets string) error {
	if err := evictPostmaster(ctx, data); err != nil {
		return err
	}
	for _, pid := range strays(data) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // without a postmaster; crash recovery follows in any case
		waitGone(ctx, pid, data, 2*time.Second)
	}
	_ = os.Remove(filepath.Join(data, "postmaster.pid"))
	files, _ := filepath.Glob(filepath.Join(sockets, ".s.PGSQL.*"))
	for _, file := range files {
		_ = os.Remove(file)
	}
	return ctx.Err()
}

func evictPostmaster(ctx context.Context, data string) error {
	lines := pidFile(data)
	if len(lines) == 0 {
		return nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 1 {
		return nil // a torn pid file names nobody
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if servesData(pid, data) {
			_ = syscall.Kill(pid, signal)
			waitGone(ctx, pid, data, 8*time.Second)
		}
	}
	if servesData(pid, data) {
		return fmt.Errorf("a PostgreSQL server (pid %d) still runs on %s and does not stop", pid, data)
	}
	return nil
}

// waitGone polls, because a process that is not our child cannot be waited for.
func waitGone(ctx context.Context, pid int, data string, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for servesData(pid, data) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
