//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// standing is the program itself, in a process of its own, over a large number
// of campaigns of which none is due: what it costs, what it holds in memory,
// and how punctual it still is.
func standing(ctx context.Context, b *bench) error {
	db, err := b.pg.scheduler(ctx, "bench_standing")
	if err != nil {
		return err
	}
	defer db.Close()
	b.say("filling bench_standing: %d campaigns with a pending task each", b.campaigns)
	limit := b.campaigns/benchApps + 1000
	if err := b.register(ctx, db, limit); err != nil {
		return err
	}
	if err := db.fill(ctx, fill{tasks: b.campaigns, due: time.Now().Add(12 * time.Hour), spread: 6 * time.Hour, further: true}); err != nil {
		return err
	}
	if err := db.settle(ctx); err != nil {
		return err
	}
	p, err := b.startProgram(ctx, db, limit)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := b.settled(ctx, db); err != nil {
		return err
	}
	if err := b.idle(ctx, db, p); err != nil {
		return err
	}
	if err := b.punctual(ctx, db); err != nil {
		return err
	}
	peak, err := p.peakRSS()
	b.table.hold(fmt.Sprintf("peak RSS with %s pending tasks", thousands(float64(b.campaigns))), new(atMost(64)), mebibytes, sample{peak})
	return err
}

// settled waits until a daemon that has started has judged every pending campaign
// again, which shows in how many transactions there are.
func (b *bench) settled(ctx context.Context, db *database) error {
	const look, calm = 5 * time.Second, 10 // transactions per second
	began := time.Now()
	for last := int64(-1); ; {
		now, err := db.transactions(ctx)
		if err != nil {
			return err
		}
		switch took := time.Since(began); {
		case last >= 0 && float64(now-last) < calm*look.Seconds():
			b.table.hold(fmt.Sprintf("after a start, until %s campaigns with pending tasks were judged again", thousands(float64(b.campaigns))), nil, millis, sample{inMillis(took)})
			return nil
		case took > 10*time.Minute:
			return errors.New("the daemon does not come to rest")
		}
		last = now
		if err := sleepUntil(ctx, time.Now().Add(look)); err != nil {
			return err
		}
	}
}

// idle is what the daemon and the database cost while nothing is due. It is
// longer than the sweeps of a minute, which are so part of it; the count of all
// pending tasks every ten minutes is not.
func (b *bench) idle(ctx context.Context, db *database, p *program) error {
	window := 65 * time.Second
	if b.short {
		window = 10 * time.Second
	}
	var cpu, statements sample
	for range b.rounds {
		b.machine.calibrate()
		before, err := b.idleCost(ctx, db, p)
		if err != nil {
			return err
		}
		time.Sleep(window)
		after, err := b.idleCost(ctx, db, p)
		if err != nil {
			return err
		}
		b.say("idle: daemon %.2f %%, database %.2f %%, %.1f transactions per second",
			100*(after.daemon-before.daemon).Seconds()/window.Seconds(), 100*(after.database-before.database).Seconds()/window.Seconds(), float64(after.transactions-before.transactions)/window.Seconds())
		cpu = append(cpu, 100*(after.daemon+after.database-before.daemon-before.database).Seconds()/window.Seconds())
		statements = append(statements, float64(after.transactions-before.transactions)/window.Seconds())
	}
	b.table.hold("CPU of one core, idle, daemon and database", new(atMost(1)), percent, cpu)
	b.table.hold("transactions per second, idle", nil, plain, statements)
	return nil
}

type cost struct {
	daemon, database time.Duration
	transactions     int64
}

func (b *bench) idleCost(ctx context.Context, db *database, p *program) (c cost, err error) {
	if c.transactions, err = db.transactions(ctx); err != nil {
		return c, err
	}
	if c.daemon, err = cpuTime(p.cmd.Process.Pid); err != nil {
		return c, err
	}
	c.database, err = treeTime(b.pg.server.PID())
	return c, err
}

// transactions is how many there were in the database.
func (d *database) transactions(ctx context.Context) (n int64, err error) {
	err = d.QueryRow(ctx, `SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()`).Scan(&n)
	return n, err
}

// punctual pushes 100 tasks that fall due within one second.
func (b *bench) punctual(ctx context.Context, db *database) error {
	const n = 100
	var p99 sample
	early := 0
	for range b.rounds {
		b.machine.calibrate()
		due := time.Now().Add(lead).Truncate(time.Second)
		from := b.box.mark()
		if err := db.fill(ctx, fill{tasks: n, due: due, spread: time.Second}); err != nil {
			return err
		}
		if err := sleepUntil(ctx, due.Add(2*time.Second)); err != nil {
			return err
		}
		s, err := b.box.spell(from, n)
		if err != nil {
			return err
		}
		b.say("standing: p50 %v p99 %v last %v", s.p50, s.p99, s.last)
		p99 = append(p99, inMillis(s.p99))
		early += s.early
	}
	b.table.hold(fmt.Sprintf("100 due in one second, %s future tasks stored, p99 lateness", thousands(float64(b.campaigns))), new(atMost(10)), millis, p99)
	b.table.hold("of those, requests that arrived before their due time", new(atMost(0)), thousands, sample{float64(early)})
	return nil
}

func sleepUntil(ctx context.Context, t time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(t)):
		return nil
	}
}

// A program is the scheduler's own binary at work.
type program struct{ cmd *exec.Cmd }

func (b *bench) startProgram(ctx context.Context, db *database, limit int, settings ...string) (*program, error) {
	binary := filepath.Join(b.dir, "scheduler")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "./cmd/scheduler")
	build.Dir, build.Stderr = "..", os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build the program (the suite runs in its own folder): %w", err)
	}
	conf := filepath.Join(b.dir, "scheduler.yaml")
	if err := os.WriteFile(conf, []byte(b.configuration(db, limit)+strings.Join(settings, "")), 0o600); err != nil {
		return nil, err
	}
	p := &program{exec.CommandContext(ctx, binary, "serve", "--config", conf)}
	if b.verbose {
		p.cmd.Stderr = os.Stderr
	}
	return p, p.cmd.Start()
}

func (b *bench) configuration(db *database, limit int) string {
	var y strings.Builder
	fmt.Fprintf(&y, "database:\n  url: %q\ndata_dir: %q\nadmin:\n  listen: 127.0.0.1:0\napps:\n", db.url, filepath.Join(b.dir, "standing"))
	for i := range benchApps {
		fmt.Fprintf(&y, "  - app_id: %q\n    workspace_id: %q\n    provider: mpaas\n    endpoint: %q\n    pending_limit: %d\n", appID(i+1), workspace, b.box.url, limit)
		for name, value := range b.box.options {
			fmt.Fprintf(&y, "    %s: %q\n", name, value)
		}
	}
	return y.String()
}

func (p *program) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

// peakRSS is the most memory the program ever held, in MiB.
func (p *program) peakRSS() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("the kernel does not tell the peak of memory")
}

// clockTick is the unit of /proc's times on Linux.
const clockTick = 10 * time.Millisecond

// cpuTime is what a process has used so far, its ended children included.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold spaces
	fields := strings.Fields(rest)
	var ticks int64
	for _, i := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// treeTime is what a process and its children have used.
func treeTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	total, err := cpuTime(pid)
	for _, child := range slices.Collect(strings.FieldsSeq(string(text))) {
		no, _ := strconv.Atoi(child)
		used, cerr := cpuTime(no)
		if cerr == nil { // a child may have ended meanwhile: it is its parent's then
			total += used
		}
	}
	return total, err
}
