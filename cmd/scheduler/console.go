package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/app"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

const consoleHelp = `Serves the web console beside a database, without pushing anything: it needs no
push credentials. People sign in as console.sign_in says: with their own database
login, through an OpenID Connect identity provider, or at a proxy in front. They may
see and do there what their database role may in SQL.

It listens on --listen, else on console.listen, else on 127.0.0.1:8082. Beyond
loopback it needs console.cert_file and key_file, or console.behind_proxy. It
ends with Ctrl-C. SIGHUP reads the configuration again: the apps, and whom the
identity provider or the proxy lets in (console.oidc, console.proxy, console.roles).`

func newConsoleCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "console",
		Short:   "Serve the web console alone",
		Long:    consoleHelp,
		Example: "  scheduler console --database-url postgres://localhost/push",
		Args:    cobra.NoArgs,
	}
	database := addDatabaseFlag(c)
	address := c.Flags().String("listen", "", "`HOST:PORT` to listen on (default console.listen, else 127.0.0.1:8082)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := p.loadConfig()
		if err != nil {
			return err
		}
		url := ""
		if cfg.Console.SignIn == config.SignInLogin { // else the console has a login of its own
			if url, err = database.find(cfg); err != nil {
				return err
			}
			s, err := p.openURL(c.Context(), cfg, url)
			if err != nil {
				return err
			}
			s.Close() // it was opened only to check that the database is there; people bring their own logins
		} else if database.url != "" {
			cfg.Console.DatabaseURL = config.Secret(database.url)
		}
		return p.serveConsole(c.Context(), url, cfg, *address)
	}
	return c
}

func (p *program) serveConsole(ctx context.Context, databaseURL string, cfg *config.Config, address string) error {
	address = cmp.Or(address, cfg.Console.Listen, app.DefaultConsole)
	if cfg.Console.CertFile == "" && !cfg.Console.BehindProxy && !config.IsLoopback(address) {
		return fmt.Errorf("%s can be reached from other machines: set console.cert_file and key_file, or console.behind_proxy", address)
	}
	level := new(slog.LevelVar)
	log := newLogger(p.stderr, cfg.Log, level)
	warn(ctx, log, cfg)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	served, err := app.NewConsole(ctx, app.Options{Config: cfg, Adapters: adapters(), Log: log, Version: readBuild().Version}, address, databaseURL, nil)
	if err != nil {
		return err
	}
	ctx, signals := notice(ctx)
	defer signals.Stop()
	served.Start()
	if err := p.print("The console is at " + served.URL() + "\n"); err != nil {
		return err
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-hangups:
			p.reloadConsole(ctx, served, log, level)
		}
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return served.Stop(ending)
}

// reloadConsole applies a changed configuration. When it cannot, it says why
// and changes nothing.
func (p *program) reloadConsole(ctx context.Context, served *app.Console, log *slog.Logger, level *slog.LevelVar) {
	cfg, err := p.loadConfig()
	if err != nil {
		log.ErrorContext(ctx, "configuration not reloaded, the old one stays", "error", err)
		return
	}
	warn(ctx, log, cfg)
	setLevel(level, cfg.Log)
	served.Reload(cfg.Apps, cfg.Console)
	log.InfoContext(ctx, "configuration reloaded", "apps", len(cfg.Apps))
}
