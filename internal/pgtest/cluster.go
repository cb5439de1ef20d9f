package pgtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
)

// copyCluster puts the files of a server that has the template into data. To run
// initdb and every migration takes two seconds of a processor, and each package has
// a server of its own; so the first one keeps what it made in the user's cache, and
// the others copy it. Other migrations, or another PostgreSQL, have files of their
// own, which replace these.
func copyCluster(ctx context.Context, data string) error {
	name, err := clusterName()
	if err != nil {
		return err
	}
	kept := cacheDir()
	if kept == "" {
		return nil // the server makes its own
	}
	lock, err := os.OpenFile(filepath.Join(kept, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	// The kernel drops the lock with its process, so nobody waits for a killed one.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	cluster := filepath.Join(kept, name)
	if _, err := os.Stat(cluster); errors.Is(err, fs.ErrNotExist) {
		if err := makeCluster(ctx, kept, cluster); err != nil {
			return fmt.Errorf("make %s: %w", cluster, err)
		}
	}
	return copyFiles(ctx, cluster, data)
}

// clusterName says what a cluster is made of: the migrations and PostgreSQL.
func clusterName() (string, error) {
	template, err := templateName()
	if err != nil {
		return "", err
	}
	programs, major, err := embedpg.Find()
	if err != nil {
		return "", err
	}
	postgres, err := os.Stat(filepath.Join(programs, "postgres"))
	if err != nil {
		return "", err
	}
	made := sha256.Sum256(fmt.Appendf(nil, "%s %s %d %v", template, programs, postgres.Size(), postgres.ModTime().UTC()))
	return fmt.Sprintf("postgres%d-%x", major, made[:8]), nil
}

// cacheDir makes the directory of kept clusters. It is empty for an account without a
// home directory to write to.
func cacheDir() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	dir := filepath.Join(cache, "scheduler-pgtest")
	if os.MkdirAll(dir, 0o700) != nil {
		return ""
	}
	return dir
}

// makeCluster replaces all kept clusters by one at path. What it makes has its name
// only when it is complete.
func makeCluster(ctx context.Context, kept, path string) error {
	old, err := filepath.Glob(filepath.Join(kept, "postgres*"))
	if err != nil {
		return err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	dir, err := serverDir(TempDir(), "pgtest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := fillCluster(ctx, dir); err != nil {
		return err
	}
	if err := copyFiles(ctx, filepath.Join(dir, "data"), path+".new"); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// fillCluster makes the template on a server in dir, whose files stay when it ends.
func fillCluster(ctx context.Context, dir string) (err error) {
	unsynced := map[string]string{"fsync": "off", "full_page_writes": "off", "listen_addresses": ""}
	maps.Copy(unsynced, settings)
	pg, err := embedpg.Start(ctx, embedpg.Config{Dir: dir, Settings: unsynced})
	if err != nil {
		return err
	}
	s := &server{url: pg.URL("postgres"), end: pg.Stop}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	_, err = s.template(ctx)
	return err
}

// copyFiles copies a directory with owners and modes, on which PostgreSQL insists.
func copyFiles(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}
