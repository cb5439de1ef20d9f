package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/mattn/go-runewidth"
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
		Short:   "Start no push until pushes are released",
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

const releaseHelp = `Lets pushes begin again after "scheduler hold", or after the restore guard held
them: a daemon found that the database was restored, cloned or long without a
heartbeat, so that what is due in it may have been pushed already. --list says
why, shows what a release would push, and changes nothing; so does the view
scheduler.held.

Release a database that is the original, or takes the original's place. A copy
beside a working original would push everything a second time.

--skip-overdue: whatever was due until now is recorded as missed, not pushed.

` + databaseHelp

const releaseExample = `  scheduler release --list
  scheduler release --skip-overdue`

func newReleaseCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "release",
		Short:   "Start pushes again after a hold",
		Long:    releaseHelp,
		Example: releaseExample,
		Args:    cobra.NoArgs,
	}
	var skipOverdue, list bool
	c.Flags().BoolVar(&skipOverdue, "skip-overdue", false, "record what was due until now as missed, instead of pushing it")
	c.Flags().BoolVar(&list, "list", false, "show what would be pushed, and change nothing")
	c.MarkFlagsMutuallyExclusive("skip-overdue", "list")
	database := addDatabaseFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			if list {
				return p.listHeld(c.Context(), s)
			}
			return p.release(c.Context(), s, skipOverdue)
		})
	}
	return c
}

func (p *program) release(ctx context.Context, s *store.Store, skipOverdue bool) error {
	hold, _, err := s.Held(ctx, 0)
	if err != nil {
		return err
	}
	held, skipped, err := s.Release(ctx, skipOverdue)
	switch {
	case err != nil:
		return err
	case !held:
		return p.print("nothing was held\n")
	case skipOverdue:
		doubtful := ""
		if skipped.Unknown > 0 {
			doubtful = fmt.Sprintf(", %d as unknown, since they may have arrived", skipped.Unknown)
		}
		return p.print(fmt.Sprintf("released; %d overdue recorded as missed%s, %d to come\n", skipped.Missed, doubtful, hold.Coming))
	}
	return p.print(fmt.Sprintf("released; %d overdue, %d to come\n", hold.Overdue, hold.Coming))
}

// listed is how many held pushes are shown.
const listed = 100

func (p *program) listHeld(ctx context.Context, s *store.Store) error {
	hold, pushes, err := s.Held(ctx, listed)
	if err != nil {
		return err
	}
	if hold.Since.IsZero() {
		return p.print("nothing is held\n")
	}
	if err := p.print(fmt.Sprintf("held since %s: %s\n%d overdue, %d to come\n", hold.Since.Local().Format(localTime), plain.Line(hold.Reason), hold.Overdue, hold.Coming)); err != nil {
		return err
	}
	if len(pushes) == 0 {
		return nil
	}
	t := table{header: []string{"DUE", "ON RELEASE", "CAMPAIGN", "CHANNEL", "APP", "TASK"}}
	for _, h := range pushes {
		t.add(dueIn(h.DueAt, h.TimeZone), h.OnRelease, campaignName(h.CampaignID, h.Campaign), h.Channel, runewidth.Truncate(appName(h.AppID, h.WorkspaceID), 28, "…"), number(h.TaskID))
	}
	if err := p.print("\n"); err != nil {
		return err
	}
	if err := t.write(p); err != nil {
		return err
	}
	if more := hold.Overdue + hold.Coming - int64(len(pushes)); more > 0 {
		return p.print(fmt.Sprintf("and %d more: SELECT * FROM scheduler.held\n", more))
	}
	return nil
}
