package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/store"
)

const pruneHelp = `Removes what no daemon removes by itself: audits of changes to campaigns, and
targets of campaigns that are finished or cancelled. It goes in small steps that
hold up nobody, and may be stopped and begun again. Decided tasks go by
retention.tasks of the configuration.

It takes a login in scheduler_admin.

` + databaseHelp

func newPruneCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "prune",
		Short:   "Remove old audits, and targets of ended campaigns",
		Long:    pruneHelp,
		Example: "  scheduler prune --history '365 days' --targets '30 days'",
		Args:    cobra.NoArgs,
	}
	history := c.Flags().String("history", "", "remove audits of changes older than this `INTERVAL`")
	targets := c.Flags().String("targets", "", "remove targets of campaigns that ended longer ago than this `INTERVAL`")
	database := addDatabaseFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *history == "" && *targets == "" {
			return errors.New("name what to remove: --history, --targets, or both")
		}
		ages := make(map[store.Kept]time.Duration)
		for what, text := range map[store.Kept]string{store.KeptHistory: *history, store.KeptTargets: *targets} {
			if text == "" {
				continue
			}
			age, err := judge.Interval(text)
			if err != nil {
				return fmt.Errorf("--%s %w", what, err)
			}
			if age < 24*time.Hour {
				return fmt.Errorf("--%s must be at least a day", what)
			}
			ages[what] = age
		}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			return p.prune(c.Context(), s, ages)
		})
	}
	return c
}

func (p *program) prune(ctx context.Context, s *store.Store, ages map[store.Kept]time.Duration) error {
	for _, what := range []store.Kept{store.KeptHistory, store.KeptTargets} {
		age, asked := ages[what]
		if !asked {
			continue
		}
		var total int64
		for {
			n, err := s.PruneStep(ctx, what, age)
			if err != nil {
				return err
			}
			if total += n; n == 0 {
				break
			}
		}
		if err := p.print(fmt.Sprintf("%s: %d rows removed\n", what, total)); err != nil {
			return err
		}
	}
	return nil
}
