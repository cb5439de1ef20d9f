//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A Mutant is a deliberately broken build. If the harness does not find the
// break, the harness proves nothing.
type Mutant struct {
	Name   string
	Break  string   // what is broken, in words
	Shows  []string // the promises that break with it; one is enough
	Point  string   // the failpoint that shows the break, name:action; empty: any
	Fault  string   // the push API's fault that shows the break; empty: any
	Frozen string   // the push API's fault while a daemon is frozen at Point
	Lost   bool     // only lost primaries show the break: RunFailover
	Resend bool     // most campaigns allow a push of unknown outcome to be made again
	SQL    string   // statements that break the database, after the migrations
	Edits  []Edit
}

// An Edit replaces a piece of a source file that occurs exactly once. The file
// is one of this module's, or of the standard library with its whole path.
type Edit struct{ File, Old, New string }

func (e Edit) apply(source string) (string, error) {
	if n := strings.Count(source, e.Old); n != 1 {
		return "", fmt.Errorf("%s holds the text to break %d times, want once: the code has changed, fix internal/chaos/mutant.go or clock.go:\n%s", e.File, n, e.Old)
	}
	return strings.Replace(source, e.Old, e.New, 1), nil
}

// Mutants are the breaks that the harness must find.
var Mutants = []Mutant{
	{
		Name:  "loss-forgotten",
		Break: "what a failover lost is not written again",
		Shows: []string{twice},
		Lost:  true,
		Edits: []Edit{{"internal/engine/recognise.go", "	book := l.ledger.copy()\n", "	book := ledgerCopy{since: l.ledger.copy().since}\n"}},
	},
	{
		Name:  "database-unrecognised",
		Break: "things begin and are decided on a database that nobody has recognised",
		Shows: []string{twice},
		Lost:  true,
		Edits: []Edit{
			// The moment between the two is made as long as on a busy machine.
			{"internal/engine/recognise.go", "	case seal != l.knownSeal():\n", "	case seal != l.knownSeal():\n		time.Sleep(time.Second)\n"},
			{"store/recognition.go", "	if known := s.seal.Load(); known != nil {\n		return *known\n	}\n	return anySeal", "	return anySeal"},
			{"internal/engine/lease.go", "return !l.held && l.recognised && l.leased()", "return !l.held && l.leased()"},
			{"internal/engine/lease.go", "return !l.held && l.recognised && l.daemon == daemon && l.leased()", "return !l.held && l.daemon == daemon && l.leased()"},
		},
	},
	{
		Name:  "unknown-resent",
		Break: "a push of unknown outcome is tried again although its author did not allow it",
		Shows: []string{twice},
		Fault: "cut_after=0.5",
		Edits: []Edit{
			{
				"internal/engine/record.go",
				"case o.Class == dispatch.Unknown && !resendUnknown:",
				"case o.Class == dispatch.Unknown && !resendUnknown && attempts > 100:",
			},
			{"store/delivery.go", "AND (c.resend_unknown OR NOT s.maybe_sent)", ""},
			{"store/delivery.go", "AND (c.resend_unknown OR NOT w.maybe_sent)", ""},
			{"store/settle.go", "OR NOT c.resend_unknown AND `", "OR false AND `"},
		},
	},
	{
		Name:  "dead-calls-resent",
		Break: "what a dead daemon had begun is begun again, whatever its author said",
		Shows: []string{twice},
		Point: "call.after:kill",
		Edits: []Edit{
			{"store/daemon.go", "= ANY($1) AND k.resend_unknown AND k.status", "= ANY($1) AND k.status"},
			{"store/delivery.go", "AND (c.resend_unknown OR NOT s.maybe_sent)", ""},
			{"store/delivery.go", "AND (c.resend_unknown OR NOT w.maybe_sent)", ""},
			{"store/settle.go", "OR NOT c.resend_unknown AND `", "OR false AND `"},
		},
	},
	{
		Name:  "intent-after-call",
		Break: "the call comes first, and then the claim",
		Shows: []string{twice, afterChange, recorded},
		Point: "claim.before:kill",
		Edits: []Edit{
			{"internal/engine/begin.go", "	claim, tasks, err := d.ask(ctx, daemon, ids,", "	d.callFirst(ctx, daemon, entries)\n	claim, tasks, err := d.ask(ctx, daemon, ids,"},
			{
				"internal/engine/call.go",
				"		o, sent := d.caller.call(d.pushing, t.daemon, v.app, t.leave, p)\n",
				"		m := takeCall(t.task.ID)\n		o, sent := m.outcome, m.sent\n",
			},
			{"internal/engine/call.go", "// maxTargets is the most targets", callFirst + "// maxTargets is the most targets"},
		},
	},
	{
		Name:   "lease-unchecked",
		Break:  "a daemon does not look at its lease before a call",
		Shows:  []string{afterDecision, twice},
		Resend: true,
		Point:  "claim.after:stop",
		Edits:  []Edit{{"internal/engine/lease.go", "return !l.held && l.recognised && l.daemon == daemon && l.leased()", "return !l.held && daemon > 0"}},
	},
	{
		Name:  "quiet-unasked",
		Break: "a claim does not ask for quiet hours, nor does a daemon before its call",
		Shows: []string{hushed},
		Edits: []Edit{
			{"store/quiet.go", "	return `(` + app + ` <> ALL(", "	return `(true OR ` + app + ` <> ALL("},
			{"internal/engine/quiet.go", "return !q.of(c).End(now).IsZero()", "return false && !q.of(c).End(now).IsZero()"},
			{"internal/engine/quiet.go", "return !h.End(now).IsZero() &&", "return false && !h.End(now).IsZero() &&"},
		},
	},
	{
		Name:  "spread-ignored",
		Break: "the deliveries of a task that is spread are ready at once",
		Shows: []string{spread},
		Edits: []Edit{{"store/start.go", "	if t.spread > 0 {\n		if err := t.spreadOut", "	if t.spread < 0 {\n		if err := t.spreadOut"}},
	},
	{
		Name:  "ceiling-unpaid",
		Break: "targets take nothing of the app's time by its ceiling, nor of the second",
		Shows: []string{rated},
		Edits: []Edit{
			{"internal/engine/limits.go", "	if a.TargetsPerSecond <= 0 || targets == 0 {", "	if a.TargetsPerSecond <= 0 || targets >= 0 {"},
			{"internal/engine/limits.go", "a.TargetsPerSecond <= 0 || sum == 0 ||", "a.TargetsPerSecond <= 0 || sum >= 0 ||"},
		},
	},
	{
		Name:  "quota-skipped",
		Break: "quotas are counted and nobody is refused",
		Shows: []string{quota},
		Edits: []Edit{
			{"store/quota.go", "case used+before < quota:", "case used+before < quota+1000:"},
			{"store/delivery.go", "(m.quota = 0 OR m.n <= m.quota)", "(m.quota = 0 OR m.n <= m.quota + 1000)"},
			{"store/delivery.go", "m.quota > 0 AND m.n > m.quota", "m.quota > 0 AND m.n > m.quota + 1000"},
		},
	},
	{
		Name:  "cancel-forgets-retries",
		Break: "a retry stored after a cancel, a pause or a deletion is not held back",
		Shows: []string{afterChange, decided}, // the retry of a deleted campaign is never made, and never given up
		Fault: "delay=1500ms:0.9,throttle=0.7",
		Edits: []Edit{
			{"store/delivery.go", "[w.i] AND c.status NOT IN ('paused', 'cancelled')", "[w.i]"},
			{"store/delivery.go", "WHERE c.status NOT IN ('paused', 'cancelled') AND (", "WHERE ("},
			{"store/delivery.go", "FOR SHARE OF c SKIP LOCKED FOR UPDATE OF s", "FOR UPDATE OF s"},
			{"store/settle.go", "FOR SHARE SKIP LOCKED) c\n\t\t LIMIT", "FOR SHARE SKIP LOCKED) c WHERE c.status = 'active'\n\t\t LIMIT"},
			{"store/settle.go", "IS NULL AND ` + openIn(", "IS NULL AND false AND ` + openIn("},
		},
	},
	{
		Name:   "record-unfenced",
		Break:  "an outcome is recorded although another daemon has ruled on its call: fencing is removed",
		Shows:  []string{decided, recorded, verified, agrees, afterDecision, once},
		Resend: true,
		Point:  "record.before:stop",
		Frozen: "throttle=1", // so that the call is still to be made again when the frozen daemon records the first
		Edits: []Edit{
			{"store/record.go", "held[d.ClaimID] {\n\t\t\t\tstand", "(held[d.ClaimID] || daemonID > 0) {\n\t\t\t\tstand"},
			{"store/retry.go", "held[r.ClaimID] {\n\t\t\t\tstand", "(held[r.ClaimID] || daemonID > 0) {\n\t\t\t\tstand"},
			{"store/retry.go", " AND NOT EXISTS (SELECT FROM scheduler.decided_tasks d WHERE d.id = u.id)", ""},
			{"store/delivery.go", "s.daemon_id = o.daemon_id AND s.attempts = o.attempts AND s.status::text = 'running'", "o.daemon_id > 0"},
		},
	},
	{
		Name:  "revision-unchecked",
		Break: "a task whose deliveries are stored begins with the audience that was read before it was due",
		Shows: []string{afterChange},
		Edits: []Edit{
			{"store/start.go", " AND p.revision = $4 AND c.revision = $4", " AND $4::integer > 0"},
			{"store/start.go", "	TaskID   int64\n	Revision int32", "	StaleView string\n	TaskID   int64\n	Revision int32"},
			{"store/start.go", "	return t, found, err\n", "	t.audienceView = in.StaleView\n	return t, found, err\n"},
			{"internal/engine/call.go", "in := &store.Start{TaskID: taskID,", "in := &store.Start{StaleView: v.campaign.AudienceView, TaskID: taskID,"},
		},
	},
	{
		Name:   "doubt-forgotten",
		Break:  "what ends while it waits, as by release --skip-overdue, is never unknown, though an earlier attempt may have arrived",
		Shows:  []string{recorded},
		Fault:  "cut_after=0.5",
		Resend: true,
		SQL: `CREATE OR REPLACE FUNCTION scheduler.ended(wanted scheduler.slice_status, maybe_sent boolean) RETURNS scheduler.slice_status
			LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN wanted`,
	},
	{
		Name:  "occurrence-skipped",
		Break: "the planner takes a campaign's second occurrence for its first",
		Shows: []string{decided},
		Edits: []Edit{{"internal/engine/plan.go", "{ return s.Next(time.Time{}) }", "{ return s.Next(s.Next(time.Time{})) }"}},
	},
	{
		Name:  "settle-unbounded",
		Break: "waiting deliveries are ended all in one statement, however many there are",
		Shows: []string{bounded},
		Edits: []Edit{{"internal/engine/settle.go", "PlaceDeliveries(ctx, time.Time{}, rows)", "PlaceDeliveries(ctx, time.Time{}, 1_000_000*rows)"}},
	},
	{
		Name:  "claimed-before-asked",
		Break: "deliveries are claimed before their app is asked for leave, and wait for it with their intent durable",
		Shows: []string{inFlight, lost},
		Edits: []Edit{
			{"internal/engine/deliveries.go", "	case v.message == nil || s.uncut(w):", "	case v.message == nil || s.uncut(w) || w.ID > 0:"},
			{"internal/engine/deliveries.go", "	o, sent := s.caller.call(s.pushing, a.daemon, a.compiled.app, a.leave, p)\n", askLate + "	o, sent := s.caller.call(s.pushing, a.daemon, a.compiled.app, a.leave, p)\n"},
		},
	},
	{
		Name:  "pushed-early",
		Break: "tasks are claimed two seconds before they are due",
		Shows: []string{early},
		Edits: []Edit{
			{"store/claim.go", "p.ready_at <= coalesce($2, clock_timestamp())", "p.ready_at <= coalesce($2, clock_timestamp() + interval '2 seconds')"},
			{"internal/engine/clock.go", "return c.db.Add(time.Since(c.local)).UTC()", "return c.db.Add(time.Since(c.local) + 2*time.Second).UTC()"},
		},
	},
}

// askLate waits for the app's leave of a delivery that has begun.
const askLate = `	for a.leave == nil {
		if a.leave, _ = a.compiled.app.begin(time.Now(), len(targets)); a.leave == nil {
			time.Sleep(5 * time.Millisecond)
		}
	}
`

// freezes says whether the mutant's daemons are frozen at its failpoint. The
// harness then looks for what they do when they wake. So there must be no fault
// that holds calls back on their way, which would excuse it.
func (m *Mutant) freezes() bool { return m != nil && strings.HasSuffix(m.Point, ":stop") }

// favourite returns the failpoint of a daemon under test. The last of several
// daemons is never frozen there, since a daemon has to rule on the calls of the
// others.
func (m *Mutant) favourite(i, daemons int) string {
	if m.freezes() && daemons > 1 && i == daemons-1 {
		return ""
	}
	return m.Point
}

// callFirst makes the calls of tasks that are not claimed yet.
const callFirst = `type madeCall struct {
	outcome dispatch.Outcome
	sent    time.Time
}

var madeCalls = make(chan map[int64]madeCall, 1)

func init() { madeCalls <- make(map[int64]madeCall) }

func keepCall(task int64, m madeCall) {
	calls := <-madeCalls
	calls[task] = m
	madeCalls <- calls
}

func takeCall(task int64) madeCall {
	calls := <-madeCalls
	defer func() { madeCalls <- calls }()
	return calls[task]
}

func (d *dispatcher) callFirst(ctx context.Context, daemon int64, entries []*entry) {
	var tasks []*claimed
	for _, e := range entries {
		tasks = append(tasks, &claimed{
			entry: e, daemon: daemon, ClaimedTask: store.ClaimedTask{ID: e.task.ID, Revision: e.compiled.campaign.Revision, Listed: e.compiled.mayTakeTargets()},
		})
	}
	if d.refresh(ctx, tasks) != nil {
		return
	}
	for _, t := range tasks {
		v := t.compiled
		if n := len(t.targets); v.needsTargets() && (n == 0 || n > v.message.Channel.MaxTargets) {
			continue
		}
		o, sent := d.caller.call(d.pushing, daemon, v.app, t.leave, v.push(t.task.ID, 1, t.task.DueAt, t.targets))
		keepCall(t.task.ID, madeCall{o, sent})
	}
}

`

// Found says whether a run that broke these promises has found the mutant.
func (m *Mutant) Found(broken []string) bool {
	return slices.ContainsFunc(broken, func(promise string) bool { return slices.Contains(m.Shows, promise) })
}

// FindMutant returns the mutant of that name, or an error that lists them.
func FindMutant(name string) (*Mutant, error) {
	names := make([]string, len(Mutants))
	for i := range Mutants {
		if Mutants[i].Name == name {
			return &Mutants[i], nil
		}
		names[i] = Mutants[i].Name
	}
	return nil, fmt.Errorf("no mutant %q; there are %s", name, strings.Join(names, ", "))
}

// build makes the scheduler with its failpoints and a wall clock that can be
// set, and with the mutant's break if there is one. The compiler reads the
// changed files in place of the source, so that no source file is changed.
func build(ctx context.Context, dir string, m *Mutant) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	edits, err := wallEdits(ctx)
	if err != nil {
		return "", err
	}
	edits = append(edits, scaleEdits...)
	if m != nil {
		edits = append(edits, m.Edits...)
	}
	overlay, err := lay(edits, root, dir)
	if err != nil {
		return "", fmt.Errorf("change the build: %w", err)
	}
	bin := filepath.Join(dir, "scheduler")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-tags", "failpoint,wallclock", "-overlay", overlay, "-o", bin, "./cmd/scheduler")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the scheduler: %w\n%s", err, out)
	}
	return bin, nil
}

// placedAtOnce is how many deliveries the build under test ends in one statement.
// scaleEdits set this number, which is so small that the audiences of a run need
// many statements.
const placedAtOnce = 200

var scaleEdits = []Edit{{"internal/engine/settle.go", "placeAtOnce  = 5000 //", fmt.Sprintf("placeAtOnce  = %d //", placedAtOnce)}}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return string(out[:len(out)-1]), nil
}

// lay writes the changed files and the list that tells the compiler of them.
func lay(edits []Edit, root, dir string) (string, error) {
	replace := make(map[string]string)
	for i, e := range edits {
		path := e.File
		if !filepath.IsAbs(path) {
			path = filepath.Join(root, path)
		}
		from := path
		if done := replace[path]; done != "" {
			from = done
		}
		source, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		changed, err := e.apply(string(source))
		if err != nil {
			return "", err
		}
		replace[path] = filepath.Join(dir, fmt.Sprintf("changed%d-%s", i, filepath.Base(path)))
		if err := os.WriteFile(replace[path], []byte(changed), 0o644); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, list, 0o644)
}
