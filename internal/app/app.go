// Package app builds a daemon from its parts: the database, the sandbox if no apps
// are configured, the engine and the listeners. It decides the order in which the
// parts start and stop, and nothing else.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/admin"
	"github.com/campaign-scheduler/scheduler/internal/api"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/internal/sandbox"
	"github.com/campaign-scheduler/scheduler/internal/tracing"
	"github.com/campaign-scheduler/scheduler/store"
)

// Options are the inputs of an App. Config, Adapters and Log are required.
type Options struct {
	Config   *config.Config
	Adapters []dispatch.Adapter
	Log      *slog.Logger
	Version  string
}

// An App is a daemon. New prepares it, Start starts its work, Stop ends it.
type App struct {
	Options
	postgres    *postgres // nil: the database is somebody else's
	store       *store.Store
	sandbox     *sandbox.Sandbox // nil: there are apps
	sandboxApps []config.App     // one for each provider
	registry    *registry
	metrics     prometheus.Registerer
	engine      *engine.Engine
	admin       *admin.Server
	console     *Console    // nil: off
	api         *api.Server // nil: there is none
	trial       *api.Client // nil: the clients are configured
	databaseURL string      // may hold a password

	closers []closer // in the order of starting
	ready   atomic.Bool
}

type closer struct {
	name  string
	close func(ctx context.Context) error
}

// New opens the database and binds the listeners. It starts the embedded PostgreSQL
// and migrates it if no database is configured, and the sandbox if no apps are. New
// waits for a database that does not answer yet, until ctx ends. A schema that does
// not fit this program is an error.
func New(ctx context.Context, o Options) (_ *App, err error) {
	a := &App{Options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := a.openDatabase(ctx); err != nil {
		return nil, err
	}
	apps := o.Config.Apps
	if len(apps) == 0 {
		if apps, err = a.startSandbox(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.startAdmin(ctx); err != nil {
		return nil, err
	}
	if err := a.prepareEngine(ctx, apps); err != nil {
		return nil, err
	}
	if err := a.prepareAPI(ctx); err != nil {
		return nil, err
	}
	return a, a.startConsole(ctx, apps)
}

// Start starts the daemon's work and does not block.
func (a *App) Start() {
	a.engine.Start()
	a.closers = append(a.closers, closer{"engine", a.engine.Stop})
	if a.api != nil {
		a.api.Start()
	}
	a.ready.Store(true)
}

// Stop ends the parts of the daemon in the reverse order of their start. It waits
// for calls in flight until the grace period or ctx ends.
func (a *App) Stop(ctx context.Context) error {
	a.ready.Store(false)
	return a.close(ctx)
}

func (a *App) close(ctx context.Context) error {
	var errs []error
	for len(a.closers) > 0 {
		c := a.closers[len(a.closers)-1]
		a.closers = a.closers[:len(a.closers)-1]
		if err := c.close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

func (a *App) startAdmin(ctx context.Context) error {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	c := a.Config.Admin
	s, err := admin.New(ctx, admin.Config{
		Listen: c.Listen, Token: c.Token.Reveal(), CertFile: c.CertFile, KeyFile: c.KeyFile, ClientCAFile: c.ClientCAFile, Pprof: c.Pprof,
		Metrics: reg, Ready: a.Ready, Notes: a.notes, Log: a.Log,
	})
	if err != nil {
		return err
	}
	a.admin, a.metrics = s, reg
	a.registry = &registry{metrics: engine.NewMetrics(reg)}
	reg.MustRegister(engine.NewUsage(a.store, a.Log), engine.NewOwnApps(a.store, a.registry.names))
	s.Start()
	a.closers = append(a.closers, closer{"admin listener", s.Stop})
	return nil
}

// Ready returns nil if the daemon can do its work now, else the reason why not.
func (a *App) Ready(ctx context.Context) error {
	if !a.ready.Load() {
		return errors.New("starting or stopping")
	}
	if err := a.engine.Ready(ctx); err != nil || a.api == nil {
		return err
	}
	if err := a.api.Ready(ctx); err != nil {
		return fmt.Errorf("api: %w", err)
	}
	return nil
}

// notes returns messages for operators that do not make the daemon unready: which
// sessions block it, and which apps are not planned.
func (a *App) notes() []string {
	if !a.ready.Load() {
		return nil
	}
	var out []string
	for _, w := range a.engine.Blocking() {
		out = append(out, w.String())
	}
	for _, u := range a.engine.Unplanned() {
		line := fmt.Sprintf("app %s: changed campaigns have not been planned for %s", a.registry.name(u.App), u.For.Truncate(time.Second))
		if u.Blockers != "" {
			line += ", blocked by " + u.Blockers
		}
		out = append(out, line)
	}
	return out
}

func (a *App) prepareEngine(ctx context.Context, apps []config.App) error {
	r := a.registry
	if err := a.waitFor(ctx, func(ctx context.Context) error { return a.configure(ctx, apps) }); err != nil {
		return err
	}
	d := a.Config.Dispatch
	name := daemonName()
	tracer, err := a.startTracing(ctx, name)
	if err != nil {
		return err
	}
	a.engine = engine.New(engine.Config{
		Store: a.store, Log: a.Log, Compile: r.compile, App: r.app, LimitedApps: r.limited, Metrics: r.metrics,
		Alone: a.postgres != nil,
		Name:  name, Version: a.Version, Tracer: tracer,
		Lease: d.Lease, PushTimeout: d.PushTimeout, Grace: d.GracePeriod, MaxInFlight: d.MaxInFlight,
		Retry: engine.RetryPolicy{Initial: d.Retry.Initial, Max: d.Retry.Max}, MisfireGrace: d.MisfireGrace,
		Retention: engine.Retention{Age: a.Config.Retention.Tasks, Dir: a.Config.Retention.ExportDir, Format: a.Config.Retention.ExportFormat},
		Guard: engine.Guard{
			Dir: filepath.Join(a.Config.DataDir, "guard"), MaxGap: a.Config.RestoreGuard.MaxGap, Run: a.Config.RestoreGuard.Policy == "run",
		},
	})
	return nil
}

// daemonName returns a name for this process, made of the machine and the process.
func daemonName() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// flushTraces bounds how long a stop waits for the collector to take the remaining
// traces, in addition to the grace period.
const flushTraces = 5 * time.Second

// startTracing returns nil if no collector is configured.
func (a *App) startTracing(ctx context.Context, daemon string) (engine.Tracer, error) {
	c := a.Config.Tracing
	if c.Endpoint == "" {
		return nil, nil //nolint:nilnil // the engine takes it for no traces
	}
	t, err := tracing.New(ctx, tracing.Config{
		Endpoint: c.Endpoint, Headers: c.HeaderMap(), SampleRatio: c.SampleRatio, Name: daemon, Version: a.Version, Log: a.Log,
	})
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, closer{"tracing", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, min(flushTraces, a.Config.Dispatch.GracePeriod))
		defer cancel()
		if err := t.Stop(ctx); err != nil {
			a.Log.WarnContext(ctx, "the last traces could not be sent", "error", err)
		}
		return nil // whoever stops a daemon does not care
	}})
	return t, nil
}

// configure makes a Pusher for every app, registers the apps in the database, and
// puts them to use. On an error the apps in use have not changed.
func (a *App) configure(ctx context.Context, apps []config.App) error {
	made, err := a.registry.prepare(a.Adapters, apps, func() time.Time { return a.engine.Clock().Now() })
	if err != nil {
		return err
	}
	rows, err := a.register(ctx, apps)
	if err != nil {
		return err
	}
	a.registry.install(a.Adapters, made, rows)
	return nil
}

// register stores the channels and apps in the database, and returns the rows of all
// apps, which hold their short keys.
func (a *App) register(ctx context.Context, apps []config.App) ([]store.App, error) {
	var channels []store.ChannelSpec
	for _, ad := range a.Adapters {
		for _, c := range ad.Channels() {
			channels = append(channels, store.ChannelSpec{Channel: c.Name, Provider: ad.Provider(), MaxTargets: c.MaxTargets, WeeklyQuota: c.WeeklyQuota})
		}
	}
	specs := make([]store.AppSpec, len(apps))
	for i, c := range apps {
		specs[i] = store.AppSpec{
			AppID: c.AppID, WorkspaceID: c.WorkspaceID, Provider: c.Provider, PendingLimit: c.PendingLimit, TimeZone: c.TimeZone,
			QuietFrom: c.QuietFrom, QuietUntil: c.QuietUntil, TargetsPerSecond: c.TargetsPerSecond, Quotas: c.WeeklyQuota,
		}
	}
	if err := a.store.Register(ctx, channels, specs); err != nil {
		return nil, err
	}
	return a.store.Apps(ctx)
}

// Describe writes, for a person at the terminal, the addresses of what runs and, with
// the sandbox, how to insert a first campaign. Besides the sign-in link of the
// console, which works once, it writes a trial key of the API.
func (a *App) Describe(w io.Writer) {
	fmt.Fprintf(w, "\nscheduler %s is running.\n", a.Version)
	if a.postgres != nil {
		fmt.Fprintf(w, "  database  PostgreSQL %d in %s\n", a.postgres.current().Version(), a.Config.DataDir)
	}
	if a.sandbox != nil {
		fmt.Fprintf(w, "  sandbox   %s, journal %s\n", a.sandbox.URL(), a.Config.Sandbox.Journal)
	}
	fmt.Fprintf(w, "  admin     http://%s/healthz /readyz /metrics\n", a.admin.Addr())
	if a.console != nil {
		fmt.Fprintf(w, "  console   %s\n", a.console.URL())
	}
	if a.api != nil {
		fmt.Fprintf(w, "  mPaaS API %s\n", a.api.URL())
	}
	if a.console != nil && a.postgres != nil {
		fmt.Fprintf(w, "\nSign in to the console, once, within 15 minutes:\n  %s\n", a.console.Link())
	}
	if a.postgres != nil {
		fmt.Fprintf(w, "\nOpen the database:\n  %s\n", a.postgres.current().PSQL())
	}
	if a.sandbox != nil {
		fmt.Fprintf(w, "\nA first campaign, 20 seconds ahead:\n%s\n", firstCampaign)
	}
	a.describeAPI(w)
	fmt.Fprint(w, "\nCtrl-C stops everything.\n\n")
}

// firstCampaign is SQL to paste into psql.
const firstCampaign = `  INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request)
  VALUES ('hello', '` + sandbox.DefaultMPaaSApp + `', '` + sandbox.DefaultWorkspace + `', 'mpaas.push_multiple', 1,
    jsonb_build_object('fixedTime', scheduler.unix_ms(now() + interval '20 seconds')),
    '{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome",
      "targetMsgs": [{"target": "user-1", "templateKeyValue": {"name": "Li Lei"}}]}');
  SELECT due_at, status, lateness, reason FROM scheduler.tasks ORDER BY due_at;`

// startSandbox starts the stand-in push APIs and returns an app for each
// provider, with credentials that only the sandbox takes.
func (a *App) startSandbox(ctx context.Context) ([]config.App, error) {
	credentials, err := sandbox.DefaultApps(filepath.Join(a.Config.DataDir, "sandbox"))
	if err != nil {
		return nil, err
	}
	faults, err := sandbox.ParseFaults(a.Config.Sandbox.Faults)
	if err != nil {
		return nil, err
	}
	s, err := sandbox.New(sandbox.Config{
		Listen: a.Config.Sandbox.Listen, JournalPath: a.Config.Sandbox.Journal, Faults: faults, Apps: credentials.Apps, Logger: a.Log,
	})
	if err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	a.sandbox = s
	a.closers = append(a.closers, closer{"sandbox", s.Stop})
	settings := credentials.For(s.URL())
	apps := make([]config.App, len(settings))
	for i, set := range settings {
		options := make(map[string]config.Secret, len(set.Options))
		for k, v := range set.Options {
			options[k] = config.Secret(v)
		}
		apps[i] = config.App{AppID: set.AppID, WorkspaceID: set.WorkspaceID, Provider: set.Provider, Endpoint: set.Endpoint, Options: options}
	}
	a.sandboxApps = apps
	return apps, nil
}

// RelaxCollector sets GOGC to 300 and a memory limit, unless the environment sets
// GOGC or GOMEMLIMIT. With 300 the heap may grow to four times the memory in use
// before it is collected. A daemon has only about ten megabytes in use, and each call
// leaves garbage: with Go's default of 100, collection takes a tenth of a call's
// processor time. The memory limit keeps large campaigns from taking four times the
// memory that they need; above it the heap is collected as often as necessary. It is
// memoryLimit, plus memory for each call in flight above the default number. Call
// RelaxCollector at the start, and again when dispatch.max_in_flight has changed.
func RelaxCollector(maxInFlight int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit + int64(max(maxInFlight-config.Default().Dispatch.MaxInFlight, 0))*engine.LightCall)
	}
}

// memoryLimit, in bytes, is less than the 512 MiB that docs/operations.md states. The
// rest is for memory that Go does not count: the program itself, and freed memory
// that is not returned to the system yet.
const memoryLimit = 384 << 20
