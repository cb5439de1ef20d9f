package main

import (
	"cmp"
	"fmt"
	"os/user"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/plain"
	"github.com/campaign-scheduler/scheduler/store"
)

const resolveHelp = `Rules on a task whose outcome is unknown: the call was begun, and nobody knows
whether the push API took it. Find out first: the provider's console shows what
arrived, and tasks show has the request id.

  --as sent                 the task succeeded
  --as not-sent             the task failed; its quota is returned
  --as not-sent --resend    it is pushed again at once, with the same message keys

Of a task with many deliveries only those of unknown outcome are touched: what
was accepted is never sent again. The ruling is kept in scheduler.rulings with
the database role, your user name and the note.`

func newTasksResolveCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:     "resolve ID --as sent|not-sent",
		Short:   "Rule on a task whose outcome is unknown",
		Long:    resolveHelp,
		Example: `  scheduler tasks resolve 4711 --as sent --note "seen in the console"` + "\n  scheduler tasks resolve 4711 --as not-sent --resend",
		Args:    cobra.ExactArgs(1),
	}
	as := &choice{allowed: []string{"sent", "not-sent"}}
	c.Flags().Var(as, "as", "what became of the push")
	resend := c.Flags().Bool("resend", false, "push it again; only with --as not-sent")
	note := c.Flags().String("note", "", "why, a `TEXT` for the audit")
	output := addOutputFlag(c)
	_ = c.RegisterFlagCompletionFunc("as", cobra.FixedCompletions(as.allowed, cobra.ShellCompDirectiveNoFileComp))
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		switch {
		case as.value == "":
			return usageError("say what became of the push: --as sent, or --as not-sent")
		case *resend && as.value == "sent":
			return usageError("what was sent is not sent again: --resend goes with --as not-sent")
		}
		ruling := store.Ruling{TaskID: id, Sent: as.value == "sent", Resend: *resend, Note: *note, Operator: p.operator()}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			ruled, err := s.Resolve(c.Context(), ruling)
			if err != nil {
				return err
			}
			if output.json() {
				return p.writeJSON(map[string]any{"task_id": id, "status": ruled.Status, "reason": ruled.Reason})
			}
			return p.print(fmt.Sprintf("task %d: %s, %s\n", id, ruled.Status, plain.Line(ruled.Reason)))
		})
	}
	return c
}

// operator is who runs the command, as the machine says; behind sudo, who called
// it.
func (p *program) operator() string {
	if name := cmp.Or(p.getenv("SUDO_USER"), p.getenv("USER"), p.getenv("LOGNAME")); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}
