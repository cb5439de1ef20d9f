package pgtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
)

// minShm is how much room /dev/shm must have for a server's files: a hundred
// databases of 8 MB, and the log of what happens in them.
const minShm = 2 << 30

func openURL(context.Context) (url, from string, end func() error, err error) {
	url = os.Getenv("TEST_DATABASE_URL")
	if url == "" {
		return "", "", nil, errors.New("TEST_DATABASE_URL is not set")
	}
	return url, "TEST_DATABASE_URL", func() error { return nil }, nil
}

// openLocal needs no Main: the server ends with this process, and its directory
// goes with it.
func openLocal(ctx context.Context) (url, from string, end func() error, err error) {
	reapDirs()
	dir, err := os.MkdirTemp(baseDir(), "pgtest-")
	if err != nil {
		return "", "", nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // as root, the server runs as another account
		return "", "", nil, err
	}
	s, err := embedpg.Start(ctx, embedpg.Config{Dir: dir, Ephemeral: true, Settings: map[string]string{
		"max_connections": "300",
		"shared_buffers":  "64MB",
		"max_wal_size":    "4GB", // no checkpoint in the middle of a test
		"autovacuum":      "on",
	}})
	if err != nil {
		return "", "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s.URL("postgres"), "PostgreSQL in " + s.BinDir(), s.Stop, nil
}

// baseDir prefers memory: a database is some 300 small files, and to make them
// takes a few milliseconds there, and up to 250 on a busy disk.
func baseDir() string {
	var shm syscall.Statfs_t
	if runtime.GOOS == "linux" && os.Getenv("TMPDIR") == "" && syscall.Statfs("/dev/shm", &shm) == nil &&
		uint64(shm.Bsize)*shm.Bavail > minShm {
		return "/dev/shm"
	}
	return os.TempDir()
}

// reapDirs removes directories of processes killed before their server was up,
// whose watchdog could not. The kernel drops a lock with its process, so a
// lock that can be had tells a dead one.
func reapDirs() {
	locks, _ := filepath.Glob(filepath.Join(baseDir(), "pgtest-*", "lock"))
	for _, lock := range locks {
		f, err := os.OpenFile(lock, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		dir := filepath.Dir(lock)
		_, running := os.Stat(filepath.Join(dir, "data", "postmaster.pid"))
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && os.IsNotExist(running) {
			_ = os.RemoveAll(dir)
		}
		_ = f.Close()
	}
}
