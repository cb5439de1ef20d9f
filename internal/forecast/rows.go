package forecast

import (
	"context"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// Read makes a forecast from the stored rows, for an app or, where appID is
// empty, for all apps that the store's login may see. settings are the apps of
// the configuration, for their calls per second. It looks ahead from now to
// until.
func Read(ctx context.Context, s *store.Store, settings []config.App, appID string, now, until time.Time) (Result, error) {
	in, err := ReadInput(ctx, s, settings, nil, appID, MaxCampaigns, now, until)
	if err != nil {
		return Result{}, err
	}
	return Make(in), nil
}

// ReadInput reads the input of Read, with at most that many campaigns. known are
// those of earlier reads; nil: there are none.
func ReadInput(ctx context.Context, s *store.Store, settings []config.App, known *store.KnownCampaigns, appID string, campaigns int, now, until time.Time) (Input, error) {
	filter := store.ForecastFilter{AppID: appID, Campaigns: campaigns, Until: until, Known: known}
	rates := make(map[AppKey]float64, len(settings))
	for _, c := range settings {
		if c.CallsPerSecond > 0 {
			filter.CountFor = append(filter.CountFor, c.AppID)
			rates[AppKey{c.AppID, c.WorkspaceID}] = c.CallsPerSecond
		}
	}
	rows, err := s.ForecastRows(ctx, filter)
	if err != nil {
		return Input{}, err
	}
	in := Input{Now: now, Until: until, Partial: rows.Partial, Campaigns: make([]Campaign, 0, len(rows.Campaigns)), Stored: make([]Stored, 0, len(rows.Stored))}
	for _, a := range rows.Apps {
		key := AppKey{a.AppID, a.WorkspaceID}
		in.Apps = append(in.Apps, App{AppKey: key, PendingLimit: a.PendingLimit, CallsPerSecond: rates[key], TargetsPerSecond: a.TargetsPerSecond, Quiet: strategy.NewQuietHours(a.Quiet.From, a.Quiet.Until, a.Quiet.Zone)})
	}
	for _, c := range rows.Campaigns {
		schedule, err := scheduleOf(c.CampaignPlan)
		if err != nil {
			continue // the daemon cannot plan the campaign either
		}
		key := AppKey{c.AppID, c.WorkspaceID}
		in.Campaigns = append(in.Campaigns, Campaign{
			ID: c.ID, Name: c.Name, App: key, Channel: c.Channel, Zone: c.TimeZone, Schedule: schedule, Window: c.CatchUpWindow, Quiet: c.QuietPolicy, Misfire: c.MisfirePolicy, Spread: c.Spread, Targets: int(c.Targets), Calls: CallsOf(c.Targets, c.MaxTargets), Quota: c.Quota,
		})
	}
	for _, c := range rows.Calls {
		in.Calls = append(in.Calls, Call{AppKey{c.AppID, c.WorkspaceID}, c.Channel, c.At})
	}
	for _, o := range rows.Stored {
		in.Stored = append(in.Stored, Stored(o))
	}
	return in, nil
}

// A workedSchedule is the schedule of a plan, by a zone's rules.
type workedSchedule struct {
	rules    string // those of the zone: a daemon may read others while it runs
	schedule strategy.Schedule
}

// scheduleOf returns a campaign's schedule. To work it out costs as much as to read the
// campaign, so it stays with the plan.
func scheduleOf(plan *store.CampaignPlan) (strategy.Schedule, error) {
	rules, _ := strategy.ZoneRules(plan.TimeZone) // before they are used, so that older ones are never taken for them
	if w, ok := plan.Worked.Load().(workedSchedule); ok && w.rules == rules {
		return w.schedule, nil
	}
	schedule, _, err := strategy.Parse(SpecOf(plan.CampaignSummary))
	if err == nil {
		plan.Worked.Store(workedSchedule{rules, schedule})
	}
	return schedule, err
}

// CallsOf returns how many calls a push to stored targets needs. maxTargets is the
// most targets of a call; zero: calls take no targets.
func CallsOf(targets int64, maxTargets int) int {
	if maxTargets <= 0 {
		return 1
	}
	return max(int((targets+int64(maxTargets)-1)/int64(maxTargets)), 1)
}

// SpecOf returns the strategy of a stored campaign, with the longest catch-up
// window. The strategy was judged when it was written, so it is not refused
// because its author has shortened the window since.
func SpecOf(c store.CampaignSummary) strategy.Spec {
	return strategy.Spec{
		Type: strategy.Type(c.StrategyType), Content: c.StrategyContent, Zone: c.TimeZone, WrittenAt: c.WrittenAt,
		ShortMonth: strategy.ShortMonthPolicy(c.ShortMonth), DSTGap: strategy.DSTGapPolicy(c.DSTGap), Times: c.Times, CatchUpWindow: strategy.MaxCatchUpWindow,
		Calendar: c.Calendar.Name, CalendarPolicy: strategy.CalendarPolicy(c.Calendar.Policy), Closed: c.Calendar.Closed, Since: c.Calendar.Since,
	}
}
