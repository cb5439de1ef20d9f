//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
	"github.com/campaign-scheduler/scheduler/store"
)

// A failover run has a primary and a standby, and loses the primary again and
// again: a standby that lags or does not lag takes over, the primary crashes, or
// a dump is restored under the running daemons. The role has synchronous_commit
// = off all the time. The oracle counts message keys.
type failover struct {
	Options
	report           *Report
	bin              string
	api              *pushAPI
	primary, standby *node
	made             int // nodes
	daemons          []*daemon
	alive            sync.WaitGroup
	rest             context.CancelFunc
	rng              *rand.Rand

	mu      sync.Mutex
	current *node
}

// RunFailover runs the experiment and returns its report and error as Run does.
func RunFailover(ctx context.Context, o Options) (_ *Report, err error) {
	f := &failover{Options: o, report: newReport(), rng: rand.New(rand.NewPCG(o.Seed, 9))}
	defer f.close()
	if err := f.setUp(ctx); err != nil {
		return nil, err
	}
	if err := f.disturb(ctx); err != nil {
		return f.report, err
	}
	return f.report, f.judge(ctx)
}

func (f *failover) setUp(ctx context.Context) (err error) {
	if err := os.MkdirAll(f.Dir, 0o755); err != nil { // PostgreSQL's own user must get in
		return err
	}
	if f.bin, err = build(ctx, f.Dir, f.Mutant); err != nil {
		return err
	}
	if f.primary, err = f.node(); err != nil {
		return err
	}
	if err := errors.Join(f.primary.initialise(ctx), f.primary.start(ctx)); err != nil {
		return err
	}
	f.lead(f.primary)
	if err := f.primary.run(ctx, `CREATE DATABASE scheduler`); err != nil {
		return err
	}
	m, err := store.NewMigrator(f.primary.url("scheduler"), f.Log)
	if err != nil {
		return err
	}
	if err := m.Up(ctx); err != nil {
		return err
	}
	err = f.primary.run(ctx, `CREATE ROLE `+daemonRole+` LOGIN PASSWORD '`+daemonRole+`' IN ROLE scheduler_daemon`,
		`ALTER ROLE `+daemonRole+` SET synchronous_commit = off`)
	if err != nil {
		return err
	}
	if err := f.newStandby(ctx); err != nil {
		return err
	}
	var credentials *sandbox.Credentials
	if f.api, credentials, err = newPushAPI(f.bin, filepath.Join(f.Dir, "sandbox"), f.Seed); err != nil {
		return err
	}
	for i := range f.Daemons {
		d, err := newDaemon(i, f.bin, f.Dir, f.leader, func() string { return f.api.addr }, credentials, failoverLease, f.Options, f.report)
		if err != nil {
			return err
		}
		if err := d.setWall(0); err != nil {
			return err
		}
		d.quiet = true // no failpoints: when a daemon dies, its ledger is lost
		f.daemons = append(f.daemons, d)
	}
	return nil
}

func (f *failover) node() (*node, error) {
	f.made++
	return newNode(filepath.Join(f.Dir, fmt.Sprintf("node%d", f.made)))
}

func (f *failover) newStandby(ctx context.Context) (err error) {
	if f.standby, err = f.node(); err != nil {
		return err
	}
	if err := errors.Join(f.standby.follow(ctx, f.primary), f.standby.start(ctx)); err != nil {
		return err
	}
	return f.primary.await(ctx, `SELECT count(*) > 0 FROM pg_stat_replication WHERE state = 'streaming'`)
}

// leader returns the address to which the daemons' connections go.
func (f *failover) leader() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current.addr()
}

func (f *failover) lead(n *node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = n
}

func (f *failover) leading() *node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current
}

func (f *failover) disturb(ctx context.Context) error {
	alive, rest := context.WithCancel(ctx)
	f.rest = rest
	for _, d := range f.daemons {
		f.alive.Go(func() { d.run(alive) })
	}
	if err := f.awaitReady(ctx); err != nil {
		return err
	}
	load, stop := context.WithCancel(ctx)
	var loading sync.WaitGroup
	loading.Go(func() { f.load(load) })
	defer loading.Wait()
	defer stop()
	for end := time.Now().Add(f.Duration); time.Now().Before(end) && ctx.Err() == nil; {
		sleep(ctx, time.Duration(1500+f.rng.IntN(2500))*time.Millisecond)
		if err := f.round(ctx); err != nil {
			return err
		}
	}
	return nil
}

// load writes campaigns that are due at once or in a moment.
func (f *failover) load(ctx context.Context) {
	rng := rand.New(rand.NewPCG(f.Seed, 10))
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for n := 0; ctx.Err() == nil; n++ {
		sleep(ctx, f.Pace)
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		var err error
		if conn == nil || conn.IsClosed() {
			if conn, err = pgx.Connect(one, f.leading().url("scheduler")); err != nil {
				conn = nil
			}
		}
		if conn != nil {
			if err = f.write(one, conn, rng, n); err != nil {
				_ = conn.Close(one)
			} else {
				f.report.count("campaigns", 1)
			}
		}
		cancel()
	}
}

func (f *failover) write(ctx context.Context, conn *pgx.Conn, rng *rand.Rand, n int) error {
	app, channel, request, targets := "w1", "webhook", `{"text": "hello"}`, 0
	workspace := ""
	switch rng.IntN(6) {
	case 0:
		targets = 350
	case 1:
		app, workspace, channel = "m2", sandbox.DefaultWorkspace, "mpaas.push_multiple"
		request, targets = `{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome"}`, 250
	}
	kind, content := 0, (*string)(nil)
	if rng.IntN(2) == 0 {
		kind, content = 1, text(map[string]any{"fixedTime": time.Now().Add(time.Duration(1+rng.IntN(4)) * time.Second).UnixMilli()})
	}
	_, err := conn.Exec(ctx, `
		WITH c AS (
			INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request)
			VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
		)
		INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT c.id, 'u' || i FROM c, generate_series(1, $8) i`,
		fmt.Sprintf("f%d", n), app, workspace, channel, kind, content, request, targets)
	return err
}

// round loses the primary once, in one of these ways, and waits until
// everything goes on.
func (f *failover) round(ctx context.Context) error {
	lag := time.Duration(f.rng.IntN(3000)) * time.Millisecond
	if f.rng.IntN(2) == 0 {
		lag /= 15 // less than a heartbeat
	}
	var err error
	var mayHold bool
	what := pick(f.rng, "asynchronous", "asynchronous", "asynchronous", "synchronous", "crash", "dump")
	if f.Mutant != nil { // a minute has few rounds on a busy machine, so each must lose something while leases stand
		what, lag = "asynchronous", time.Duration(300+f.rng.IntN(700))*time.Millisecond
	}
	f.Log.InfoContext(ctx, "round", "what", what, "lag", lag)
	switch what {
	case "asynchronous":
		err, mayHold = f.promote(ctx, lag), lag > 0
	case "synchronous":
		err = errors.Join(f.synchronous(ctx, "'*'"), f.promote(ctx, 0))
	case "crash":
		f.primary.crash()
		err = f.primary.start(ctx)
	case "dump":
		err, mayHold = f.restore(ctx, lag), true
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	f.report.count("lost primaries: "+what, 1)
	if err := f.goOn(ctx, what, mayHold); err != nil {
		return err
	}
	if what == "asynchronous" || what == "synchronous" {
		return f.newStandby(ctx)
	}
	return nil
}

// synchronous makes commits wait for the standby, or not any more.
func (f *failover) synchronous(ctx context.Context, names string) error {
	if err := f.primary.run(ctx, `ALTER SYSTEM SET synchronous_standby_names = `+names, `SELECT pg_reload_conf()`); err != nil {
		return err
	}
	return f.primary.await(ctx, `SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'`)
}

// promote loses the primary, with the commits that its standby has not received
// within the lag.
func (f *failover) promote(ctx context.Context, lag time.Duration) error {
	if lag > 0 {
		f.standby.wire.Swallow()
		sleep(ctx, lag)
	}
	f.primary.crash()
	old := f.primary
	f.primary, f.standby = f.standby, nil
	if err := f.primary.run(ctx, `SELECT pg_promote(true, 30)`); err != nil {
		return err
	}
	if err := f.primary.await(ctx, `SELECT NOT pg_is_in_recovery()`); err != nil {
		return err
	}
	if err := f.primary.run(ctx, `ALTER SYSTEM RESET ALL`, `SELECT pg_reload_conf()`); err != nil {
		return err
	}
	late := f.lateDaemon()
	f.lead(f.primary)
	old.remove()
	if late != nil {
		sleep(ctx, time.Duration(300+f.rng.IntN(1000))*time.Millisecond)
		return late.heal(late.db)
	}
	return nil
}

// lateDaemon now and then chooses a daemon that connects to the new primary later
// than the others, within its lease. What this daemon had begun in the lost
// commits must not begin anywhere before it has looked through the database.
func (f *failover) lateDaemon() *daemon {
	if f.Mutant == nil && f.rng.IntN(3) > 0 {
		return nil
	}
	d := pick(f.rng, f.daemons...)
	d.db.Refuse()
	f.report.count("daemons late at a new primary", 1)
	return d
}

// restore dumps the database, and a while later replaces the database by the
// dump. The dump is restored while the daemons are connected, or in another
// database that is then renamed.
func (f *failover) restore(ctx context.Context, age time.Duration) error {
	dump := filepath.Join(f.primary.dir, "push.dump")
	if err := f.primary.tool(ctx, "pg_dump", "-Fc", "-f", dump, f.primary.url("scheduler")); err != nil {
		return err
	}
	sleep(ctx, age)
	if f.rng.IntN(2) == 0 {
		return errors.Join(
			f.primary.run(ctx, `DROP DATABASE scheduler WITH (FORCE)`, `CREATE DATABASE scheduler`),
			f.primary.tool(ctx, "pg_restore", "--exit-on-error", "-d", f.primary.url("scheduler"), dump))
	}
	return errors.Join(
		f.primary.run(ctx, `CREATE DATABASE restored`),
		f.primary.tool(ctx, "pg_restore", "--exit-on-error", "-d", f.primary.url("restored"), dump),
		f.swap(ctx))
}

// swap gives the restored database the name of the one it replaces.
func (f *failover) swap(ctx context.Context) error {
	var err error
	for range 200 { // somebody may connect again in between
		err = f.primary.run(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'scheduler'`,
			`ALTER DATABASE scheduler RENAME TO replaced`, `ALTER DATABASE restored RENAME TO scheduler`, `DROP DATABASE replaced WITH (FORCE)`)
		if err == nil {
			return nil
		}
	}
	return err
}

// goOn waits until every daemon is ready again, and releases a hold.
func (f *failover) goOn(ctx context.Context, what string, mayHold bool) error {
	conn, err := pgx.Connect(ctx, f.primary.url("scheduler"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	began := time.Now()
	for end := began.Add(40 * time.Second); ; sleep(ctx, 50*time.Millisecond) {
		var complete, held bool
		var reason string
		err := conn.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM scheduler.recognitions WHERE seal = scheduler.seal() AND complete_at IS NOT NULL),
			       held_since IS NOT NULL, coalesce(reason, '') FROM scheduler.hold`).Scan(&complete, &held, &reason)
		switch {
		case err != nil:
			return err
		case time.Now().After(end) || ctx.Err() != nil:
			f.report.violate("daemons are ready again after the faults", "not within 40 s of %s", what)
			return nil
		case held && complete:
			f.report.count("held", 1)
			f.Log.InfoContext(ctx, "held", "reason", reason)
			if !mayHold {
				f.report.violate("nothing is held where nothing was lost", "%s: %s", what, reason)
			}
			if err := f.release(ctx); err != nil {
				return err
			}
		case complete:
			f.report.count("went on", 1)
			f.report.note("%s: went on after %s", what, time.Since(began).Round(10*time.Millisecond))
			return f.awaitReady(ctx)
		}
	}
}

func (f *failover) release(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, f.bin, "release", "--skip-overdue", "--database-url", f.primary.url("scheduler"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("release: %w\n%s", err, out)
	}
	return nil
}

func (f *failover) awaitReady(ctx context.Context) error {
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, 50*time.Millisecond) {
		ready := 0
		for _, d := range f.daemons {
			if d.ready(ctx) {
				ready++
			}
		}
		if ready == len(f.daemons) {
			return nil
		}
	}
	return fmt.Errorf("the daemons do not become ready: %s", tail(f.daemons[0].logFile(), 6))
}

// judge waits until nothing is open, and counts keys.
func (f *failover) judge(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, f.primary.url("scheduler"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	open := 1
	for end := time.Now().Add(60 * time.Second); open > 0 && time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, 200*time.Millisecond) {
		if err := conn.QueryRow(ctx, openTasks).Scan(&open); err != nil {
			return err
		}
	}
	if open > 0 {
		f.report.violate(decided, "%d tasks or campaigns are due and still open at the end", open)
	}
	calls, err := f.api.calls()
	if err != nil {
		return err
	}
	accepted := make(map[string][]uint64)
	for i := range calls {
		c := &calls[i]
		f.report.count("calls", 1)
		if c.Outcome != sandbox.Accepted {
			continue
		}
		f.report.count("calls accepted", 1)
		keys := c.MsgKeys
		if len(keys) == 0 {
			keys = []string{c.DeliveryID}
		}
		for _, k := range keys {
			accepted[k] = append(accepted[k], c.Seq)
		}
	}
	f.report.count("keys accepted", len(accepted))
	for key, seqs := range accepted {
		if len(seqs) > 1 {
			f.report.violate(twice, "key %s: calls %v", key, seqs)
		}
	}
	f.readLogs()
	return f.statistics(ctx, conn)
}

func (f *failover) statistics(ctx context.Context, conn *pgx.Conn) error {
	rows, _ := conn.Query(ctx, `SELECT status::text, count(*) FROM scheduler.decided_tasks GROUP BY 1`)
	var status string
	var n int
	_, err := pgx.ForEachRow(rows, []any{&status, &n}, func() error { f.report.count("decided "+status, n); return nil })
	return err
}

// readLogs counts what the daemons said of losses, and looks for panics.
func (f *failover) readLogs() {
	for _, d := range f.daemons {
		for line := range strings.Lines(tail(d.logFile(), 1_000_000)) {
			switch {
			case strings.Contains(line, "panic"):
				f.report.violate("no panic", "%s: %s", d.name, line)
			case strings.Contains(line, "is written again"):
				f.report.count("losses written again, by daemon", 1)
			case strings.Contains(line, "too late"):
				f.report.count("outcomes fenced", 1)
			}
		}
	}
}

func (f *failover) close() {
	if f.rest != nil {
		f.rest()
	}
	f.alive.Wait()
	for _, d := range f.daemons {
		d.close()
	}
	if f.api != nil && f.api.process.running() {
		f.api.process.kill()
	}
	for _, n := range []*node{f.standby, f.primary} {
		if n != nil {
			n.remove()
		}
	}
}
