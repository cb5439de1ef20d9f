//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/badnet"
	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// Settings of the daemons. All times are short, so that minutes of a run show
// as much as hours.
const (
	lease       = 3 * time.Second
	pushTimeout = 2 * time.Second

	// A daemon has to connect to a new primary within this lease, since there is
	// no promise for one that takes longer. On a busy machine that takes seconds.
	failoverLease = 3 * lease
)

// failpoints are the moments at which a daemon can be made to die.
var failpoints = []string{
	"claim.before", "claim.after", "start.before", "start.after", "slice.claim.before", "slice.claim.after",
	"call.before", "call.after", "record.before", "record.middle", "record.after",
	"slice.record.before", "slice.record.after", "respread.before", "respread.after", "settle.before", "plan.before", "plan.middle", "plan.after", "reap.before", "reap.after",
}

// A daemon is one `scheduler serve`, with a proxy before the database and one
// before the push APIs. It is started again whenever it ends.
type daemon struct {
	name    string
	bin     string
	dir     string
	admin   string
	db, api *badnet.Proxy

	favourite string        // the failpoint it is always started with, name:action; empty: any
	frozen    func(bool)    // called when it is frozen there, and when that is over
	distance  time.Duration // time of a message to the database and back
	log       *slog.Logger
	report    *Report

	mu      sync.Mutex
	rng     *rand.Rand
	process *process
	point   string    // the failpoint it was started with
	since   time.Time // when it was started
	quiet   bool      // no more failpoints: the run is about to end
}

func newDaemon(i int, bin, dir string, database, push func() string, credentials *sandbox.Credentials, lease time.Duration, o Options, report *Report) (*daemon, error) {
	db, err1 := badnet.NewProxy(database)
	api, err2 := badnet.NewProxy(push)
	admin, err3 := freeAddr()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	d := &daemon{
		name: fmt.Sprintf("d%d", i), bin: bin, dir: dir, admin: admin, db: db, api: api, log: o.Log, report: report,
		rng: rand.New(rand.NewPCG(o.Seed, uint64(100+i))), distance: o.distance(), quiet: true,
		frozen: func(bool) {},
	}
	d.db.Delay(d.distance / 2) // for each direction
	if o.Mutant != nil {
		d.favourite = o.Mutant.favourite(i, o.Daemons)
	}
	config := fmt.Sprintf(`database:
  url: %q
  max_connections: 10
  connect_timeout: 2s
  statement_timeout: 10s
data_dir: %q
admin:
  listen: %s
log:
  format: json
dispatch:
  push_timeout: %s
  lease: %s
  grace_period: 3s
  max_in_flight: 64
  retry: {initial: 200ms, max: 2s}
  misfire_grace: 10s
`, daemonURL(db.Addr()), filepath.Join(dir, d.name), admin, pushTimeout, lease)
	without := ""
	if i == 2 { // the third daemon lacks an app, whose tasks the others begin
		without = apps[o.Seed%uint64(len(apps))].id
	}
	return d, os.WriteFile(d.config(), []byte(config+appsYAML(credentials, api.Addr(), without)), 0o600)
}

func (d *daemon) config() string  { return filepath.Join(d.dir, d.name+".yaml") }
func (d *daemon) logFile() string { return filepath.Join(d.dir, d.name+".log") }

// run keeps the daemon alive until ctx ends: it is started again a moment after
// each end. An end that nobody asked for is a finding.
func (d *daemon) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := d.start(); err != nil {
			d.report.violate("a daemon could not be started", "%s: %v", d.name, err)
			return
		}
		d.watch(ctx)
		sleep(ctx, time.Duration(d.draw(1500))*time.Millisecond)
	}
}

func (d *daemon) start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.point = ""
	env := []string{"CHAOS_CLOCK=" + d.wallFile()}
	if !d.quiet && (d.favourite != "" || d.rng.IntN(4) > 0) {
		action, most := "kill", 8
		d.point = failpoints[d.rng.IntN(len(failpoints))]
		if d.rng.IntN(4) == 0 && d.point != "call.before" { // a daemon frozen there has looked at its lease for the last time, and nothing can stop its call
			action = "stop"
		}
		if d.favourite != "" {
			d.point, action, _ = strings.Cut(d.favourite, ":")
			most = 3
		}
		env = append(env, fmt.Sprintf("CHAOS_FAILPOINT=%s:%d:%s", d.point, 1+d.rng.IntN(most), action))
	}
	p, err := start(d.bin, d.logFile(), env, "serve", "--config", d.config())
	d.process, d.since = p, time.Now()
	return err
}

// watch returns when the process has ended. It wakes a process that a failpoint
// froze, in half of the cases after its lease has run out.
func (d *daemon) watch(ctx context.Context) {
	p := d.current()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var frozen, woken time.Time
	limit := lease/4 + time.Duration(d.draw(int(2*lease/time.Millisecond)))*time.Millisecond
	if d.favourite != "" {
		limit = 4 * lease // long enough for others to rule on what it has begun
	}
	told := false
	tell := func(frozen bool) {
		if d.favourite != "" && frozen != told {
			told = frozen
			d.frozen(frozen)
		}
	}
	defer tell(false)
	for {
		select {
		case <-p.done:
			d.ended(p)
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch {
		case d.favourite != "" && !woken.IsZero() && time.Since(woken) > 2*time.Second:
			d.kill() // after the next start it comes to its failpoint again
		case d.armed() == "" || !p.frozen():
			frozen = time.Time{}
			if woken.IsZero() { // one that was woken is reported once its present work is over
				tell(false)
			}
		case frozen.IsZero():
			frozen = time.Now()
			tell(true)
			d.report.count("freezes", 1)
			d.report.count("failpoint "+d.armed(), 1)
		case time.Since(frozen) > limit:
			p.signal(syscall.SIGCONT)
			woken = time.Now()
		}
	}
}

func (d *daemon) ended(p *process) {
	switch {
	case p.wasExpected():
	case d.armed() != "" && p.killedBySignal():
		d.report.count("kills", 1)
		d.report.count("failpoint "+d.armed(), 1)
		d.log.Info("failpoint", "daemon", d.name, "point", d.armed())
	default:
		d.report.violate("a daemon ended by itself", "%s: %s\n%s", d.name, p.cmd.ProcessState, tail(d.logFile(), 6))
	}
}

func (d *daemon) current() *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.process
}

func (d *daemon) armed() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.point
}

func (d *daemon) draw(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// kill ends the daemon with SIGKILL.
func (d *daemon) kill() {
	if p := d.current(); p.running() {
		d.report.count("kills", 1)
		p.kill()
	}
}

// freeze stops the daemon's process for a while; it wakes up believing that no
// time has passed.
func (d *daemon) freeze(ctx context.Context, pause time.Duration) {
	p := d.current()
	if !p.running() {
		return
	}
	d.report.count("freezes", 1)
	p.signal(syscall.SIGSTOP)
	sleep(ctx, pause)
	d.report.excuse(time.Now(), time.Now().Add(time.Second))
	p.signal(syscall.SIGCONT)
}

// terminate asks the daemon to stop, and with impatient asks a second time, for
// a stop at once.
func (d *daemon) terminate(impatient bool) {
	p := d.current()
	if !p.running() {
		return
	}
	d.report.count("graceful stops", 1)
	p.expect()
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	if impatient && !p.wait(300*time.Millisecond) {
		p.signal(syscall.SIGTERM)
	}
	if !p.wait(15 * time.Second) {
		d.report.violate("a daemon does not stop", "%s ran on 15 s after SIGTERM\n%s", d.name, tail(d.logFile(), 6))
		p.kill()
	}
}

// heal ends every fault of a proxy. The distance of the database stays.
func (d *daemon) heal(p *badnet.Proxy) error {
	err := p.Heal()
	if p == d.db {
		p.Delay(d.distance / 2)
	}
	return err
}

// arm restarts the daemon with failpoints.
func (d *daemon) arm() {
	d.mu.Lock()
	d.quiet = false
	d.mu.Unlock()
	d.kill()
}

// calm restarts a daemon that still has a failpoint without one.
func (d *daemon) calm() {
	d.mu.Lock()
	d.quiet = true
	p, armed := d.process, d.point != ""
	d.mu.Unlock()
	if armed && p.running() {
		p.kill()
	}
}

// ready asks /readyz.
func (d *daemon) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.admin+"/readyz", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (d *daemon) close() {
	if p := d.current(); p != nil && p.running() {
		p.kill()
	}
	_ = d.db.Close()
	_ = d.api.Close()
}

// freeAddr returns an address of 127.0.0.1 that nobody listens on.
func freeAddr() (string, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
