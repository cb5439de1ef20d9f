//go:build linux

// Command cmd runs the chaos harness; see `make chaos` and docs/reliability.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/chaos"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type settings struct {
	duration time.Duration
	daemons  int
	seeds    string
	mutants  string
	dir      string
	pace     time.Duration
	jumps    bool
	failover bool
	keep     bool
	verbose  bool
}

// run returns 0 when every promise held, and with mutants when each was found.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s settings
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.DurationVar(&s.duration, "duration", 2*time.Minute, "how long faults go on, for each seed")
	f.IntVar(&s.daemons, "daemons", 3, "how many daemons run")
	f.StringVar(&s.seeds, "seeds", "", "comma-separated seeds, one run each (default: one drawn from the clock)")
	f.StringVar(&s.mutants, "mutant", "", "break the build on purpose: a mutant's name, or all")
	f.StringVar(&s.dir, "dir", "", "keep what the run writes in this directory (default: a temporary one)")
	f.DurationVar(&s.pace, "pace", 200*time.Millisecond, "between campaigns")
	f.BoolVar(&s.jumps, "jumps", false, "let the database's clock jump by up to half a minute, and back by an hour (needs libfaketime)")
	f.BoolVar(&s.failover, "failover", false, "lose the primary again and again instead: to standbys that lag, crashes, restored dumps")
	f.BoolVar(&s.keep, "keep", false, "keep the temporary directory even when nothing was found")
	f.BoolVar(&s.verbose, "v", false, "say each fault when it happens")
	if f.Parse(args) != nil {
		return 2
	}
	seeds, err := parseSeeds(s.seeds)
	if err == nil {
		var ok bool
		if ok, err = s.runAll(ctx, seeds, stdout, stderr); err == nil && ok {
			return 0
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "chaos:", err)
	}
	return 1
}

func parseSeeds(text string) ([]uint64, error) {
	if text == "" {
		return []uint64{uint64(time.Now().Unix())}, nil
	}
	var seeds []uint64
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(part), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("seed %q is not a number", part)
		}
		seeds = append(seeds, n)
	}
	return seeds, nil
}

func (s *settings) runAll(ctx context.Context, seeds []uint64, stdout, stderr io.Writer) (ok bool, err error) {
	ok = true
	mutants := []*chaos.Mutant{nil}
	if s.mutants != "" {
		if mutants, err = s.chosen(); err != nil {
			return false, err
		}
	}
	for _, m := range mutants {
		for i, seed := range seeds {
			good, err := s.runOne(ctx, m, seed, stdout, stderr)
			if err != nil {
				return false, err
			}
			if m == nil {
				ok = ok && good
				continue
			}
			if good { // this mutant was found; the next seeds are for the others
				break
			}
			if i == len(seeds)-1 {
				ok = false
			}
		}
	}
	return ok, nil
}

func (s *settings) chosen() ([]*chaos.Mutant, error) {
	var out []*chaos.Mutant
	if s.mutants == "all" {
		for i := range chaos.Mutants {
			if chaos.Mutants[i].Lost == s.failover {
				out = append(out, &chaos.Mutants[i])
			}
		}
		return out, nil
	}
	for name := range strings.SplitSeq(s.mutants, ",") {
		m, err := chaos.FindMutant(name)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// runOne says whether a run ended as it should: without a broken promise, or
// for a mutant with one.
func (s *settings) runOne(ctx context.Context, m *chaos.Mutant, seed uint64, stdout, stderr io.Writer) (bool, error) {
	dir, temporary, err := s.directory(m, seed)
	if err != nil {
		return false, err
	}
	level := slog.LevelError
	if s.verbose {
		level = slog.LevelInfo
	}
	o := chaos.Options{
		Seed: seed, Duration: s.duration, Daemons: s.daemons, Pace: s.pace, Jumps: s.jumps, Mutant: m, Dir: dir,
		Log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	}
	o.Describe(stdout)
	experiment := chaos.Run
	if s.failover || m != nil && m.Lost {
		experiment = chaos.RunFailover
	}
	report, err := experiment(ctx, o)
	if report == nil {
		return false, err
	}
	report.Write(stdout)
	if err != nil {
		fmt.Fprintf(stdout, "\nNOT JUDGED: the run says nothing, neither that a promise held nor that one broke: %v\nLogs, journal and database: %s\n\n", err, dir)
		return false, ctx.Err()
	}
	broken := report.Broken()
	good := len(broken) == 0
	if m != nil {
		good = m.Found(broken)
	}
	switch {
	case m != nil && good:
		fmt.Fprintf(stdout, "\nThe break was found: %s\n\n", strings.Join(broken, "; "))
	case m != nil:
		fmt.Fprintf(stdout, "\nNOT FOUND: the harness did not notice mutant %s\n\n", m.Name)
	case good && len(report.Unjudged()) > 0:
		fmt.Fprint(stdout, "\nEvery promise that could be judged held.\n\n")
	case good:
		fmt.Fprint(stdout, "\nEvery promise held.\n\n")
	default:
		fmt.Fprintf(stdout, "\nRun it again: go run ./internal/chaos/cmd -seeds %d -duration %s\nLogs, journal and database: %s\n\n", seed, s.duration, dir)
	}
	if temporary && !s.keep && (good || m != nil) {
		return good, os.RemoveAll(dir)
	}
	return good, nil
}

func (s *settings) directory(m *chaos.Mutant, seed uint64) (dir string, temporary bool, err error) {
	if s.dir == "" {
		dir, err = os.MkdirTemp("", "chaos-")
		return dir, true, errors.Join(err, os.Chmod(dir, 0o755)) // PostgreSQL's own user must get in
	}
	name := fmt.Sprintf("seed-%d", seed)
	if m != nil {
		name = m.Name + "-" + name
	}
	return filepath.Join(s.dir, name), false, nil
}
