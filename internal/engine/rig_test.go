package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A rig is a database with apps and a push API that does what the test says.
type rig struct {
	*pgtest.DB
	store  *store.Store
	pusher *pusher
	log    *slog.Logger

	mu   sync.Mutex
	apps map[int32]*engine.App
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigOn(t, oneDaemonRanOn.New(t))
}

var oneDaemonRanOn = pgtest.NewTemplate(recordZoneRules)

// recordZoneRules leaves the database as one that a daemon has run on before: the
// first one compares the rules of each zone with the server's, which takes longer
// than most tests.
func recordZoneRules(t testing.TB, db *pgtest.DB) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: db.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	known, err := s.ZoneRules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rules := make(map[string]string)
	for name := range known {
		if now, ok := strategy.ZoneRules(name); ok {
			rules[name] = now
		}
	}
	if err := s.SaveZoneRules(t.Context(), "rig", rules, nil); err != nil {
		t.Fatal(err)
	}
}

func newRigOn(t testing.TB, db *pgtest.DB) *rig {
	t.Helper()
	r := &rig{DB: db, pusher: &pusher{}, apps: make(map[int32]*engine.App), log: slog.New(slog.DiscardHandler)}
	r.store = r.open(t)
	return r
}

// open makes a pool of connections of its own, as another daemon has.
func (r *rig) open(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: r.URL, MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// app adds an app; settings may bound its rate, and name a pusher of its own.
func (r *rig) app(t testing.TB, id, provider string, settings *engine.App) int32 {
	t.Helper()
	no := get[int32](t, r, `INSERT INTO scheduler.apps (app_id, provider, time_zone) VALUES ($1, $2, 'UTC') RETURNING app_no`, id, provider)
	if settings == nil {
		settings = &engine.App{}
	}
	if settings.Pusher == nil {
		settings.Pusher = r.pusher
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.apps[no] = settings
	return no
}

func (r *rig) lookup(no int32) *engine.App {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.apps[no]
}

// tenant adds an app of this name whose calls are seen apart from those of others,
// for tests that share a daemon.
func (r *rig) tenant(t testing.TB, id, provider string) *pusher {
	t.Helper()
	p := &pusher{}
	r.app(t, id, provider, &engine.App{Pusher: p})
	return p
}

// request is what the rig's push APIs take. Bad makes the campaign one that
// cannot be pushed.
type request struct {
	Bad     string   `json:"bad,omitempty"`
	Targets []string `json:"targets,omitempty"`
}

var channels = map[string]dispatch.Channel{
	"mpaas.push_multiple":  {Name: "mpaas.push_multiple", MaxTargets: 100},
	"mpaas.push_broadcast": {Name: "mpaas.push_broadcast"},
	"alipay.label_send":    {Name: "alipay.label_send", WeeklyQuota: 5},
	"alipay.single_send":   {Name: "alipay.single_send", MaxTargets: 1},
	"webhook":              {Name: "webhook"},
}

// compile judges a request. Like the real webhook's, its message takes targets
// only when the campaign has some.
func (r *rig) compile(c *store.Campaign) (*dispatch.Message, []dispatch.Problem) {
	var q request
	if len(c.Request) < 32<<10 { // a longer one is made to be long, and says nothing
		if err := json.Unmarshal(c.Request, &q); err != nil {
			return nil, []dispatch.Problem{{Field: "request", Text: err.Error()}}
		}
	}
	if q.Bad != "" {
		return nil, []dispatch.Problem{{Field: "bad", Text: q.Bad}, {Field: "request", Text: "must be better"}}
	}
	m := &dispatch.Message{Channel: channels[c.Channel], Encoded: c.ID}
	if c.Channel == "webhook" && (c.Targets > 0 || c.AudienceView != "") {
		m.Channel.MaxTargets = 100
	}
	for _, name := range q.Targets {
		m.Inline = append(m.Inline, dispatch.Target{Target: name})
	}
	return m, nil
}

// planner makes a planner with a pool of its own.
func (r *rig) planner(t testing.TB) *engine.Planner {
	t.Helper()
	return engine.NewPlanner(engine.PlannerConfig{Store: r.open(t), Log: r.log, Compile: r.compile})
}

// plan plans an app until nothing has changed.
func plan(t testing.TB, p *engine.Planner, app int32, now time.Time) {
	t.Helper()
	for {
		progress, err := p.PlanApp(t.Context(), app, now)
		if err != nil {
			t.Fatal(err)
		}
		if !progress {
			return
		}
	}
}

// config is an engine's, with a pool of its own.
func (r *rig) config(t testing.TB) engine.Config {
	t.Helper()
	return engine.Config{
		Store: r.open(t), Log: r.log, Compile: r.compile, App: r.lookup, Name: t.Name(),
		Retry: engine.RetryPolicy{Initial: 10 * time.Millisecond, Max: 50 * time.Millisecond},
		LimitedApps: func() []int32 {
			r.mu.Lock()
			defer r.mu.Unlock()
			var out []int32
			for no, a := range r.apps {
				if a.Limited() {
					out = append(out, no)
				}
			}
			return out
		},
	}
}

// start runs an engine until the test ends.
func start(t testing.TB, cfg engine.Config) *engine.Engine {
	t.Helper()
	e := engine.New(cfg)
	e.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if err := e.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return e
}

// startReady starts an engine and waits until it is ready, so that its start takes
// nothing of the time until what is written next falls due.
func startReady(t testing.TB, cfg engine.Config) {
	t.Helper()
	e := start(t, cfg)
	until(t, "the engine to be ready", func() bool { return ready(t, e) })
}

// get returns the one value of a query.
func get[T any](t testing.TB, r *rig, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := r.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// list returns the values of a query with one column.
func list[T any](t testing.TB, r *rig, sql string, args ...any) []T {
	t.Helper()
	rows, _ := r.Query(t.Context(), sql, args...)
	out, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func (r *rig) run(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := r.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// until polls until the condition holds. It gives up so late that the machine may be
// busy with other tests.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// decided waits until the campaign has n decisions and returns them in the order
// of their occurrences: status and reason.
func (r *rig) decided(t testing.TB, campaign int64, n int) []string {
	t.Helper()
	until(t, fmt.Sprintf("%d decisions of campaign %d", n, campaign), func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.decided_tasks WHERE campaign_id = $1`, campaign) >= n
	})
	return list[string](t, r, `SELECT status || coalesce(': ' || reason, '') FROM scheduler.tasks
		WHERE campaign_id = $1 AND decided_at IS NOT NULL ORDER BY due_at`, campaign)
}

// daily is the content of a loop that pushes once a day from start, for days.
func daily(start time.Time, days int, clock string) string {
	return fmt.Sprintf(`{"startTime": %d, "endTime": %d, "circleType": 1, "time": %q}`,
		start.UnixMilli(), start.AddDate(0, 0, days-1).UnixMilli(), clock)
}

// fixed is the content of a push at one moment.
func fixed(at time.Time) string { return fmt.Sprintf(`{"fixedTime": %d}`, at.UnixMilli()) }

// insert adds a campaign. more are further columns and their values.
func (r *rig) insert(t testing.TB, app, channel string, strategyType int, content any, more ...any) int64 {
	t.Helper()
	columns, marks := "name, app_id, channel, strategy_type, strategy_content", "$1, $2, $3, $4, $5"
	args := []any{t.Name(), app, channel, strategyType, content}
	for i := 0; i < len(more); i += 2 {
		columns += fmt.Sprint(", ", more[i])
		args = append(args, more[i+1])
		marks += fmt.Sprint(", $", len(args))
	}
	return get[int64](t, r, fmt.Sprintf(`INSERT INTO scheduler.campaigns (%s) VALUES (%s) RETURNING id`, columns, marks), args...)
}

// backdate moves a campaign's strategy into the past, which no author can, as
// if it had been written then. It must come before any planner sees it.
func (r *rig) backdate(t testing.TB, campaign int64, content string, writtenAt time.Time) {
	t.Helper()
	r.without(t, `UPDATE scheduler.campaigns SET strategy_content = $2, written_at = $3 WHERE id = $1`, campaign, content, writtenAt)
}

// without runs a statement that no trigger sees.
func (r *rig) without(t testing.TB, sql string, args ...any) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), r, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), sql, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A pusher is the rig's push API.
type pusher struct {
	mu     sync.Mutex
	answer func(context.Context, call) dispatch.Outcome // nil: accepted
	calls  []call
	counts map[string]int // of the calls of each delivery
}

// A call is one call to the rig's push API.
type call struct {
	campaign   int64
	channel    string
	deliveryID string
	msgKey     string
	targets    []string
	keys       []string
	at         time.Time
	attempt    int // of this delivery, from 1
}

func (p *pusher) Push(ctx context.Context, push *dispatch.Push) dispatch.Outcome {
	c := call{
		campaign: push.Message.Encoded.(int64), channel: push.Message.Channel.Name, deliveryID: push.DeliveryID, msgKey: push.MsgKey,
		at: time.Now(),
	}
	for _, t := range push.Targets {
		c.targets, c.keys = append(c.targets, t.Target), append(c.keys, t.MsgKey)
	}
	p.mu.Lock()
	if p.counts == nil {
		p.counts = make(map[string]int)
	}
	p.counts[c.deliveryID]++
	c.attempt = p.counts[c.deliveryID]
	p.calls = append(p.calls, c)
	answer := p.answer
	p.mu.Unlock()
	if answer == nil {
		return accepted
	}
	return answer(ctx, c)
}

// answers sets what the push API says from now on.
func (p *pusher) answers(f func(context.Context, call) dispatch.Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = f
}

// count is how many calls it has seen.
func (p *pusher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

func (p *pusher) seen() []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]call(nil), p.calls...)
}

var (
	accepted  = dispatch.Outcome{Class: dispatch.Accepted, RequestID: "req-1", MessageID: "msg-1"}
	notSent   = dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonConnect, Message: "refused"}
	permanent = dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonRefused, Code: "E1", Message: "bad"}
	unknown   = dispatch.Outcome{Class: dispatch.Unknown, Reason: dispatch.ReasonTimeout, Message: "no answer"}
)
