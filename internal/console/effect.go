package console

import (
	"errors"
	"slices"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/store"
)

// effectRows is how many of what waits, is missed or is held back the form shows.
const effectRows = 10

// maxAppQuotas is how many quotas an app may have: one for each channel.
const maxAppQuotas = 1000

// An effectPart is what the form says of the cap and the quota.
type effectPart struct {
	forecast.Effect
	TooLong                             bool // the rest is unknown
	Paused                              bool
	MoreMissed, MoreWaiting, MoreBursts bool
}

// Quiet says whether nothing waits, is missed or is held back through the campaign.
func (e *effectPart) Quiet() bool {
	return !e.Second.Over() && len(e.Missed)+len(e.Waiting)+len(e.Bursts) == 0
}

// ofStrategy are the columns that say when a campaign pushes: a change of one of
// them is a new strategy, as in the database's strategy_changed. The last is
// no field of the form.
var ofStrategy = []string{"strategy_type", "strategy_content", "time_zone", "short_month_policy", "dst_gap_policy", "times", "calendar", "calendar_policy", "calendar_closed"}

// effect works out what the campaign of a good form would change for its app in
// the days of the forecast. It is no reason to refuse the form, so a read that
// takes too long is only told of.
func (c *Console) effect(x *exchange, f *campaignForm, v judge.Verdict, before *store.CampaignDetail) (*effectPart, error) {
	appID, workspaceID := f.app()
	quotas, err := x.store.QuotaFills(x.Context(), appID, maxAppQuotas)
	if err != nil {
		return nil, err
	}
	d := forecast.Draft{Campaign: forecast.Campaign{
		Name: f.Name, App: forecast.AppKey{AppID: appID, WorkspaceID: workspaceID}, Channel: f.Channel, Zone: f.Zone,
		Schedule: v.Schedule, Window: v.Spec.CatchUpWindow, Quiet: f.Quiet, Misfire: f.Misfire,
	}, AtLeast: f.AudienceView != "", Due: dueNow(v, f.Misfire, x.Now)}
	targets := int64(len(f.targets()))
	if before != nil {
		d.ID, targets = before.ID, before.Targets
		d.Rescheduled = slices.ContainsFunc(changesOf(formOf(before), *f), func(k change) bool { return slices.Contains(ofStrategy, k.Column) })
		if !d.Rescheduled {
			d.Due = nil // those are tasks already, or decided
		}
	}
	d.Calls, d.Targets, d.Spread = forecast.CallsOf(targets, c.maxTargets(f.Channel)), int(targets), v.Spread
	for _, q := range quotas {
		if q.AppID == appID && q.WorkspaceID == workspaceID && q.Channel == f.Channel {
			d.Quota = q.Weekly
		}
	}
	in, err := forecast.ReadInput(x.Context(), x.store, c.settings(), &c.known, appID, forecast.MaxCampaigns, x.Now, x.Now.AddDate(0, 0, forecastDays))
	if errors.Is(err, store.ErrReadTooLong) {
		return &effectPart{TooLong: true}, nil
	} else if err != nil {
		return nil, err
	}
	e := &effectPart{Effect: forecast.With(in, d), Paused: f.Paused || before != nil && before.Status == "paused"}
	e.Missed, e.MoreMissed = first(e.Missed)
	e.Waiting, e.MoreWaiting = first(e.Waiting)
	e.Bursts, e.MoreBursts = first(e.Bursts)
	return e, nil
}

// first returns as many of a list as the form shows, and whether there are more.
func first[T any](list []T) ([]T, bool) {
	return firstOf(list, effectRows)
}

// firstOf returns at most so many of a list, and whether there are more.
func firstOf[T any](list []T, most int) ([]T, bool) {
	return list[:min(len(list), most)], len(list) > most
}

// dueNow are the occurrences that are pushed as soon as the campaign is stored:
// those at once, and those whose window is still open, by the policy.
func dueNow(v judge.Verdict, misfire string, now time.Time) []time.Time {
	var out []time.Time
	for t := v.Schedule.Next(now.Add(-v.Spec.CatchUpWindow)); !t.IsZero() && !t.After(now) && len(out) < forecast.MaxCampaigns; t = v.Schedule.Next(t) {
		out = append(out, t)
	}
	switch {
	case len(out) == 0 || misfire == "all":
		return out
	case misfire == "skip" && v.Spec.Type != 0:
		return nil
	}
	return out[len(out)-1:]
}

// maxTargets is how many targets one call of a channel carries.
func (c *Console) maxTargets(channel string) int {
	adapter, _ := c.Judge.Channel(channel)
	if adapter == nil {
		return 0
	}
	for _, k := range adapter.Channels() {
		if k.Name == channel {
			return k.MaxTargets
		}
	}
	return 0
}
