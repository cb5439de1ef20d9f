package main

import (
	"fmt"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/store"
)

// A quota is what a channel allows. Channels with a weekly quota choose their
// audience themselves, so that every call reaches the same users.
type quota struct {
	channel string
	weekly  int // calls of one app in any rolling 7 × 24 h; zero: no quota
	used    int // of those, made already; unknown without a database
}

// quotaOf is a channel's quota as its adapter states it.
func quotaOf(name string) quota {
	adapter, _ := channel(name)
	if adapter == nil {
		return quota{}
	}
	for _, c := range adapter.Channels() {
		if c.Name == name {
			return quota{channel: name, weekly: c.WeeklyQuota}
		}
	}
	return quota{}
}

// storedQuota is the quota of a campaign's app, which may differ from its
// channel's, and how much of it is used now.
func storedQuota(c store.CampaignRow, all []store.QuotaUsage) quota {
	for _, q := range all {
		if q.AppID == c.AppID && q.WorkspaceID == c.WorkspaceID && q.Channel == c.Channel {
			return quota{channel: c.Channel, weekly: q.Weekly, used: int(q.Used)}
		}
	}
	return quota{}
}

// reachWarnings says when occurrences, which ascend, exceed the quota, or reach
// the same users more than once a week.
func reachWarnings(times []time.Time, q quota) []string {
	if q.weekly == 0 || len(times) == 0 {
		return nil
	}
	var warnings []string
	if most, at := forecast.BusiestWeek(times); most > q.weekly {
		warnings = append(warnings, fmt.Sprintf("exceeds the quota of %s: %d pushes in the 7 days from %s, %d are allowed for all of the app's campaigns together; "+
			"the rest wait inside their catch-up window, then are missed", q.channel, most, at.Format(time.DateOnly), q.weekly))
	}
	if most, at := forecast.BusiestWeek(times); most > 1 {
		warnings = append(warnings, fmt.Sprintf("reaches the same users %d times in the 7 days from %s; the push API delivers one such message per user and week",
			most, at.Format(time.DateOnly)))
	}
	if q.used >= q.weekly {
		warnings = append(warnings, fmt.Sprintf("the quota of %s is used up now: %d of %d calls in the last 7 days", q.channel, q.used, q.weekly))
	}
	return warnings
}
