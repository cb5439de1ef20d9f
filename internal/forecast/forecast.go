// Package forecast says how bounds will change the planned pushes. It says which
// occurrences will wait for a quota or be missed because of it, when more is due
// than an app may have pending, and when the last call of a burst or of a spread
// occurrence goes out. It also says which users are reached more than once a
// week, and which loops end. Make is pure: it gets rows and the time. Read gives
// it the stored rows.
//
// It follows the engine's rules. A quota counts the calls of any rolling 7 x 24 h. A
// task without quota waits until a call is free, the earliest due first, and is missed
// when its catch-up window closes before. Quiet hours hold occurrences, except those
// that their campaigns leave out or push all the same. Skipped occurrences are not
// pushed, and tasks that are due and wait already come first. The forecast leaves out
// what nobody knows ahead: campaigns written later, outages, refusals, and how long a
// provider takes to answer.
package forecast

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// Week is the window of quotas.
const Week = 7 * 24 * time.Hour

// Bounds of one forecast. Beyond them, a forecast says "at least".
const (
	MaxCampaigns   = 5_000
	MaxOccurrences = 200_000
	MaxAhead       = 30 * 365 * 24 * time.Hour // of Until, from Now or From
)

// An AppKey names an app.
type AppKey struct{ AppID, WorkspaceID string }

// An App holds an app's bounds. Zero: no bound.
type App struct {
	AppKey
	PendingLimit     int
	CallsPerSecond   float64 // of all daemons together
	TargetsPerSecond float64 // of all daemons together
	Quiet            strategy.QuietHours
}

// A Campaign holds the parts of an active campaign that a forecast needs.
type Campaign struct {
	ID       int64
	Name     string
	App      AppKey
	Channel  string
	Zone     string
	Schedule strategy.Schedule
	Window   time.Duration // how late an occurrence may still be pushed
	Quiet    string        // hold, skip or ignore, which needs an exemption; empty: hold
	Misfire  string        // latest, all or skip; empty: latest
	Calls    int           // of an occurrence; 0 counts as one
	Targets  int           // of these calls; a call counts as one at least
	Spread   time.Duration // of the calls of an occurrence; zero: none
	Quota    int           // calls of the app's channel in any 7 days; zero: no quota
}

// A Call is a call that counts against a quota already.
type Call struct {
	App     AppKey
	Channel string
	At      time.Time
}

// A Stored is an occurrence that is stored already.
type Stored struct {
	CampaignID int64
	DueAt      time.Time
	Skipped    bool // it is not pushed; false: it is a pending task
}

// Input holds the present state. Campaigns beyond MaxCampaigns are left out.
type Input struct {
	Now, Until time.Time
	From       time.Time // earlier occurrences are left out; zero: none is
	Apps       []App
	Campaigns  []Campaign
	Calls      []Call   // of the last 7 days, on channels with a quota
	Stored     []Stored // pending tasks, and coming occurrences that were skipped
	Partial    bool     // there is more than the lists hold
}

// An Occurrence is a coming occurrence, or one that is due and waits.
type Occurrence struct {
	At       time.Time
	Campaign *Campaign
	Held     time.Time // until when quiet hours hold it; zero: they do not hold it
	Planned  bool      // it is no task yet
	Silent   bool      // quiet hours keep it from being pushed at all
	app      int32     // the number of the campaign's app, by which apps are counted
}

// begins returns when the occurrence is pushed, as far as quiet hours decide.
func (o *Occurrence) begins() time.Time {
	if o.Held.IsZero() {
		return o.At
	}
	return o.Held
}

// A Push is one occurrence that is not pushed as planned.
type Push struct {
	CampaignID int64     `json:"campaign_id"`
	Campaign   string    `json:"campaign"`
	AppID      string    `json:"app_id"`
	Workspace  string    `json:"workspace_id"`
	Channel    string    `json:"channel"`
	DueAt      time.Time `json:"due_at"`
	Zone       string    `json:"time_zone"`
	FreeAt     time.Time `json:"free_at"` // when a call of the quota is free for it
}

// A Peak is a second in which more occurrences are due than an app may have pending.
type Peak struct {
	AppID     string    `json:"app_id"`
	Workspace string    `json:"workspace_id"`
	At        time.Time `json:"at"`
	Due       int       `json:"due"`
	Limit     int       `json:"limit"`
}

// A Burst is a series of calls that the app's calls or targets per second hold
// back. Last is when the last of the calls goes out.
type Burst struct {
	AppID     string    `json:"app_id"`
	Workspace string    `json:"workspace_id"`
	From      time.Time `json:"from"`
	Last      time.Time `json:"last"`
	Calls     int       `json:"calls"`
}

// A SpreadOut is an occurrence whose calls go out over a while. Last is when the last
// call goes out, if the app's rate serves this occurrence alone.
type SpreadOut struct {
	CampaignID int64     `json:"campaign_id"`
	Campaign   string    `json:"campaign"`
	From       time.Time `json:"from"`
	Last       time.Time `json:"last"`
	Calls      int       `json:"calls"`
	Zone       string    `json:"time_zone"`
}

// A Repeat is a campaign that reaches the same users more than once in 7 days.
type Repeat struct {
	CampaignID int64     `json:"campaign_id"`
	Campaign   string    `json:"campaign"`
	Channel    string    `json:"channel"`
	From       time.Time `json:"from"`
	Times      int       `json:"times"`
	Zone       string    `json:"time_zone"`
}

// An End is a loop whose last occurrence lies within the forecast.
type End struct {
	CampaignID int64     `json:"campaign_id"`
	Campaign   string    `json:"campaign"`
	Last       time.Time `json:"last"`
	Zone       string    `json:"time_zone"`
}

// A Result is a forecast until Until, which may be earlier than Input.Until.
// Each list is in the order of time.
type Result struct {
	Until       time.Time   `json:"until"`
	Occurrences int         `json:"occurrences"`
	AtLeast     bool        `json:"at_least"` // not everything was looked at, so there may be more
	Waiting     []Push      `json:"waiting"`  // pushes that wait for a quota within their window
	Missed      []Push      `json:"missed"`   // pushes for which the quota is free too late
	Held        []Push      `json:"held"`     // pushes held until quiet hours end, at free_at
	Silent      []Push      `json:"silent"`   // pushes left out for quiet hours, or overtaken by a later one within them
	Peaks       []Peak      `json:"peaks"`
	Bursts      []Burst     `json:"bursts"`
	Spreads     []SpreadOut `json:"spreads"`
	Repeats     []Repeat    `json:"repeats"`
	Ends        []End       `json:"ends"`

	Coming []Occurrence `json:"-"` // all of them, by time

	calls map[quotaKey][]time.Time // of each quota, including calls that were made already
}

// Make works the forecast out. It takes time in proportion to the occurrences.
func Make(in Input) Result {
	if most := later(in.Now, in.From).Add(MaxAhead); in.Until.After(most) {
		in.Until, in.Partial = most, true
	}
	r := Result{Until: in.Until, Waiting: []Push{}, Missed: []Push{}, Held: []Push{}, Silent: []Push{}, Peaks: []Peak{}, Bursts: []Burst{}, Spreads: []SpreadOut{}, Repeats: []Repeat{}, Ends: []End{}}
	campaigns := in.Campaigns
	if len(campaigns) > MaxCampaigns {
		campaigns, r.AtLeast = campaigns[:MaxCampaigns], true
	}
	r.AtLeast = r.AtLeast || in.Partial
	numbers := appNumbers(campaigns)
	all := occurrences(campaigns, in, numbers)
	if len(all) > MaxOccurrences {
		all, r.AtLeast = all[:MaxOccurrences], true
		r.Until = all[MaxOccurrences-1].At
	}
	r.Occurrences, r.Coming = len(all), all
	quiet := quietHours(in.Apps)
	pushed := r.quiet(all, quiet, in.Now)
	r.quotas(pushed, quiet, in)
	r.peaks(all, in.Now, in.Apps, numbers)
	rates := ratesOf(in.Apps)
	r.bursts(pushed, in.Now, rates)
	r.spreads(pushed, quiet, in.Now, rates)
	r.repeats(pushed)
	for i := range campaigns {
		c := &campaigns[i]
		if last := c.Schedule.Last(); last.After(in.Now) && !last.After(r.Until) {
			r.Ends = append(r.Ends, End{c.ID, c.Name, last, c.Zone})
		}
	}
	slices.SortFunc(r.Ends, func(a, b End) int { return cmp.Or(a.Last.Compare(b.Last), cmp.Compare(a.CampaignID, b.CampaignID)) })
	return r
}

// occurrences lists the occurrences after now and until Input.Until, and the
// pending tasks that are due already, the earliest first. It ends with the
// first one beyond the bound.
func occurrences(campaigns []Campaign, in Input, numbers map[AppKey]int32) []Occurrence {
	from := later(in.Now, in.From)
	stored := storedOf(in.Stored)
	apps := make([]int32, len(campaigns)) // their numbers
	var out []Occurrence
	var next []coming
	base, until := from.UnixMicro(), in.Until.UnixMicro() // in microseconds, as the database keeps times
	for i := range campaigns {
		c := &campaigns[i]
		apps[i] = numbers[c.App]
		known := stored[c.ID] // by time, as the schedule's occurrences come
		for len(known) > 0 && !known[0].DueAt.After(in.Now) {
			if !known[0].Skipped {
				out = append(out, Occurrence{At: known[0].DueAt, Campaign: c, app: apps[i]})
			}
			known = known[1:]
		}
		for t := c.Schedule.Next(from); !t.IsZero(); t = c.Schedule.Next(t) {
			at := t.UnixMicro()
			if at > until {
				break
			}
			for len(known) > 0 && known[0].DueAt.UnixMicro() < at {
				known = known[1:]
			}
			planned := len(known) == 0 || known[0].DueAt.UnixMicro() > at
			if !planned && known[0].Skipped {
				continue
			}
			if len(next) == cap(next) { // append would copy a list of thousands again and again
				next = slices.Grow(next, max(len(next), len(campaigns)))
			}
			next = append(next, newComing(at-base, i, planned))
			// Later ones than a forecast holds are not worked out, however far ahead it looks.
			if len(next) > 2*MaxOccurrences {
				slices.Sort(next)
				next = next[:MaxOccurrences+1]
				until = base + next[MaxOccurrences].after()
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Occurrence) int { return a.At.Compare(b.At) })
	slices.Sort(next)
	next = next[:min(len(next), max(MaxOccurrences+1-len(out), 0))]
	out = slices.Grow(out, len(next))
	for _, o := range next {
		out = append(out, Occurrence{At: time.UnixMicro(base + o.after()).UTC(), Campaign: &campaigns[o.place()], Planned: o.planned(), app: apps[o.place()]})
	}
	return out
}

// appNumbers numbers the apps of the campaigns.
func appNumbers(campaigns []Campaign) map[AppKey]int32 {
	numbers := make(map[AppKey]int32)
	for i := range campaigns {
		app := campaigns[i].App
		if _, numbered := numbers[app]; !numbered {
			numbers[app] = int32(len(numbers)) //nolint:gosec // there are at most MaxCampaigns
		}
	}
	return numbers
}

// storedOf returns the stored occurrences of each campaign by time, and at one instant
// the skipped ones first.
func storedOf(list []Stored) map[int64][]Stored {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Stored) int {
		c := cmp.Or(cmp.Compare(a.CampaignID, b.CampaignID), a.DueAt.Compare(b.DueAt))
		if c == 0 && a.Skipped != b.Skipped {
			c = 1
			if a.Skipped {
				c = -1
			}
		}
		return c
	})
	out := make(map[int64][]Stored)
	for first := 0; first < len(list); {
		end := first + 1
		for end < len(list) && list[end].CampaignID == list[first].CampaignID {
			end++
		}
		out[list[first].CampaignID] = list[first:end]
		first = end
	}
	return out
}

// A coming is an occurrence after now as one number, since there may be many to sort:
// by time, and at one instant by its campaign's place in the list. The last bit says
// that it is no task yet.
type coming uint64

// Bits of a coming. A place is below MaxCampaigns; the other bits hold MaxAhead.
const (
	placeBits = 13
	timeShift = placeBits + 1
)

const _ = uint(1<<placeBits-MaxCampaigns) + uint(1<<(64-timeShift)-MaxAhead/time.Microsecond) // they do

// newComing makes one. after is in microseconds.
func newComing(after int64, place int, planned bool) coming {
	c := coming(after)<<timeShift | coming(place)<<1 //nolint:gosec // neither is negative
	if planned {
		c |= 1
	}
	return c
}

func (c coming) after() int64  { return int64(c >> timeShift) }            //nolint:gosec // it has 50 bits
func (c coming) place() int    { return int(c >> 1 & (1<<placeBits - 1)) } //nolint:gosec // it has 13 bits
func (c coming) planned() bool { return c&1 == 1 }

// later returns the later of two instants.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// quietHours returns the quiet hours of each app that has some.
func quietHours(apps []App) map[AppKey]strategy.QuietHours {
	out := make(map[AppKey]strategy.QuietHours)
	for _, a := range apps {
		if !a.Quiet.None() {
			out[a.AppKey] = a.Quiet
		}
	}
	return out
}

// hours returns the quiet hours that hold a campaign: its app's, or none where the
// campaign ignores them.
func (c *Campaign) hours(quiet map[AppKey]strategy.QuietHours) strategy.QuietHours {
	if c.Quiet == "ignore" {
		return strategy.QuietHours{}
	}
	return quiet[c.App]
}

// quiet notes which occurrences quiet hours hold or leave out. It returns those
// that are pushed, in the order in which they begin.
func (r *Result) quiet(all []Occurrence, quiet map[AppKey]strategy.QuietHours, now time.Time) []Occurrence {
	if len(quiet) == 0 {
		return all
	}
	pushed := make([]Occurrence, 0, len(all))
	for i := range all {
		o := &all[i]
		c, q := o.Campaign, o.Campaign.hours(quiet)
		o.Held = q.End(later(o.At, now))
		push := Push{c.ID, c.Name, c.App.AppID, c.App.WorkspaceID, c.Channel, o.At, c.Zone, o.Held}
		switch {
		case o.Held.IsZero():
		case c.Quiet == "skip" && !q.End(o.At).IsZero(), overtaken(c, o):
			o.Silent = true
			r.Silent = append(r.Silent, push)
			continue
		default:
			r.Held = append(r.Held, push)
		}
		pushed = append(pushed, *o)
	}
	slices.SortStableFunc(pushed, func(a, b Occurrence) int { return a.begins().Compare(b.begins()) })
	return pushed
}

// overtaken says whether a held occurrence is not pushed, since a later one of its
// campaign is due by when it could be.
func overtaken(c *Campaign, o *Occurrence) bool {
	next := c.Schedule.Next(o.At)
	return c.Misfire != "all" && !next.IsZero() && !next.After(o.Held)
}

// A quotaKey names the app and channel of a quota.
type quotaKey struct {
	app     AppKey
	channel string
}

// quotas follows each quota through the occurrences. Occurrences that wait are
// served in the order of their due times, so the calls of a quota ascend.
func (r *Result) quotas(all []Occurrence, quiet map[AppKey]strategy.QuietHours, in Input) {
	calls := make(map[quotaKey][]time.Time)
	for _, c := range in.Calls {
		key := quotaKey{c.App, c.Channel}
		calls[key] = append(calls[key], c.At)
	}
	for _, list := range calls {
		slices.SortFunc(list, time.Time.Compare)
	}
	for _, o := range all {
		c := o.Campaign
		if c.Quota <= 0 {
			continue
		}
		key := quotaKey{c.App, c.Channel}
		for range max(c.Calls, 1) {
			made := calls[key]
			ready := later(o.begins(), in.Now)
			at := ready
			if len(made) >= c.Quota {
				if free := made[len(made)-c.Quota].Add(Week); free.After(at) {
					at = free
				}
			}
			q := c.hours(quiet)
			at = later(at, q.End(at))
			closes := q.WindowFrom(o.At, c.Window).Add(c.Window)
			push := Push{c.ID, c.Name, c.App.AppID, c.App.WorkspaceID, c.Channel, o.At, c.Zone, at}
			// A call is made a moment after its task is due, and counts from then. So a
			// call that is free only when the window closes comes too late.
			if at.After(ready) && !at.Before(closes) {
				r.Missed = append(r.Missed, push)
				break
			}
			if at.After(ready) {
				r.Waiting = append(r.Waiting, push)
			}
			calls[key] = append(made, at)
		}
	}
	r.calls = calls
}

// peaks finds the seconds in which more occurrences are due than may be
// pending. Occurrences beyond the limit follow as fast as the first ones begin;
// none is lost.
func (r *Result) peaks(all []Occurrence, now time.Time, apps []App, numbers map[AppKey]int32) {
	type counted struct {
		*App
		due int
	}
	limited, lowest := make([]counted, len(numbers)), math.MaxInt
	for i, a := range apps {
		if n, has := numbers[a.AppKey]; has && a.PendingLimit > 0 {
			limited[n].App, lowest = &apps[i], min(lowest, a.PendingLimit)
		}
	}
	// They come with the earliest first, so that one second is looked at at a time.
	for first := 0; first < len(all); {
		at, end := all[first].At.Unix(), first+1
		for end < len(all) && all[end].At.Unix() == at {
			end++
		}
		second := all[first:end]
		first = end
		if len(second) <= lowest { // no app can have more
			continue
		}
		for i := range second {
			if o := &second[i]; o.At.After(now) {
				limited[o.app].due++
			}
		}
		for i := range second {
			c := &limited[second[i].app]
			if c.App != nil && c.due > c.PendingLimit {
				r.Peaks = append(r.Peaks, Peak{c.AppID, c.WorkspaceID, time.Unix(at, 0).UTC(), c.due, c.PendingLimit})
			}
			c.due = 0
		}
	}
	slices.SortFunc(r.Peaks, func(a, b Peak) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.AppID, b.AppID), cmp.Compare(a.Workspace, b.Workspace))
	})
}

// least is the shortest delay for which a burst is reported.
const least = time.Second

// A rate holds the calls and targets that an app's bounds allow in a second;
// zero: no bound.
type rate struct{ calls, targets float64 }

// ratesOf returns the bounds of the apps that have some.
func ratesOf(apps []App) map[AppKey]rate {
	rates := make(map[AppKey]rate)
	for _, a := range apps {
		if r := (rate{a.CallsPerSecond, a.TargetsPerSecond}); r != (rate{}) {
			rates[a.AppKey] = r
		}
	}
	return rates
}

// takes returns how long after the first of the calls the last one goes out.
func (r rate) takes(calls, targets int) time.Duration {
	second := dispatch.SecondOfBounds.Seconds()
	var apart float64
	if r.calls > 0 {
		apart = max(1/r.calls, second/math.Ceil(r.calls))
	}
	if r.targets > 0 { // a second has whole calls
		ofCall := float64(targets) / float64(calls)
		apart = max(apart, ofCall/r.targets, second/max(math.Floor(r.targets/ofCall), 1))
	}
	return time.Duration(math.Round(float64(calls-1) * apart * float64(time.Second)))
}

// size returns how many calls an occurrence needs, and for how many targets they count.
func (c *Campaign) size() (calls, targets int) {
	calls = max(c.Calls, 1)
	return calls, max(c.Targets, calls)
}

// isSpread says whether the calls of an occurrence go out over a while.
func (c *Campaign) isSpread() bool { return c.Spread > 0 && c.Calls > 1 }

// bursts follows each app's calls through its rate. It leaves out spread
// occurrences, whose calls go out beside the others.
func (r *Result) bursts(all []Occurrence, now time.Time, rates map[AppKey]rate) {
	type busyApp struct {
		Burst
		targets int
	}
	busy := make(map[AppKey]*busyApp)
	end := func(b *busyApp) {
		if b != nil && b.Last.Sub(b.From) >= least {
			r.Bursts = append(r.Bursts, b.Burst)
		}
	}
	for _, o := range all {
		rate, ok := rates[o.Campaign.App]
		if !ok || o.Campaign.isSpread() {
			continue
		}
		b, at := busy[o.Campaign.App], later(o.begins(), now)
		if b == nil || at.After(b.Last) {
			end(b)
			b = &busyApp{Burst: Burst{o.Campaign.App.AppID, o.Campaign.App.WorkspaceID, at, at, 0}}
			busy[o.Campaign.App] = b
		}
		calls, targets := o.Campaign.size()
		b.Calls, b.targets = b.Calls+calls, b.targets+targets
		b.Last = b.From.Add(rate.takes(b.Calls, b.targets))
	}
	for _, b := range busy {
		end(b)
	}
	slices.SortFunc(r.Bursts, func(a, b Burst) int {
		return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.AppID, b.AppID), cmp.Compare(a.Workspace, b.Workspace))
	})
}

// spreads works out when the last call of each spread occurrence goes out. The
// window may shorten the spread, and the app's rate may lengthen it.
func (r *Result) spreads(all []Occurrence, quiet map[AppKey]strategy.QuietHours, now time.Time, rates map[AppKey]rate) {
	for _, o := range all {
		c := o.Campaign
		if !c.isSpread() {
			continue
		}
		q := c.hours(quiet)
		at, closes := later(o.begins(), now), q.WindowFrom(o.At, c.Window).Add(c.Window)
		left := closes.Sub(at)
		over := max(min(c.Spread, left-min(time.Minute, left/10)), 0)
		calls, targets := c.size()
		last := max(time.Duration(float64(over)*float64(calls-1)/float64(calls)), rates[c.App].takes(calls, targets))
		r.Spreads = append(r.Spreads, SpreadOut{c.ID, c.Name, at, q.Outside(at, last, closes), calls, c.Zone})
	}
}

// repeats finds campaigns whose channel chooses the audience itself, so that
// every call reaches the same users, and that push more than once in a week.
func (r *Result) repeats(all []Occurrence) {
	times := make(map[*Campaign][]time.Time)
	var order []*Campaign
	for _, o := range all {
		if o.Campaign.Quota <= 0 {
			continue
		}
		if times[o.Campaign] == nil {
			order = append(order, o.Campaign)
		}
		times[o.Campaign] = append(times[o.Campaign], o.begins())
	}
	for _, c := range order {
		if most, from := BusiestWeek(times[c]); most > 1 {
			r.Repeats = append(r.Repeats, Repeat{c.ID, c.Name, c.Channel, from, most, c.Zone})
		}
	}
}

// BusiestWeek returns the largest number of the times in any 7 x 24 h, and when
// the first such week begins. The times must ascend.
func BusiestWeek(times []time.Time) (most int, from time.Time) {
	end := 0
	for i, t := range times {
		for end < len(times) && times[end].Sub(t) < Week {
			end++
		}
		if end-i > most {
			most, from = end-i, t
		}
	}
	return most, from
}
