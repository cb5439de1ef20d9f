//go:build unix

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
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

// since is what each of n tasks has cost since the earlier reading.
func (m meter) since(earlier meter, n int) meter {
	each := time.Duration(n)
	return meter{(m.self - earlier.self) / each, (m.postgres - earlier.postgres) / each, (m.sandbox - earlier.sandbox) / each}
}

// String says what one task cost.
func (m meter) String() string {
	return fmt.Sprintf("CPU per task: %s µs here, %s µs PostgreSQL, %s µs sandbox", inMicros(m.self), inMicros(m.postgres), inMicros(m.sandbox))
}

func inMicros(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d.Nanoseconds())/1000) }

func (m meter) all() time.Duration { return m.self + m.postgres + m.sandbox }

// costs are what a task cost in each of the runs, by the runs' name.
type costs struct {
	names []string
	each  map[string][]meter
}

// ran notes what a run of n tasks cost since a reading before it.
func (b *bench) ran(name string, perSecond float64, before meter, n int) {
	m := b.meter().since(before, n)
	b.say("%s: %.0f per second; %v", name, perSecond, m)
	if b.costs.each == nil {
		b.costs.each = make(map[string][]meter)
	}
	if b.costs.each[name] == nil {
		b.costs.names = append(b.costs.names, name)
	}
	b.costs.each[name] = append(b.costs.each[name], m)
}

// markdown shows the least disturbed round of each run.
func (c *costs) markdown() string {
	if len(c.names) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("Processor time per task, in µs, the least disturbed round of each:\n\n| | here | PostgreSQL | sandbox | in all |\n|---|---:|---:|---:|---:|\n")
	for _, name := range c.names {
		m := slices.MinFunc(c.each[name], func(a, b meter) int { return int(a.all() - b.all()) })
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", name, inMicros(m.self), inMicros(m.postgres), inMicros(m.sandbox), inMicros(m.all()))
	}
	return b.String() + "\n"
}
