package forecast

import (
	"cmp"
	"slices"
	"time"
)

// A Draft is a campaign that is not stored yet, or a stored campaign with an
// edit. Campaign.ID is then the stored campaign's, which the draft replaces.
type Draft struct {
	Campaign
	Due         []time.Time // occurrences that are pushed as soon as the draft is stored
	Rescheduled bool        // an edit of the strategy: tasks of the campaign that are due and wait are cancelled
	AtLeast     bool        // nobody knows how many calls the draft needs
}

// A Fill is a number without and with the draft. Limit is zero where there is no limit.
type Fill struct{ Before, After, Limit int }

// Over says whether the number with the draft is beyond the limit.
func (f Fill) Over() bool { return f.Limit > 0 && f.After > f.Limit }

// An Effect says what a draft changes for its app until Until.
type Effect struct {
	Until   time.Time
	AtLeast bool // not everything could be looked at
	Own     int  // occurrences of the draft
	Pushes  Fill // occurrences of the app
	Pending Fill // the earliest of them that are tasks, as many as the app may have pending
	Second  Fill // the most occurrences that are due in a second in which the draft pushes
	Week    Fill // the most calls of the draft's channel in any 7 days; no limit: the channel has no quota
	Missed  []Push
	Waiting []Push // pushes that wait for a quota, or wait longer than without the draft
	Bursts  []Burst
	Spread  SpreadOut // the draft's first spread occurrence; Calls is zero where there is none
	Repeats int       // how often the same users are reached in 7 days, if more than once
}

// With works out what a draft changes. It reads only the draft's app of the
// input. It takes twice the time of Make.
func With(in Input, d Draft) Effect {
	before, after := in.of(d.App), in.of(d.App)
	after.Campaigns, after.Stored = slices.Clone(before.Campaigns), nil
	for _, o := range before.Stored {
		if o.CampaignID != d.ID || o.Skipped || !d.Rescheduled {
			after.Stored = append(after.Stored, o)
		}
	}
	for _, t := range d.Due {
		after.Stored = append(after.Stored, Stored{CampaignID: d.ID, DueAt: t})
	}
	if i := slices.IndexFunc(after.Campaigns, func(c Campaign) bool { return c.ID == d.ID }); i >= 0 {
		after.Campaigns[i] = d.Campaign
	} else {
		if len(after.Campaigns) >= MaxCampaigns {
			after.Campaigns, after.Partial = after.Campaigns[:MaxCampaigns-1], true
		}
		after.Campaigns = append(after.Campaigns, d.Campaign)
	}
	return compare(Make(before), Make(after), before, d)
}

// of returns the input of one app.
func (in Input) of(app AppKey) Input {
	out := in
	out.Apps = slices.DeleteFunc(slices.Clone(in.Apps), func(a App) bool { return a.AppKey != app })
	out.Campaigns = slices.DeleteFunc(slices.Clone(in.Campaigns), func(c Campaign) bool { return c.App != app })
	return out
}

// compare returns the effect by which the second forecast differs from the first.
func compare(a, b Result, in Input, d Draft) Effect {
	e := Effect{
		Until: b.Until, AtLeast: a.AtLeast || b.AtLeast || d.AtLeast, Pushes: Fill{Before: a.Occurrences, After: b.Occurrences},
		Missed: added(a.Missed, b.Missed, d.ID), Waiting: added(a.Waiting, b.Waiting, d.ID),
	}
	limit := 0
	for _, app := range in.Apps {
		limit = app.PendingLimit
	}
	e.Pending, e.Second = Fill{min(a.Occurrences, limit), min(b.Occurrences, limit), limit}, Fill{Limit: limit}
	first, second := perSecond(a.Coming), perSecond(b.Coming)
	for _, o := range b.Coming {
		if o.Campaign.ID != d.ID {
			continue
		}
		e.Own++
		if n := second[o.At.Unix()]; n > e.Second.After {
			e.Second.Before, e.Second.After = first[o.At.Unix()], n
		}
	}
	if d.Quota > 0 {
		key := quotaKey{d.App, d.Channel}
		e.Week.Limit = d.Quota
		e.Week.Before, _ = BusiestWeek(a.calls[key])
		e.Week.After, _ = BusiestWeek(b.calls[key])
	}
	for _, r := range b.Bursts {
		if !slices.Contains(a.Bursts, r) {
			e.Bursts = append(e.Bursts, r)
		}
	}
	if i := slices.IndexFunc(b.Spreads, func(s SpreadOut) bool { return s.CampaignID == d.ID }); i >= 0 {
		e.Spread = b.Spreads[i]
	}
	for _, r := range b.Repeats {
		if r.CampaignID == d.ID {
			e.Repeats = r.Times
		}
	}
	return e
}

// perSecond counts the occurrences that are due in each second.
func perSecond(all []Occurrence) map[int64]int {
	out := make(map[int64]int, len(all))
	for _, o := range all {
		out[o.At.Unix()]++
	}
	return out
}

// added returns the pushes of b that are the draft's own, that are not in a, or
// that have an earlier call in a. It returns one push of each occurrence.
func added(a, b []Push, own int64) []Push {
	type key struct {
		campaign int64
		due      int64
	}
	keyOf := func(p Push) key { return key{p.CampaignID, p.DueAt.UnixMicro()} }
	had := make(map[key]time.Time, len(a))
	for _, p := range a {
		had[keyOf(p)] = p.FreeAt // the time of its last call
	}
	last := make(map[key]Push, len(b))
	for _, p := range b {
		last[keyOf(p)] = p
	}
	var out []Push
	for k, p := range last {
		if free, ok := had[k]; !ok || p.CampaignID == own || p.FreeAt.After(free) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Push) int { return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.CampaignID, b.CampaignID)) })
	return out
}
