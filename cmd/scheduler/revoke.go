package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/store"
)

const revokeHelp = `Has the provider take back what it accepted of a task, delivery by delivery, or of
one target only. mPaaS and webhook receivers can; Alipay has no such call. Devices
that have shown the message keep it. The decision on the task stays as it is; what
the provider answered is in scheduler.revocation_calls. A task that runs goes on:
cancel its campaign first.`

func newTasksRevokeCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:     "revoke ID",
		Short:   "Have the provider take a push back",
		Long:    revokeHelp,
		Example: `  scheduler tasks revoke 4711 --note "wrong price in the text"`,
		Args:    cobra.ExactArgs(1),
	}
	note := c.Flags().String("note", "", "why, a `TEXT` for the audit")
	target := c.Flags().String("target", "", "of this `TARGET` only")
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			n, err := s.RevokeTask(c.Context(), id, *note, *target)
			if err != nil {
				return err
			}
			return p.print(fmt.Sprintf("task %d: deliveries to take back that were not asked for before: %d\n", id, n))
		})
	}
	return c
}
