//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A disk that is full takes nothing, and takes it again when it is cleared. What it
// holds stays.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := mountDisk(dir, 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	if d == nil {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err == nil {
			t.Fatal("there is no disk, though this process may mount one")
		}
		return // nothing that can be full: the harness breaks other things
	}
	t.Cleanup(func() { _ = d.unmount() })
	file := filepath.Join(dir, "kept")
	if err := os.WriteFile(file, make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		more := filepath.Join(dir, fmt.Sprintf("more%d", i))
		if err := d.fill(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(more, make([]byte, 8192), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("a full disk answers %v, want ENOSPC", err)
		}
		if err := d.clear(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(more, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		if kept, err := os.ReadFile(file); err != nil || len(kept) != 100_000 {
			t.Fatalf("%d bytes are left of 100000: %v", len(kept), err)
		}
	}
}

// The disk of a long run holds what half an hour stores, and fits into the memory of
// a machine that runs it.
func TestDiskFitsTheRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		duration time.Duration
		least    uint64
	}{
		{time.Minute, 1 << 30},
		{30 * time.Minute, 4 << 30},
	} {
		if got := diskSize(c.duration); got < c.least || got > 2*c.least {
			t.Errorf("a run of %s has a disk of %d bytes, want %d to %d", c.duration, got, c.least, 2*c.least)
		}
	}
}
