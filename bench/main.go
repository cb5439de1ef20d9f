//go:build unix

// Command bench measures the scheduler beside its peers and its limits, in one
// run on one machine, and prints one table, ratios first.
//
// Everything runs on one PostgreSQL with default durability that the command
// starts itself, and with one sandbox in a process of its own. Contestants take
// turns, round by round; a ratio is taken within its round, so that a noisy
// neighbour weighs on both of its sides.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/app"
)

// A part measures one thing; its rows go into the table.
type part struct {
	name string
	run  func(context.Context, *bench) error
}

// parts are in the order they run: those that want an idle machine come first.
var parts = []part{
	{"throughput", throughput},
	{"calls", calls},
	{"lateness", lateness},
	{"daemons", severalDaemons},
	{"growth", growth},
	{"planning", planning},
	{"standing", standing},
	{"hostile", hostile},
	{"audience", audience},
	{"api", frontAPI},
	{"flood", flood},
	{"pages", pages},
	{"opening", opening},
	{"clicking", clicking},
	{"loading", loading},
}

type options struct {
	rounds, tasks, calls int
	campaigns            int
	decided              int
	audience             int
	workers, inFlight    int
	full, short          bool
	only                 string
	cpuprofile, out, dir string
	verbose, statements  bool
	filled               bool
}

func readOptions() options {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "how often each contestant runs")
	flag.IntVar(&o.tasks, "tasks", 120_000, "tasks of a round without the call")
	flag.IntVar(&o.calls, "calls", 60_000, "tasks of a round with the call")
	flag.IntVar(&o.campaigns, "campaigns", 1_000_000, "campaigns and pending tasks that stand by")
	flag.IntVar(&o.decided, "decided", 2_000_000, "decided tasks of the growth part")
	flag.IntVar(&o.audience, "audience", 1_000_000, "targets of a large audience")
	flag.IntVar(&o.workers, "river-workers", 1000, "River's workers")
	flag.IntVar(&o.inFlight, "in-flight", 1024, "our max_in_flight where there is no call; elsewhere it is the default")
	flag.BoolVar(&o.full, "full", false, "10,000,000 decided tasks")
	flag.BoolVar(&o.short, "short", false, "small sizes, to see that everything works")
	flag.StringVar(&o.only, "only", "", "parts to run, separated by commas: "+partNames())
	flag.StringVar(&o.cpuprofile, "cpuprofile", "", "write a profile of each of our runs to `FILE`.PART")
	flag.StringVar(&o.out, "out", "", "write the table to `FILE` too")
	flag.StringVar(&o.dir, "dir", "", "keep databases and journal below `DIR` (default: a temporary directory)")
	flag.BoolVar(&o.filled, "filled", false, "pages: measure the database that an earlier run with the same -dir has filled")
	flag.BoolVar(&o.verbose, "v", false, "show the daemons' warnings")
	flag.BoolVar(&o.statements, "statements", false, "load pg_stat_statements and print the dearest statements of each run")
	flag.Parse()
	if o.full {
		o.decided = 10_000_000
	}
	if o.short {
		o.tasks, o.calls, o.campaigns, o.decided, o.audience = 10_000, 5_000, 50_000, 100_000, min(o.audience, 300_000)
	}
	return o
}

func partNames() string {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.name
	}
	return strings.Join(names, ", ")
}

func main() {
	if dir := os.Getenv(sandboxEnv); dir != "" {
		exit(serveSandbox(dir))
	}
	app.RelaxCollector(0) // for every contestant: they share this process
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(run(ctx, readOptions()))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A bench is one run of the suite.
type bench struct {
	options
	table   table
	costs   costs
	machine machine
	pg      *postgres
	box     *box
}

func run(ctx context.Context, o options) (err error) {
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(o.dir)
		// As root, PostgreSQL runs as somebody else, who must get in.
		if err = os.Chmod(o.dir, 0o755); err != nil {
			return err
		}
	}
	b := &bench{options: o}
	if b.pg, err = startPostgres(ctx, o.dir, o.statements); err != nil {
		return err
	}
	defer b.pg.stop()
	if b.box, err = startSandbox(ctx, o.dir); err != nil {
		return err
	}
	defer b.box.stop()
	if b.machine, err = describeMachine(ctx, b.pg); err != nil {
		return err
	}
	began := time.Now()
	for _, p := range chosen {
		b.say("part %s", p.name)
		if err := p.run(ctx, b); err != nil {
			return fmt.Errorf("part %s: %w", p.name, err)
		}
	}
	b.machine.finish(time.Since(began))
	return b.print()
}

func choose(only string) ([]part, error) {
	if only == "" {
		return parts, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no part %q; there are %s", name, partNames())
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}

// say tells on standard error what is being done; the table alone goes to
// standard output.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

func (b *bench) print() error {
	text := b.table.markdown() + "\n" + b.costs.markdown() + b.machine.markdown()
	fmt.Fprint(os.Stdout, text)
	if b.out == "" {
		return nil
	}
	return os.WriteFile(b.out, []byte(text), 0o644)
}

// logger is the daemons': formatted as in production, and thrown away unless
// asked for.
func (b *bench) logger() *slog.Logger {
	if b.verbose {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	sink, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(sink, nil))
}
