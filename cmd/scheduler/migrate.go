package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/store"
)

const migrateHelp = `Changes the schema "scheduler" of a database, with a role that may. Several may
run at once: they wait for each other. A migration that was killed left nothing
behind, and the next run fixes the mark it set.

The database is that of --database-url, else of the configuration
(database.url, SCHEDULER_DATABASE_URL), else of DATABASE_URL. The embedded
PostgreSQL of "scheduler serve" migrates itself.`

const migrateExample = `  scheduler migrate up --database-url postgres://admin@db.example/push
  scheduler migrate version
  scheduler migrate down 1`

// A migrateCommand holds what the verbs of migrate share.
type migrateCommand struct {
	program *program
	url     string
}

func newMigrateCommand(p *program) *cobra.Command {
	m := &migrateCommand{program: p}
	c := &cobra.Command{
		Use:     "migrate",
		Short:   "Change the database's schema",
		Long:    migrateHelp,
		Example: migrateExample,
		Args:    cobra.NoArgs,
		RunE:    chooseSubcommand,
	}
	c.PersistentFlags().StringVar(&m.url, "database-url", "", "PostgreSQL `URL` of a role that may change the schema")
	c.AddCommand(
		m.verb("up", "Apply every migration that is not applied yet",
			func(ctx context.Context, runner *store.Migrator, _ int) error { return runner.Up(ctx) }),
		m.verb("down N", "Take back the newest N migrations, with all the data of their tables",
			func(ctx context.Context, runner *store.Migrator, n int) error { return runner.Down(ctx, n) }),
		m.verb("goto V", "Go up or down to version V; 0 takes everything back",
			func(ctx context.Context, runner *store.Migrator, v int) error { return runner.Goto(ctx, v) }),
		m.verb("force V", "Record version V without running anything, after a repair by hand",
			func(ctx context.Context, runner *store.Migrator, v int) error { return runner.Force(ctx, v) }),
		m.verb("own", "Hand the schema over to scheduler_owner, a role that nobody uses daily",
			func(ctx context.Context, runner *store.Migrator, _ int) error { return runner.Own(ctx) }),
		m.versionVerb(),
	)
	return c
}

// verb makes a subcommand that changes the schema. A use of two words takes one
// number.
func (m *migrateCommand) verb(use, short string, do func(context.Context, *store.Migrator, int) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, Example: "  scheduler migrate " + use}
	takesNumber := c.Name() != use
	if takesNumber {
		c.Args = cobra.ExactArgs(1)
		c.Example = "  scheduler migrate " + c.Name() + " 1"
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		number := 0
		if takesNumber {
			n, err := strconv.ParseUint(args[0], 10, 31)
			if err != nil {
				return usageError(fmt.Sprintf("%s takes a whole number, not %q", c.Name(), args[0]))
			}
			number = int(n)
		}
		runner, err := m.runner()
		if err != nil {
			return err
		}
		if err := do(c.Context(), runner, number); err != nil {
			return err
		}
		return m.printVersion(c.Context(), runner, false)
	}
	return c
}

func (m *migrateCommand) versionVerb() *cobra.Command {
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of the schema; change nothing",
		Example: "  scheduler migrate version --output json",
		Args:    cobra.NoArgs,
	}
	output := addOutputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		runner, err := m.runner()
		if err != nil {
			return err
		}
		return m.printVersion(c.Context(), runner, output.json())
	}
	return c
}

// printVersion prints the schema's version, at the end of every verb.
func (m *migrateCommand) printVersion(ctx context.Context, runner *store.Migrator, asJSON bool) error {
	v, err := runner.Version(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return m.program.writeJSON(struct {
			Current     int  `json:"current"`
			Newest      int  `json:"newest"`
			Interrupted bool `json:"interrupted"`
		}(v))
	}
	return m.program.print(describeVersion(v) + "\n")
}

func describeVersion(v store.SchemaVersion) string {
	text := fmt.Sprintf("the schema is at version %d of %d", v.Current, v.Newest)
	switch {
	case v.Interrupted:
		text += "; a migration was interrupted or runs now: scheduler migrate up goes on from here"
	case v.Current < v.Newest:
		text += "; scheduler migrate up applies the rest"
	case v.Current > v.Newest:
		text += ": it is newer than this program, which cannot work with it"
	}
	return text
}

// runner finds the database. It reads the configuration only when the flag is not
// given, so that an admin needs no configuration.
func (m *migrateCommand) runner() (*store.Migrator, error) {
	url := m.url
	if url == "" {
		c, err := m.program.loadConfig()
		if err != nil {
			return nil, err
		}
		url = c.Database.URL.Reveal()
	}
	if url == "" {
		return nil, errors.New("no database is named: give --database-url, or set database.url or DATABASE_URL")
	}
	return store.NewMigrator(url, slog.New(slog.NewTextHandler(m.program.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
}
