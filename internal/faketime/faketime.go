// Package faketime gives a PostgreSQL server a wall clock of its own, by
// libfaketime, so that tests and the chaos harness can set it. The daemons go by
// the database's clock, and so weeks can pass in seconds.
package faketime

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// libraries are the paths at which Debian, Fedora and others have libfaketime.
var libraries = []string{
	"/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
	"/usr/lib64/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1",
}

// Library returns the path of libfaketime; empty: the machine has none.
func Library() string {
	for _, path := range libraries {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// Set puts the clock that is kept in a file ahead of the machine's, or behind. The
// server reads the file whenever it looks at the clock.
func Set(file string, ahead time.Duration) error {
	unfinished := file + ".new"
	if err := os.WriteFile(unfinished, fmt.Appendf(nil, "%+.3f\n", ahead.Seconds()), 0o644); err != nil {
		return err
	}
	return os.Rename(unfinished, file)
}

// Wrap makes dir a folder of PostgreSQL's programs in which postgres goes by the
// clock in file, which Set must have written before it starts.
func Wrap(library, file, programs, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(programs)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.Name() == "postgres" {
			script := fmt.Sprintf("#!/bin/sh\nexport LD_PRELOAD=%s FAKETIME_TIMESTAMP_FILE=%s FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\nexec %s \"$@\"\n",
				library, file, filepath.Join(programs, "postgres"))
			// If another goroutine forks a child while the script is open for
			// writing, the script's start fails with "text file busy".
			syscall.ForkLock.RLock()
			err = os.WriteFile(path, []byte(script), 0o755)
			syscall.ForkLock.RUnlock()
		} else {
			err = os.Symlink(filepath.Join(programs, e.Name()), path)
		}
		if err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}
