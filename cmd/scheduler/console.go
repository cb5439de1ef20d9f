package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/app"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

const consoleHelp = `Serves the web console beside a database, without pushing anything: it needs no
push credentials. People sign in with their own database login, and may see and
do there what that login may in SQL.

It listens on --listen, else on console.listen, else on 127.0.0.1:8082. Beyond
loopback it needs console.cert_file and key_file, or console.behind_proxy. It
ends with Ctrl-C.`

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
		s, cfg, err := p.openStore(c.Context(), database)
		if err != nil {
			return err
		}
		s.Close() // it was opened to see that it is there; people bring their own logins
		return p.serveConsole(c.Context(), database, cfg, *address)
	}
	return c
}

func (p *program) serveConsole(ctx context.Context, database *databaseFlag, cfg *config.Config, address string) error {
	url, err := database.find(cfg)
	if err != nil {
		return err
	}
	address = cmp.Or(address, cfg.Console.Listen, app.DefaultConsole)
	if cfg.Console.CertFile == "" && !cfg.Console.BehindProxy && !config.IsLoopback(address) {
		return fmt.Errorf("%s can be reached from other machines: set console.cert_file and key_file, or console.behind_proxy", address)
	}
	log := newLogger(p.stderr, cfg.Log, new(slog.LevelVar))
	served, err := app.NewConsole(ctx, app.Options{Config: cfg, Adapters: adapters(), Log: log, Version: readBuild().Version}, address, url, nil)
	if err != nil {
		return err
	}
	ctx, signals := notice(ctx)
	defer signals.Stop()
	served.Start()
	if err := p.print("The console is at " + served.URL() + "\n"); err != nil {
		return err
	}
	<-ctx.Done()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return served.Stop(ending)
}
