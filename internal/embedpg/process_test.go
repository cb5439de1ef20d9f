//go:build unix

package embedpg_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
)

// A process that is being started has every file of its parent until its exec.
func TestLockIsDroppedWhileAForkHasIt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	f, err := embedpg.TakeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	forked, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(forked) }()
	embedpg.DropLock(f)
	again, err := embedpg.TakeLock(path)
	if err != nil {
		t.Fatalf("the lock is not dropped: %v", err)
	}
	embedpg.DropLock(again)
}

func TestServerDiesWithItsParent(t *testing.T) {
	t.Parallel()
	cfg := embedpg.Config{Dir: serverDir(t)}
	p := startParent(t, self(t), cfg, nil)
	makeKept(t, p.URL)
	p.kill()
	eventually(t, "the server has ended", func() bool { return gone(p.PID) })

	s := start(t, cfg)
	checkKept(t, s.URL("postgres"))
}

func TestLeftoverIsTakenOver(t *testing.T) {
	t.Parallel()
	cfg := embedpg.Config{Dir: serverDir(t)}
	p := startParent(t, self(t), cfg, nil)
	makeKept(t, p.URL)
	p.kill()
	s := start(t, cfg) // at once: the old server may still be shutting down
	checkKept(t, s.URL("postgres"))
}

func TestKilledServerIsNoticedAndRecovers(t *testing.T) {
	t.Parallel()
	cfg := embedpg.Config{Dir: serverDir(t)}
	first := start(t, cfg)
	makeKept(t, first.URL("postgres"))
	if err := syscall.Kill(first.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	stop(t, first)

	second := start(t, cfg)
	checkKept(t, second.URL("postgres"))
}

func TestEphemeralDirectoryGoes(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(p *parent){
		"in order":          func(p *parent) { _ = p.stdin.Close() },
		"with a killed one": func(p *parent) { p.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := embedpg.Config{Dir: serverDir(t), Ephemeral: true}
			p := startParent(t, self(t), cfg, nil)
			end(p)
			eventually(t, "the server has ended", func() bool { return gone(p.PID) })
			eventually(t, "the directory is gone", func() bool {
				_, err := os.Stat(cfg.Dir)
				return errors.Is(err, fs.ErrNotExist)
			})
		})
	}
}

// TestAsPlainUser is the other half of the matter when the tests run as root;
// else it repeats what all tests here do.
func TestAsPlainUser(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	exe := filepath.Join(filepath.Dir(dir), "embedpg.test") // go test's own directory is closed to others
	copyFile(t, self(t), exe)
	as := plainUser(t)
	if as != nil {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	p := startParent(t, exe, embedpg.Config{Dir: dir, Database: "campaigns"}, as)
	if got := query(t, p.URL, "SELECT current_database()"); got != "campaigns" {
		t.Errorf("got %q", got)
	}
}

func plainUser(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// copyFile copies a program. No other goroutine forks meanwhile: a child that
// inherits the open file makes the start of the copy fail with "text file busy".
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
}
