package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/store"
)

const forecastHelp = `Shows what the bounds will do to what is planned: occurrences that will wait for
a quota or be missed by it, seconds in which more falls due than an app may have
pending, bursts that the app's calls or targets per second hold back, campaigns that reach
the same users more than once a week, and loops that end. Nothing is changed.

Campaigns that are written later, outages, refusals, and how long a provider takes
to answer are not known ahead. Where not everything could be looked at it says "at
least".`

func newForecastCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "forecast",
		Short:   "Show what quotas and limits will do to the coming pushes",
		Long:    forecastHelp,
		Example: "  scheduler forecast\n  scheduler forecast --app 2021000000000001 --days 30 --output json",
		Args:    cobra.NoArgs,
	}
	app := c.Flags().String("app", "", "only this `APP_ID`")
	days := c.Flags().Int("days", 14, "look `N` days ahead")
	database, output := addDatabaseFlag(c), addOutputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *days < 1 || *days > 366 {
			return usageError("--days must be between 1 and 366")
		}
		return p.withStore(c.Context(), database, func(s *store.Store, cfg *config.Config) error {
			return p.forecast(c.Context(), s, cfg, *app, *days, output.json())
		})
	}
	return c
}

func (p *program) forecast(ctx context.Context, s *store.Store, cfg *config.Config, app string, days int, asJSON bool) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	r, err := forecast.Read(ctx, s, cfg.Apps, app, now, now.AddDate(0, 0, days))
	if err != nil {
		return err
	}
	if asJSON {
		return p.writeJSON(r)
	}
	return p.print(forecastText(r, now))
}

// forecastText is a forecast for people: a line for each thing that will happen.
func forecastText(r forecast.Result, now time.Time) string {
	var b strings.Builder
	least := ""
	if r.AtLeast {
		least = "at least "
	}
	fmt.Fprintf(&b, "%s%s until %s UTC\n", least, count(r.Occurrences, "occurrence"), r.Until.UTC().Format(time.DateTime))
	section := func(title string, n int, line func(i int) string) {
		if n == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s\n", title)
		for i := range min(n, maxForecastLines) {
			b.WriteString("  " + line(i) + "\n")
		}
		if more := n - maxForecastLines; more > 0 {
			fmt.Fprintf(&b, "  and %d more\n", more)
		}
	}
	push := func(f forecast.Push) string {
		return fmt.Sprintf("%s  campaign %s on %s; a call is free %s", inZone(f.DueAt, f.Zone).Format(localTime), campaignName(f.CampaignID, f.Campaign), f.Channel, relative(f.FreeAt.Sub(now)))
	}
	section("Missed by a quota:", len(r.Missed), func(i int) string { return push(r.Missed[i]) })
	section("Waiting for a quota:", len(r.Waiting), func(i int) string { return push(r.Waiting[i]) })
	section("Held until quiet hours end:", len(r.Held), func(i int) string {
		k := r.Held[i]
		return fmt.Sprintf("%s  campaign %s, pushed %s", inZone(k.DueAt, k.Zone).Format(localTime), campaignName(k.CampaignID, k.Campaign), inZone(k.FreeAt, k.Zone).Format(localTime))
	})
	section("Left out for quiet hours:", len(r.Silent), func(i int) string {
		k := r.Silent[i]
		return fmt.Sprintf("%s  campaign %s", inZone(k.DueAt, k.Zone).Format(localTime), campaignName(k.CampaignID, k.Campaign))
	})
	section("More due in one second than may be pending; the rest follows at once:", len(r.Peaks), func(i int) string {
		k := r.Peaks[i]
		return fmt.Sprintf("%s UTC  app %s: %d due, %d may be pending", k.At.Format(time.DateTime), appName(k.AppID, k.Workspace), k.Due, k.Limit)
	})
	section("Held back by calls or targets per second:", len(r.Bursts), func(i int) string {
		k := r.Bursts[i]
		return fmt.Sprintf("%s UTC  app %s: %s, the last after %s", k.From.UTC().Format(time.DateTime), appName(k.AppID, k.Workspace), count(k.Calls, "call"), k.Last.Sub(k.From).Round(time.Second))
	})
	section("Spread out:", len(r.Spreads), func(i int) string {
		k := r.Spreads[i]
		return fmt.Sprintf("%s  campaign %s: %s, the last after %s", inZone(k.From, k.Zone).Format(localTime), campaignName(k.CampaignID, k.Campaign), count(k.Calls, "call"), k.Last.Sub(k.From).Round(time.Second))
	})
	section("Reaching the same users more than once in 7 days:", len(r.Repeats), func(i int) string {
		k := r.Repeats[i]
		return fmt.Sprintf("campaign %s: %d times in the 7 days from %s", campaignName(k.CampaignID, k.Campaign), k.Times, inZone(k.From, k.Zone).Format(time.DateOnly))
	})
	section("Loops that end:", len(r.Ends), func(i int) string {
		k := r.Ends[i]
		return fmt.Sprintf("%s  campaign %s", inZone(k.Last, k.Zone).Format(localTime), campaignName(k.CampaignID, k.Campaign))
	})
	if len(r.Missed)+len(r.Waiting)+len(r.Held)+len(r.Silent)+len(r.Peaks)+len(r.Bursts)+len(r.Repeats)+len(r.Ends) == 0 {
		b.WriteString("nothing waits, and nothing is missed\n")
	}
	return b.String()
}

// maxForecastLines bounds each part of a forecast for people.
const maxForecastLines = 20
