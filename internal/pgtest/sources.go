package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	tcpostgres "github.com/testcontainers/testcontainers-go/modules/postgres"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
)

// minShm is how much room /dev/shm must have for a server's files: a hundred
// databases of 8 MB, and the log of what happens in them.
const minShm = 2 << 30

// settings are those of a server for tests, besides that it need not survive a crash.
var settings = map[string]string{
	"max_connections":           "300",
	"max_prepared_transactions": "10",
	"shared_buffers":            "64MB",
	"max_wal_size":              "4GB",     // no checkpoint in the middle of a test
	"shared_preload_libraries":  "plpgsql", // else each connection loads it for itself
	"jit":                       "off",     // to compile one plan that avoids an index takes 100 ms; the daemon has it off too
}

func openURL(context.Context) (url, from string, end func() error, err error) {
	url = os.Getenv("TEST_DATABASE_URL")
	if url == "" {
		return "", "", nil, errors.New("TEST_DATABASE_URL is not set")
	}
	return url, "TEST_DATABASE_URL", func() error { return nil }, nil
}

// openLocal needs no Main: the server ends with this process, and its directory
// is removed then.
func openLocal(ctx context.Context) (url, from string, end func() error, err error) {
	reapDirs()
	dir, err := serverDir(TempDir(), "pgtest-")
	if err != nil {
		return "", "", nil, err
	}
	if err := copyCluster(ctx, filepath.Join(dir, "data")); err != nil {
		return "", "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	s, err := embedpg.Start(ctx, embedpg.Config{Dir: dir, Ephemeral: true, Settings: settings})
	if err != nil {
		return "", "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s.URL("postgres"), "PostgreSQL in " + s.BinDir(), s.Stop, nil
}

// serverDir makes a directory that the server may reach: as root, it runs as another
// account.
func serverDir(parent, pattern string) (string, error) {
	dir, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// TempDir returns where the directories of servers are made. It prefers memory: a
// database is some 300 small files, and to make them takes a few milliseconds
// there, and up to 250 on a busy disk.
func TempDir() string {
	var shm syscall.Statfs_t
	if runtime.GOOS == "linux" && os.Getenv("TMPDIR") == "" && syscall.Statfs("/dev/shm", &shm) == nil &&
		uint64(shm.Bsize)*shm.Bavail > minShm {
		return "/dev/shm"
	}
	return os.TempDir()
}

// reapDirs removes directories of processes that were killed before their
// server ran, so that no watchdog removed them. The kernel drops a lock with
// its process, so a lock that can be taken shows a dead process.
func reapDirs() {
	locks, _ := filepath.Glob(filepath.Join(TempDir(), "pgtest-*", "lock"))
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

const (
	defaultImage = "postgres:17-alpine"
	// engineTimeout is how long a Docker engine may take to answer at all.
	engineTimeout = 5 * time.Second
	// registryTimeout is how long a registry may take to say that it has the
	// image; after that the download may take its time. Behind a firewall an
	// engine would try for minutes.
	registryTimeout = 5 * time.Second
	// containerTimeout is how long a container may take to be reached.
	containerTimeout = 30 * time.Second
)

// openDocker runs the image in a container, after making sure that it is there.
func openDocker(ctx context.Context) (url, from string, end func() error, err error) {
	// The reaper is an image of its own, which cannot be downloaded offline.
	// Main makes it unnecessary. The variable is read once, when the provider is
	// made.
	if os.Getenv("TESTCONTAINERS_RYUK_DISABLED") == "" {
		if err := os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"); err != nil {
			return "", "", nil, err
		}
	}
	tclog.SetDefault(log.New(io.Discard, "", 0)) // the errors say enough
	image := os.Getenv("TEST_DATABASE_IMAGE")
	if image == "" {
		image = defaultImage
	}
	if err := ensureImage(ctx, image); err != nil {
		return "", "", nil, err
	}
	return runContainer(ctx, image)
}

// ensureImage pulls the image unless the engine has it.
func ensureImage(ctx context.Context, image string) (err error) {
	defer func() { // testcontainers panics where it finds no engine
		if r := recover(); r != nil {
			err = fmt.Errorf("no Docker engine: %v", r)
		}
	}()
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return fmt.Errorf("no Docker engine: %w", err)
	}
	defer provider.Close()
	probe, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	if err := provider.Health(probe); err != nil {
		return fmt.Errorf("no Docker engine answers: %w", err)
	}
	if _, err := provider.Client().ImageInspect(probe, image); err == nil {
		return nil
	}
	if err := pull(ctx, provider.Client(), image); err != nil {
		return fmt.Errorf("image %s is not there and cannot be pulled: %w", image, err)
	}
	return nil
}

// pull gives up when the registry is silent for registryTimeout. The engine's
// answer begins when it has read the image's manifest.
func pull(ctx context.Context, engine client.APIClient, image string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(registryTimeout, func() { cancel(errors.New("no registry answers")) })
	defer silence.Stop()
	progress, err := engine.ImagePull(ctx, image, client.ImagePullOptions{})
	if err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	for message, err := range progress.JSONMessages(ctx) {
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if message.Error != nil {
			return message.Error
		}
		silence.Reset(time.Minute) // a stalled download
	}
	return context.Cause(ctx)
}

func runContainer(ctx context.Context, image string) (url, from string, end func() error, err error) {
	command := []string{"postgres", "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"}
	for name, value := range settings {
		command = append(command, "-c", name+"="+value)
	}
	container, err := tcpostgres.Run(ctx, image,
		tcpostgres.WithDatabase("postgres"),
		// In memory, as openLocal does where it can.
		testcontainers.WithEnv(map[string]string{"PGDATA": "/pgdata"}),
		testcontainers.WithTmpfs(map[string]string{"/pgdata": "rw"}),
		testcontainers.WithWaitStrategyAndDeadline(containerTimeout,
			wait.ForLog("database system is ready to accept connections").WithOccurrence(2), // the first is the entrypoint's
			wait.ForListeningPort("5432/tcp")),
		testcontainers.WithCmd(command...))
	end = func() error { return testcontainers.TerminateContainer(container) } // nothing to do for nil
	if err != nil {
		return "", "", nil, errors.Join(fmt.Errorf("image %s: %w", image, err), end())
	}
	url, err = container.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return "", "", nil, errors.Join(err, end())
	}
	return url, "Docker image " + image, end, nil
}
