//go:build unix

package embedpg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxLogBytes is when the server's log is moved aside, at the next start.
const maxLogBytes = 10 << 20

// A process is a postmaster that we started, and the watchdog beside it.
type process struct {
	pid    int
	exited chan struct{} // closed when it has ended and was reaped
	err    error         // how it ended; read after exited

	mu       sync.Mutex // guards watchdog and gone
	watchdog *os.File   // the writing end of its pipe
	gone     bool
}

// childAttr puts a child into a session of its own: Ctrl-C in a terminal must
// reach the daemon first, which then stops its server in order.
func childAttr(a *account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Credential: a.credential()}
}

// run starts the postmaster and its watchdog.
func (s *Server) run() (*process, error) {
	log, err := openLog(s.LogFile())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// Not bound to the context of Start, which ends when the server is ready.
	cmd := s.command(context.Background(), "postgres", s.arguments()...)
	cmd.Stdout, cmd.Stderr = log, log
	setParentDeathSignal(cmd.SysProcAttr)
	p := &process{exited: make(chan struct{})}
	if err := p.start(cmd); err != nil {
		return nil, err
	}
	removeDir := ""
	if s.cfg.Ephemeral {
		removeDir = s.cfg.Dir
	}
	if err := p.watch(removeDir); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (s *Server) arguments() []string {
	set := map[string]string{
		"unix_socket_directories": s.sockets,
		"unix_socket_permissions": "0700",
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(s.port),
	}
	if s.cfg.Ephemeral {
		set["listen_addresses"] = ""
		set["fsync"], set["synchronous_commit"], set["full_page_writes"] = "off", "off", "off"
		set["wal_level"], set["max_wal_senders"] = "minimal", "0"
		set["dynamic_shared_memory_type"] = "mmap" // inside the data directory, and so removed with it
	}
	maps.Copy(set, s.cfg.Settings)
	args := []string{"-D", s.data}
	for name, value := range set {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

// openLog keeps one earlier log when the current one has grown long. Only the
// owner may read it: it can hold statements.
func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogBytes {
		_ = os.Rename(path, path+".1")
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

// start forks from a thread that waits until the child has ended: the parent
// death signal fires when the forking *thread* ends, not the process.
func (p *process) start(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		p.disarm()
	}()
	return <-started
}

// The watchdog waits on its standard input for a line, which says that the
// server has ended, or for the end of the pipe, which says that our process
// has. Then it asks the server to stop. It removes an ephemeral directory once
// the server is gone, or after ten seconds: in a container without an init, the
// pid file's process would stay as a zombie.
const (
	watchScript  = `trap "" HUP INT TERM; read -r _ || kill -INT "$1" 2>/dev/null`
	removeScript = `; n=0; while [ -e "$2/data/postmaster.pid" ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done; rm -rf "$2"`
)

// watch starts the watchdog: a shell at the other end of a pipe that closes
// when this process ends in any way. It is for systems that have no parent
// death signal, and a second protection on Linux. removeDir, unless empty, is
// removed after the server has ended.
func (p *process) watch(removeDir string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	script := watchScript
	if removeDir != "" {
		script += removeScript
	}
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", script, "embedpg-watchdog", strconv.Itoa(p.pid), removeDir)
	cmd.Stdin, cmd.Dir = r, "/"
	cmd.SysProcAttr = childAttr(nil)
	if err := cmd.Start(); err != nil {
		_ = w.Close()
		return fmt.Errorf("watchdog: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	p.arm(w)
	return nil
}

func (p *process) arm(w *os.File) {
	p.mu.Lock()
	p.watchdog = w
	gone := p.gone
	p.mu.Unlock()
	if gone { // the server ended before its watchdog was up
		p.disarm()
	}
}

// disarm tells the watchdog that the server has ended, so that it never signals
// a pid that may by then belong to another process.
func (p *process) disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	if p.watchdog != nil {
		_, _ = p.watchdog.WriteString("\n")
		_ = p.watchdog.Close()
		p.watchdog = nil
	}
}

// stop sends stronger and stronger signals until the server has ended: fast
// shutdown, immediate shutdown, kill.
func (p *process) stop() error {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, 10 * time.Second}, {syscall.SIGQUIT, 5 * time.Second}, {syscall.SIGKILL, 2 * time.Second}} {
		if !p.running() {
			return nil
		}
		_ = syscall.Kill(p.pid, step.signal)
		select {
		case <-p.exited:
			return nil
		case <-time.After(step.wait):
		}
	}
	return fmt.Errorf("postgres (pid %d) does not stop", p.pid)
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// waitReady reads the status line of postmaster.pid, as pg_ctl does.
func (p *process) waitReady(ctx context.Context, data string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if l := pidFile(data); len(l) > 7 && l[0] == strconv.Itoa(p.pid) && strings.TrimSpace(l[7]) == "ready" {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it ended while starting: %w", p.err)
		case <-ctx.Done():
			return fmt.Errorf("it did not become ready: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// pidFile returns the lines of postmaster.pid: pid, data directory, start time,
// port, socket directory, listen address, shared memory key, status.
func pidFile(data string) []string {
	content, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return nil
	}
	return strings.Split(string(content), "\n")
}

// tail is the last n lines of a file, for an error message.
func tail(path string, n int) string {
	content, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// evict removes what an earlier, killed parent left on this data directory. We
// hold the lock, so no live parent owns the directory. A live server is shut
// down. Backends that outlived a killed postmaster are ended, since a new one
// would say "pre-existing shared memory block is still in use". Then the pid file
// and the socket locks are removed: PostgreSQL itself goes on honouring them when
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
		return nil // an incomplete pid file names no process
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
