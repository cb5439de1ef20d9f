//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// A disk holds the cluster and nothing else, so that it can be full. It is made
// of memory, of which it takes only what the cluster holds.
type disk struct {
	dir  string
	size uint64 // bytes
}

// diskSize bounds what a run of that length may store. A minute stores about 50 MiB
// with its log ahead: one large audience after another, of which each target has
// three rows.
func diskSize(duration time.Duration) uint64 {
	return 1<<30 + uint64(max(duration, 0)/time.Minute)*(128<<20)
}

// mountDisk mounts a disk. It returns nil where the machine does not let us: then
// the cluster lies on the machine's own, and is never full.
func mountDisk(dir string, size uint64) (*disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d := &disk{dir: dir, size: size}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", size)); err != nil {
		return nil, nil //nolint:nilerr // no right to mount is no error
	}
	return d, nil
}

// fill leaves no room: the disk is made as small as what it holds.
func (d *disk) fill() error {
	for {
		used, err := d.used()
		if err != nil {
			return err
		}
		// EINVAL: more has been written since.
		if err := d.resize(used); !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
}

// clear gives the disk its size again.
func (d *disk) clear() error { return d.resize(d.size) }

func (d *disk) resize(size uint64) error {
	return syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size))
}

// used is how many bytes the disk holds.
func (d *disk) used() (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &s); err != nil {
		return 0, err
	}
	return (s.Blocks - s.Bfree) * uint64(s.Bsize), nil
}

func (d *disk) unmount() error { return syscall.Unmount(d.dir, syscall.MNT_DETACH) }
