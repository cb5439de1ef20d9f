//go:build linux

// Package chaos proves the promise of the scheduler under faults: every
// occurrence ends in exactly one recorded decision, and nothing is pushed twice.
//
// It runs real daemons as processes, PostgreSQL, the sandbox in a process of its
// own, and a proxy on every connection between them. Authors write and change
// campaigns. Meanwhile it kills and freezes daemons at chosen moments (package
// failpoint) and at random, and breaks the database, the networks and the push
// APIs. Then it ends all faults, waits until nothing is open, and compares the
// sandbox's journal with the record. Command internal/chaos/cmd runs it.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
	"github.com/campaign-scheduler/scheduler/store"
)

// Options are the settings of a run.
type Options struct {
	Seed     uint64
	Duration time.Duration // of the faults; healing and judging come after
	Daemons  int
	Pace     time.Duration // between campaigns
	Jumps    bool          // let the database's clock jump, too
	Mutant   *Mutant       // the break of the build; nil: none
	Dir      string        // for everything the run writes
	Log      *slog.Logger
}

// A run is one experiment.
type run struct {
	Options
	report    *Report
	db        *database
	api       *pushAPI
	daemons   []*daemon
	bin       string
	insisting sync.Mutex // held so that the push API's last fault fits the last count
	frozen    int        // daemons at their mutant's failpoint

	alive sync.WaitGroup     // keeps the daemons running
	rest  context.CancelFunc // lets them end
}

// Run runs the experiment and returns its report. An error without a report means
// that the experiment could not be run. An error with a report means that the run
// is over and could not be judged, so that it proves nothing. Broken promises are
// no error.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	r := &run{Options: o, report: newReport()}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.setUp(ctx); err != nil {
		return nil, err
	}
	e, err := r.disturb(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.settle(ctx, e); err != nil {
		return r.report, err
	}
	return r.report, r.judge(ctx, e)
}

// ahead returns how far the database's clock is ahead of all others in this run.
func (o Options) ahead() time.Duration {
	return []time.Duration{0, 3 * time.Minute, -3 * time.Minute}[o.Seed%3]
}

// distance returns how long a message to the database and back takes in this
// run.
func (o Options) distance() time.Duration {
	return []time.Duration{0, 2 * time.Millisecond}[o.Seed%2]
}

func (r *run) setUp(ctx context.Context) (err error) {
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return err
	}
	if r.bin, err = build(ctx, r.Dir, r.Mutant); err != nil {
		return err
	}
	if r.db, err = openDatabase(ctx, filepath.Join(r.Dir, "postgres"), r.ahead(), r.Duration); err != nil {
		return err
	}
	m, err := store.NewMigrator(r.db.server.URL("scheduler"), r.Log)
	if err != nil {
		return err
	}
	if err := errors.Join(m.Up(ctx), r.db.admit(ctx), r.db.views(ctx), r.db.makeCalendars(ctx)); err != nil {
		return err
	}
	if r.Mutant != nil && r.Mutant.SQL != "" {
		if err := r.db.exec(ctx, r.Mutant.SQL); err != nil {
			return fmt.Errorf("break the database: %w", err)
		}
	}
	var credentials *sandbox.Credentials
	if r.api, credentials, err = newPushAPI(r.bin, filepath.Join(r.Dir, "sandbox"), r.Seed); err != nil {
		return err
	}
	for i := range r.Daemons {
		d, err := newDaemon(i, r.bin, r.Dir, r.db.tcpAddr, func() string { return r.api.addr }, credentials, lease, r.Options, r.report)
		if err != nil {
			return err
		}
		d.frozen = r.insist
		if err := d.setWall(time.Duration(i) * 97 * time.Second); err != nil {
			return err
		}
		r.daemons = append(r.daemons, d)
	}
	return nil
}

// insist sets the fault of the push API that the mutant wants while a daemon is
// frozen at its failpoint.
func (r *run) insist(frozen bool) {
	r.insisting.Lock()
	defer r.insisting.Unlock()
	spec := ""
	if frozen {
		r.frozen++
	} else {
		r.frozen--
	}
	if r.frozen > 0 && r.Mutant != nil {
		spec = r.Mutant.Frozen
	}
	if err := r.api.insist(spec); err != nil { // it is down, and will start with the fault that was set last
		r.Log.Warn("the push API's fault", "error", err)
	}
}

// disturb runs the authors and all faults at once for the duration of the run.
func (r *run) disturb(ctx context.Context) (*editor, error) {
	source := func(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(r.Seed, stream)) }
	alive, rest := context.WithCancel(ctx)
	r.rest = rest
	began := time.Now()
	for _, d := range r.daemons {
		r.alive.Go(func() { d.run(alive) })
	}
	if !r.waitReady(ctx, 30*time.Second) {
		return nil, fmt.Errorf("the daemons do not become ready: %s", tail(r.daemons[0].logFile(), 6))
	}
	if err := r.opening(ctx); err != nil {
		return nil, err
	}
	w := &workload{db: r.db, report: r.report, rng: source(1), until: began.Add(r.Duration), resend: 1}
	if r.Mutant != nil && r.Mutant.Resend {
		w.resend = 3
	}
	e := newEditor(r.db, w, r.report, source(2))
	e.jumps = r.Jumps
	faults, stop := context.WithDeadline(ctx, w.until)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { w.run(faults, r.Pace) })
	wg.Go(func() { w.runCrowds(faults, source(7), r.Duration) })
	wg.Go(func() { e.run(faults, 2*r.Pace) })
	wg.Go(func() { e.skipOverdue(faults, source(6)) })
	wg.Go(func() { r.kill(faults, source(3)) })
	wg.Go(func() { r.breakThings(faults, source(4)) })
	wg.Go(func() { r.moveClocks(faults, source(5)) })
	if r.Jumps && r.db.clock.library != "" {
		wg.Go(func() { r.jumpClock(faults, source(8)) })
	}
	wg.Go(func() { r.sample(faults) })
	wg.Wait()
	return e, nil
}

// opening is the first seconds, in which nothing is broken. A large audience of
// one app waits for the app's bounds, after one of its calls was throttled, and
// pushes of another app are due. Only here can the harness tell how late these
// are. Then the author of the large audience cancels it.
func (r *run) opening(ctx context.Context) error {
	size := openingSize(r.Duration)
	if err := r.api.faults("throttle=1*1@alipay.single_send"); err != nil {
		return fmt.Errorf("open the run: %w", err)
	}
	if err := errors.Join(r.db.crowd(ctx, size, "10 minutes", false), r.db.neighbours(ctx)); err != nil {
		return fmt.Errorf("open the run: %w", err)
	}
	var open int
	for end := time.Now().Add(neighbourLead + neighbourLate + time.Second); time.Now().Before(end); sleep(ctx, 100*time.Millisecond) {
		if err := r.db.pool.QueryRow(ctx, `
			SELECT count(*) FROM scheduler.campaigns c WHERE name = $1 AND NOT EXISTS (SELECT FROM scheduler.decided_tasks t WHERE t.campaign_id = c.id)`,
			neighbour).Scan(&open); err != nil {
			return err
		}
		if open == 0 {
			break
		}
	}
	if open > 0 {
		r.report.violate(neighbours, "%d campaigns of other apps were not pushed %s after they were due", open, neighbourLate)
	}
	r.report.count("pushes beside a large audience", neighbourCount)
	if err := errors.Join(r.throttledGoesOn(ctx, crowdPatience(size)), r.api.faults("")); err != nil {
		return err
	}
	began := time.Now()
	ask, cancel := context.WithTimeout(ctx, crowdPatience(size))
	defer cancel()
	if _, err := r.db.pool.Exec(ask, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE name = $1`, crowd); err != nil {
		return fmt.Errorf("cancel the large audience: %w", err)
	}
	r.report.note("the cancel of an audience of %d took %s", size, time.Since(began).Round(time.Millisecond))
	for _, d := range r.daemons {
		d.arm()
	}
	return ctx.Err()
}

// throttledGoesOn waits until a call of the large audience is accepted after one was
// throttled. Calls pause for a second or two in between.
func (r *run) throttledGoesOn(ctx context.Context, limit time.Duration) error {
	for end := time.Now().Add(limit); time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, 100*time.Millisecond) {
		calls, err := r.api.calls()
		if err != nil {
			return err
		}
		var throttled time.Time
		for i := range calls {
			switch c := &calls[i]; {
			case c.API != "alipay.single_send":
			case c.Fault != "" && throttled.IsZero():
				throttled = c.AnsweredAt
			case c.Outcome == sandbox.Accepted && !throttled.IsZero() && c.ReceivedAt.Sub(throttled) > throttlePause:
				r.report.note("the large audience went on %s after its throttled call", c.ReceivedAt.Sub(throttled).Round(time.Millisecond))
				return nil
			}
		}
	}
	r.report.violate(onePause, "the large audience still stood still %s later", limit)
	return nil
}

// throttlePause is for how long calls that began beside the throttled one may still
// arrive.
const throttlePause = 500 * time.Millisecond

// kill ends and freezes daemons at random, in addition to their failpoints.
func (r *run) kill(ctx context.Context, rng *rand.Rand) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		sleep(ctx, time.Duration(500+rng.IntN(5000))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		d := pick(rng, r.daemons...)
		if p := d.current(); !p.running() || d.favourite != "" && (p.frozen() || r.Mutant.freezes()) {
			continue // a mutant's daemon must freeze and wake up
		}
		pause := lease/2 + time.Duration(rng.Int64N(int64(2*lease)))
		switch n := rng.IntN(10); {
		case n < 6, n < 8 && r.Mutant.freezes():
			r.Log.InfoContext(ctx, "kill", "daemon", d.name)
			d.kill()
		case n < 8:
			r.Log.InfoContext(ctx, "freeze", "daemon", d.name, "for", pause)
			wg.Go(func() { d.freeze(ctx, pause) })
		default:
			impatient := rng.IntN(3) == 0
			r.Log.InfoContext(ctx, "terminate", "daemon", d.name, "impatient", impatient)
			wg.Go(func() { d.terminate(impatient) })
		}
	}
}

// sample checks the promises that must hold at every instant.
func (r *run) sample(ctx context.Context) {
	for ctx.Err() == nil {
		r.sampleOnce(ctx)
		r.sampleRunning(ctx)
		sleep(ctx, 300*time.Millisecond)
	}
}

func (r *run) sampleOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	rows, err := r.db.pool.Query(ctx, `
		SELECT a.app_id, a.pending_limit, count(*)
		  FROM scheduler.apps a JOIN scheduler.pending_tasks p USING (app_no) WHERE p.origin = 'scheduled'
		 GROUP BY a.app_no, a.app_id, a.pending_limit`)
	if err != nil {
		return
	}
	defer rows.Close()
	for rows.Next() {
		var app string
		var limit, n int
		if rows.Scan(&app, &limit, &n) == nil && n > limit {
			r.report.violate(capped, "app %s: %d pending, limit %d", app, n, limit)
		}
	}
	if rows.Err() == nil {
		r.report.count("samples of the cap", 1)
	}
}

// sampleRunning checks how many deliveries of each app a daemon has begun. A
// claim whose answer was lost leaves all that it took, so a few times the app's
// bound is allowed.
func (r *run) sampleRunning(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	rows, err := r.db.pool.Query(ctx, `
		SELECT a.app_id, s.daemon_id, count(*) FROM scheduler.slices s JOIN scheduler.apps a USING (app_no)
		 WHERE s.status = 'running' GROUP BY a.app_id, s.daemon_id`)
	if err != nil {
		return
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var daemon int64
		var n int
		if rows.Scan(&id, &daemon, &n) == nil && n > lostClaims*appOf(id).inFlight {
			r.report.violate(inFlight, "app %s: daemon %d has %d deliveries under way, max_in_flight %d", id, daemon, n, appOf(id).inFlight)
		}
	}
}

// waitReady waits until every daemon says that it is ready.
func (r *run) waitReady(ctx context.Context, limit time.Duration) bool {
	for end := time.Now().Add(limit); time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, 50*time.Millisecond) {
		ready := 0
		for _, d := range r.daemons {
			if d.ready(ctx) {
				ready++
			}
		}
		if ready == len(r.daemons) {
			return true
		}
	}
	return false
}

// settle ends all faults and waits until everything that is due is decided.
func (r *run) settle(ctx context.Context, e *editor) error {
	for _, d := range r.daemons {
		d.calm()
	}
	if err := r.db.revive(ctx); err != nil {
		return err
	}
	if err := r.db.exec(ctx, `SELECT scheduler.release_hold()`); err != nil { // a skip may have failed half way, and daemons are not ready while a hold lasts
		return err
	}
	began := time.Now()
	if !r.waitReady(ctx, 30*time.Second) {
		r.report.violate("daemons are ready again after the faults", "not all within 30 s")
	}
	r.report.note("all daemons ready %s after the last fault", time.Since(began).Round(10*time.Millisecond))
	if err := e.resumeAll(ctx); err != nil {
		return err
	}
	open := 1
	for end := time.Now().Add(75 * time.Second); open > 0 && time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, 200*time.Millisecond) {
		if err := r.db.pool.QueryRow(ctx, openTasks).Scan(&open); err != nil {
			return err
		}
	}
	r.report.note("nothing open %s after the last fault", time.Since(began).Round(100*time.Millisecond))
	return ctx.Err()
}

func (r *run) judge(ctx context.Context, e *editor) error {
	r.readLogs()
	if err := r.judgeRecord(ctx, e); err != nil {
		r.report.cannotJudge(everything, "%v", err)
		return err
	}
	if len(r.report.Broken()) > 0 {
		return r.dump(ctx)
	}
	return nil
}

func (r *run) judgeRecord(ctx context.Context, e *editor) error {
	if k := r.db.disk; k != nil {
		used, err := k.used()
		if err != nil {
			return err
		}
		r.report.note("the disk holds %d of %d MiB", used>>20, k.size>>20)
	}
	if err := r.db.readAll(ctx); err != nil {
		return err
	}
	rec, err := readRecord(ctx, r.db)
	if err != nil {
		return err
	}
	calls, err := r.api.calls()
	if err != nil {
		return err
	}
	if err := r.boundedStatements(ctx); err != nil {
		return err
	}
	if r.report.counted("samples of the cap") == 0 {
		r.report.cannotJudge(capped, "no look at what is pending has succeeded")
	}
	for id := range e.windows {
		delete(rec.windows, id) // the final window does not tell when the window closed
	}
	newOracle(r.report, rec, calls, e.dropped, r.db.clock).judge(e.bans, e.hushes)
	return r.verify(ctx)
}

// boundedStatements compares how many deliveries were ended at once, without a
// call, with the batch of this build. Rows that one statement wrote last have the
// same transaction.
func (r *run) boundedStatements(ctx context.Context) error {
	var statements, most int
	err := r.db.pool.QueryRow(ctx, `
		SELECT count(*), coalesce(max(n), 0) FROM (
			SELECT count(*) AS n FROM scheduler.slices WHERE status IN ('missed', 'cancelled') AND reason NOT LIKE 'overdue when%' GROUP BY xmin::text) x`).Scan(&statements, &most)
	if err != nil {
		return fmt.Errorf("count what statements wrote: %w", err)
	}
	r.report.count("statements that ended deliveries", statements)
	r.report.count("deliveries ended at once, at most", most)
	if most > placedAtOnce {
		r.report.violate(bounded, "one statement ended %d deliveries, allowed %d", most, placedAtOnce)
	}
	return nil
}

// dump keeps the database of a run that found something, so that somebody can
// look into it.
func (r *run) dump(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(r.db.server.BinDir(), "pg_dump"), "-f", filepath.Join(r.Dir, "dump.sql"), r.db.server.URL("scheduler"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("keep the database: %w\n%s", err, out)
	}
	return nil
}

// verify runs the scheduler's own verification.
func (r *run) verify(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, r.bin, "verify", "--grace", "20s", "--limit", "5", "--database-url", r.db.server.URL("scheduler"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.report.violate(verified, "%s", out)
	case err != nil:
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

// readLogs counts the daemons' log lines by kind, and looks for panics.
func (r *run) readLogs() {
	for _, d := range r.daemons {
		content, err := os.ReadFile(d.logFile())
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			switch {
			case strings.Contains(line, "panic"):
				r.report.violate("no panic", "%s: %s", d.name, line)
			case strings.Contains(line, "second decision on an occurrence refused"):
				r.report.violate(once, "%s: %s", d.name, line)
			case strings.Contains(line, "SQLSTATE 42501"):
				r.report.violate("the daemons have the rights that they need", "%s: %s", d.name, line)
			case strings.Contains(line, "too late"):
				r.report.count("outcomes fenced", 1)
			case strings.Contains(line, `"level":"WARN"`) && !strings.Contains(line, "task decided"):
				r.report.count("warnings logged", 1)
			}
		}
	}
}

func (r *run) close() error {
	if r.rest != nil {
		r.rest()
	}
	r.alive.Wait()
	for _, d := range r.daemons {
		d.close()
	}
	if r.api != nil && r.api.process != nil && r.api.process.running() {
		r.api.process.kill()
	}
	if r.db != nil && r.db.server != nil {
		return r.db.close()
	}
	return nil
}

// Describe prints the settings of a run.
func (o Options) Describe(w io.Writer) {
	build := "the build as it is"
	if o.Mutant != nil {
		build = "a broken build, " + o.Mutant.Name + ": " + o.Mutant.Break
	}
	fmt.Fprintf(w, "chaos: seed %d, %s, %d daemons, the database's clock %s ahead, the database %s away, %s\n",
		o.Seed, o.Duration, o.Daemons, o.ahead(), o.distance(), build)
	if (o.Jumps || o.ahead() != 0) && newClock(o.Dir).library == "" {
		fmt.Fprintln(w, "chaos: there is no libfaketime here: the database's clock is the machine's, and does not jump")
	}
}
