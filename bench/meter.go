//go:build unix

package main

import (
	"fmt"
	"os"
	"time"
)

// A meter reads how much CPU everybody has used: figures that a busy machine
// disturbs less than the clock on the wall.
type meter struct{ self, postgres, sandbox time.Duration }

func (b *bench) meter() (m meter) {
	m.self, _ = cpuTime(os.Getpid())
	m.postgres, _ = treeTime(b.pg.server.PID())
	m.sandbox, _ = cpuTime(b.box.cmd.Process.Pid)
	return m
}

// since tells what n tasks cost each since the earlier reading.
func (m meter) since(earlier meter, n int) string {
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(n) }
	return fmt.Sprintf("CPU per task: %.0f µs here, %.0f µs PostgreSQL, %.0f µs sandbox",
		each(m.self-earlier.self), each(m.postgres-earlier.postgres), each(m.sandbox-earlier.sandbox))
}
