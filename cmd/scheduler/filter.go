package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/store"
)

// filterFlags are the flags that select rows of a list.
type filterFlags struct {
	app, channel, since, until string
	statuses                   []string
	campaign                   int64
	limit                      int
	allowed                    []string // statuses
}

// addFilterFlags gives the command the filters. when names the time that --since
// and --until compare.
func addFilterFlags(c *cobra.Command, when string, statuses ...string) *filterFlags {
	f := &filterFlags{allowed: statuses}
	set := c.Flags()
	set.StringVar(&f.app, "app", "", "of this `APP`: its app_id, or app_id/workspace_id")
	set.StringVar(&f.channel, "channel", "", "of this `CHANNEL`, for example mpaas.push_multiple")
	set.StringSliceVar(&f.statuses, "status", nil, "with this `STATUS`; several with commas: "+strings.Join(statuses, ", "))
	set.StringVar(&f.since, "since", "", when+" at this `TIME` or later: a date (UTC), an RFC 3339 time, or an age such as 24h")
	set.StringVar(&f.until, "until", "", when+" before this `TIME`; +2h lies ahead")
	set.IntVar(&f.limit, "limit", 50, "show at most `N`")
	_ = c.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statuses, cobra.ShellCompDirectiveNoFileComp))
	var channels []string
	for _, a := range adapters() {
		for _, ch := range a.Channels() {
			channels = append(channels, ch.Name)
		}
	}
	_ = c.RegisterFlagCompletionFunc("channel", cobra.FixedCompletions(channels, cobra.ShellCompDirectiveNoFileComp))
	return f
}

// filter reads the flags.
func (f *filterFlags) filter(p *program) (store.Filter, error) {
	out := store.Filter{Channel: f.channel, Statuses: f.statuses, Campaign: f.campaign, Limit: f.limit}
	out.AppID, out.WorkspaceID, _ = strings.Cut(f.app, "/")
	for _, s := range f.statuses {
		if !slices.Contains(f.allowed, s) {
			return out, usageError(fmt.Sprintf("--status must be one of %s, not %q", strings.Join(f.allowed, ", "), s))
		}
	}
	if f.limit < 1 {
		return out, usageError("--limit must be at least 1")
	}
	var err error
	if out.Since, err = parseMoment(f.since, p.now()); err != nil {
		return out, err
	}
	out.Until, err = parseMoment(f.until, p.now())
	return out, err
}

// parseID reads the ID argument of a command.
func parseID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, usageError(fmt.Sprintf("an ID is a whole number, as the lists show it, not %q", text))
	}
	return id, nil
}

// localTime is the layout of a time in its zone. It includes the offset, since
// 02:30 occurs twice in the night of an autumn clock change.
const localTime = "2006-01-02 15:04:05 -07:00"

// relative writes how far away a time is, in words: "in 3 days".
func relative(d time.Duration) string {
	if d.Abs() < time.Second {
		return "now"
	}
	if d < 0 {
		return span(-d) + " ago"
	}
	return "in " + span(d)
}

// span writes a length of time in words: "3 days".
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return count(int(d/time.Second), "second")
	case d < time.Hour:
		return count(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return count(int(d/time.Hour), "hour")
	}
	return count(int(d/(24*time.Hour)), "day")
}

// inZone returns a time in a zone, or in UTC when this machine does not know the
// zone.
func inZone(t time.Time, zone string) time.Time {
	if location, err := time.LoadLocation(zone); err == nil && zone != "" {
		return t.In(location)
	}
	return t.UTC()
}

// dueIn writes a time in a zone for people, and "" for the zero time.
func dueIn(t time.Time, zone string) string {
	if t.IsZero() {
		return ""
	}
	return inZone(t, zone).Format(localTime)
}

// parseMoment reads a date, an RFC 3339 time, or an age such as "24h" or "7 days". An
// age with a plus sign, such as "+2h", is a time in the future. An empty text gives
// the zero time.
func parseMoment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	ahead, signed := strings.CutPrefix(text, "+")
	age, err := judge.Interval(ahead)
	if err != nil {
		return time.Time{}, usageError(fmt.Sprintf("a time is a date such as 2026-01-31, an RFC 3339 time, or an age such as 24h or '7 days', not %q", text))
	}
	if signed {
		age = -age
	}
	return now.Add(-age), nil
}
