package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/plain"
	"github.com/campaign-scheduler/scheduler/store"
)

const holdHelp = `Lets nothing begin any more, of no campaign and on no daemon, until "scheduler
release". It counts from its commit; calls under way end. Campaigns stay as they
are, so that afterwards everything goes on as before: what fell due meanwhile as
catch-up windows and misfire policies say, or not at all with release
--skip-overdue.

` + databaseHelp

func newHoldCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "hold",
		Short:   "Let nothing begin until it is released",
		Long:    holdHelp,
		Example: `  scheduler hold --note "wrong template in every campaign"`,
		Args:    cobra.NoArgs,
	}
	note := c.Flags().String("note", "", "why, a `TEXT` for the log and for whoever releases it")
	database := addDatabaseFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			return p.hold(c.Context(), s, *note)
		})
	}
	return c
}

func (p *program) hold(ctx context.Context, s *store.Store, note string) error {
	held, err := s.HoldAll(ctx, cmp.Or(note, "by hand"), p.operator())
	if err != nil {
		return err
	}
	hold, _, err := s.Held(ctx, 0)
	if err != nil {
		return err
	}
	said := "nothing begins any more"
	if !held {
		said = "it was held already: " + plain.Line(hold.Reason)
	}
	return p.print(fmt.Sprintf("%s; %d overdue, %d to come; go on with: scheduler release\n", said, hold.Overdue, hold.Coming))
}
