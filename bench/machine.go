//go:build unix

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// A machine is what the figures were measured on, and how quiet it was.
type machine struct {
	cores            int
	model, goVersion string
	postgres, river  string
	commit           string
	loadBegin        string
	loadEnd          string
	calibration      sample
	took             time.Duration
}

func describeMachine(ctx context.Context, pg *postgres) (machine, error) {
	m := machine{cores: runtime.NumCPU(), model: cpuModel(), goVersion: runtime.Version(), loadBegin: loadAverage(), river: riverVersion()}
	if out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		m.commit = strings.TrimSpace(string(out))
	}
	var err error
	m.postgres, err = pg.show(ctx)
	return m, err
}

func (m *machine) finish(took time.Duration) { m.loadEnd, m.took = loadAverage(), took }

// calibrate runs the same work on every core and notes how long it took: what
// differs from round to round is the noise of the machine.
func (m *machine) calibrate() {
	began := time.Now()
	var wg sync.WaitGroup
	for range m.cores {
		wg.Go(func() {
			block := make([]byte, 1<<20)
			for range 100 {
				sum := sha256.Sum256(block)
				copy(block, sum[:])
			}
		})
	}
	wg.Wait()
	m.calibration = append(m.calibration, inMillis(time.Since(began)))
}

func (m *machine) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Machine: %d × %s, %s, %s, commit %s.\n\n", m.cores, m.model, runtime.GOOS+"/"+runtime.GOARCH, m.goVersion, m.commit)
	fmt.Fprintf(&b, "%s; River %s. One run of %s.\n\n", m.postgres, m.river, m.took.Round(time.Second))
	fmt.Fprintf(&b, "Noise: the same work on every core took %s over %d rounds; load average %s before, %s after.\n",
		m.calibration.text(millis), len(m.calibration), m.loadBegin, m.loadEnd)
	return b.String()
}

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "core"
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return "unknown"
	}
	return strings.Join(fields[:3], " ")
}
