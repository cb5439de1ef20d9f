//go:build linux

package chaos

import (
	"context"
	"errors"
	"path/filepath"
	"time"
)

// ParseKey reads a message key's campaign and due time, in microseconds.
func ParseKey(key string) (campaign, due int64, ok bool) {
	o, ok := parseKey(key)
	return o.campaign, o.due, ok
}

// Ahead sets a clock at the given moments and returns what it was ahead at
// another.
func Ahead(moments []time.Time, settings []time.Duration, at time.Time) (least, most time.Duration) {
	c := &clock{}
	for i := range moments {
		c.history = append(c.history, setting{moments[i], settings[i]})
	}
	return c.ahead(at)
}

// ScaleEdits make the build end few deliveries at once.
var ScaleEdits = scaleEdits

// WallEdits are the changes that give a daemon a wall clock of its own.
var WallEdits = wallEdits

// A Pair is a primary and its standby.
type Pair struct{ primary, standby *node }

// NewPair starts one below dir.
func NewPair(ctx context.Context, dir string) (*Pair, error) {
	p := &Pair{}
	var err error
	if p.primary, err = newNode(filepath.Join(dir, "primary")); err != nil {
		return p, err
	}
	if err := errors.Join(p.primary.initialise(ctx), p.primary.start(ctx)); err != nil {
		return p, err
	}
	if p.standby, err = newNode(filepath.Join(dir, "standby")); err != nil {
		return p, err
	}
	return p, errors.Join(p.standby.follow(ctx, p.primary), p.standby.start(ctx))
}

// URL names both hosts, the standby first.
func (p *Pair) URL() string {
	return "postgres://postgres@" + p.standby.addr() + "," + p.primary.addr() + "/postgres?sslmode=disable"
}

// Switch loses the primary and promotes the standby.
func (p *Pair) Switch(ctx context.Context) error {
	p.primary.crash()
	return p.standby.run(ctx, `SELECT pg_promote(true, 30)`)
}

// Remove ends both.
func (p *Pair) Remove() {
	for _, n := range []*node{p.standby, p.primary} {
		if n != nil {
			n.remove()
		}
	}
}

// DiskSize is how large the disk of a run of that length is, in bytes.
var DiskSize = diskSize

// A Disk can be full.
type Disk struct{ d *disk }

// MountDisk mounts one; nil: the machine does not let us.
func MountDisk(dir string, size uint64) (*Disk, error) {
	d, err := mountDisk(dir, size)
	if d == nil {
		return nil, err
	}
	return &Disk{d}, err
}

// Fill leaves it no room.
func (d *Disk) Fill() error { return d.d.fill() }

// Clear gives it its room again.
func (d *Disk) Clear() error { return d.d.clear() }

// Unmount takes it away.
func (d *Disk) Unmount() error { return d.d.unmount() }
