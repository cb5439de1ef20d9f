package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/store"
)

// filterFlags are what the lists can be narrowed by.
type filterFlags struct {
	app, channel, since, until string
	statuses                   []string
	campaign                   int64
	limit                      int
	allowed                    []string // statuses
}

// addFilterFlags gives the command the filters. when says what time is meant.
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
