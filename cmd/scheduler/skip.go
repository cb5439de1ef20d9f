package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/store"
)

const skipHelp = `Takes one coming occurrence out of a campaign: it is decided as cancelled at once,
the others go on. With --back that is taken back while the occurrence is still to
come. Who did it and why is kept in scheduler.skipped_occurrences.`

func newSkipCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:     "skip ID --at TIME",
		Short:   "Take one occurrence out of a campaign",
		Long:    skipHelp,
		Example: "  scheduler campaigns skip 7 --at 2026-10-01T09:00:00+08:00 --note holiday\n  scheduler campaigns skip 7 --at 2026-10-01T09:00:00+08:00 --back",
		Args:    cobra.ExactArgs(1),
	}
	at := c.Flags().String("at", "", "the occurrence, a `TIME` as preview shows it (RFC 3339, or a local time in the campaign's zone)")
	note := c.Flags().String("note", "", "why, a `TEXT` for the audit")
	back := c.Flags().Bool("back", false, "take the skip back")
	c.RunE = func(c *cobra.Command, args []string) error {
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			return p.skip(c.Context(), s, args[0], *at, *note, *back)
		})
	}
	return c
}

func (p *program) skip(ctx context.Context, s *store.Store, text, at, note string, back bool) error {
	id, err := parseID(text)
	if err != nil {
		return err
	}
	campaign, err := s.Campaign(ctx, id)
	if err != nil {
		return err
	}
	due, err := parseDue(at, campaign.TimeZone)
	if err != nil {
		return err
	}
	changed, err := s.SkipOccurrence(ctx, id, due, note, back)
	if err != nil {
		return err
	}
	said := map[bool]map[bool]string{
		false: {true: "skipped", false: "it is skipped already"},
		true:  {true: "taken back: it is pushed like any other", false: "it is not skipped"},
	}[back][changed]
	return p.print(fmt.Sprintf("%s: %s\n", dueIn(due, campaign.TimeZone), said))
}

// parseDue reads an occurrence as preview and the lists show it, or as a clock in
// the campaign's zone does.
func parseDue(text, zone string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, localTime} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	location := inZone(time.Time{}, zone).Location()
	for _, layout := range []string{time.DateTime, "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, location); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError(fmt.Sprintf("--at takes an RFC 3339 time, or one such as '2026-10-01 09:00:00' in the campaign's zone, not %q", text))
}
