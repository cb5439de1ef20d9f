package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/app"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

const serveHelp = `Run the daemon: plan campaigns, push each task at its second, record how it ended.

Without a database URL it starts an embedded PostgreSQL in data_dir, from the
binaries found on the machine, and migrates it. Without apps it also starts the
sandbox, a stand-in for the push APIs on loopback, with an app for each provider.

SIGTERM and Ctrl-C stop it: nothing new begins, calls under way may end within
dispatch.grace_period, their outcomes are recorded. A second signal ends it now;
what was under way is then ruled on by another daemon, or by the next start.

SIGHUP reads the configuration again, the files of its secrets too: apps with
their credentials and limits, the access keys of the API, dispatch.max_in_flight
and log.level. Calls under
way go on. A configuration with a mistake changes nothing, and the log says why;
it also names what was changed and counts only from the next start.

Exit status:
  0  stopped as asked
  1  it could not start
  2  the command line is wrong`

const serveExample = `  scheduler serve
  scheduler serve --config /etc/scheduler.yaml
  DATABASE_URL=postgres://scheduler@db/push scheduler serve`

func newServeCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "serve",
		Short:   "Run the daemon",
		Long:    serveHelp,
		Example: serveExample,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.serve(c.Context())
		},
	}
}

func (p *program) serve(ctx context.Context) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	app.RelaxCollector(cfg.Dispatch.MaxInFlight)
	level := new(slog.LevelVar)
	log := newLogger(p.stderr, cfg.Log, level)
	warn(ctx, log, cfg)
	hangups := make(chan os.Signal, 1) // from the very start, since an unhandled SIGHUP ends the process
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	ctx, signals := notice(ctx)
	defer signals.Stop()
	a, err := app.New(ctx, app.Options{Config: cfg, Adapters: adapters(), Log: log, Version: readBuild().Version})
	if err != nil {
		return err
	}
	a.Start()
	a.Describe(p.stdout)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-hangups:
			p.reload(ctx, a, log, level)
		}
	}
	log.InfoContext(ctx, "stopping: calls under way may end")
	stopCtx, cancel := signals.Second(context.WithoutCancel(ctx))
	defer cancel()
	if err := a.Stop(stopCtx); err != nil {
		return err
	}
	log.InfoContext(ctx, "stopped")
	return nil
}

// reload applies a changed configuration. When it cannot, it says why and changes
// nothing.
func (p *program) reload(ctx context.Context, a *app.App, log *slog.Logger, level *slog.LevelVar) {
	cfg, err := p.loadConfig()
	if err != nil {
		log.ErrorContext(ctx, "configuration not reloaded, the old one stays", "error", err)
		return
	}
	later, err := a.Reload(ctx, cfg)
	if err != nil {
		log.ErrorContext(ctx, "configuration not reloaded, the old one stays", "error", err)
		return
	}
	app.RelaxCollector(cfg.Dispatch.MaxInFlight)
	warn(ctx, log, cfg)
	setLevel(level, cfg.Log)
	log.InfoContext(ctx, "configuration reloaded", "apps", len(cfg.Apps))
	if len(later) > 0 {
		log.WarnContext(ctx, "settings that count from the next start", "settings", later)
	}
}

func warn(ctx context.Context, log *slog.Logger, cfg *config.Config) {
	for _, w := range cfg.Warnings {
		log.WarnContext(ctx, "configuration", "warning", w)
	}
}

// A noticer ends one context at the first signal, and another context at the second
// signal.
type noticer struct{ signals chan os.Signal }

func notice(ctx context.Context) (context.Context, *noticer) {
	ctx, cancel := context.WithCancel(ctx)
	n := &noticer{signals: make(chan os.Signal, 2)}
	signal.Notify(n.signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		select {
		case <-n.signals:
		case <-ctx.Done():
		}
		cancel()
	}()
	return ctx, n
}

// Second returns a context that ends with the next signal.
func (n *noticer) Second(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-n.signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// Stop gives signals their default effect again.
func (n *noticer) Stop() { signal.Stop(n.signals) }

// newLogger makes the daemon's log. level may be changed while it is in use.
func newLogger(w io.Writer, c config.Log, level *slog.LevelVar) *slog.Logger {
	setLevel(level, c)
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func setLevel(level *slog.LevelVar, c config.Log) {
	var to slog.Level
	_ = to.UnmarshalText([]byte(c.Level)) // the configuration was checked
	level.Set(to)
}
