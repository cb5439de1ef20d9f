package forecast_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/forecast"
)

// An oracleCampaign is a daily campaign as plain numbers, from which the oracle
// works out everything by itself: it asks no Schedule and no function of the
// forecast.
type oracleCampaign struct {
	id, app          int
	hour, minute     int
	days             int // it pushes on the days 1 to days after today
	calls, quota     int
	skipped, waiting int // the day that is skipped, 0: none; 1: one is due since an hour and waits
}

// due are the instants at which it is due until then, with the one that waits.
func (c oracleCampaign) due(until time.Time) []time.Time {
	var out []time.Time
	if c.waiting == 1 {
		out = append(out, now.Add(-time.Hour))
	}
	for day := 1; day <= c.days; day++ {
		at := time.Date(now.Year(), now.Month(), now.Day()+day, c.hour, c.minute, 0, 0, time.UTC)
		if day != c.skipped && !at.After(until) {
			out = append(out, at)
		}
	}
	return out
}

// drawCampaigns draws campaigns that often fall into the same seconds and follow
// each other closely.
func drawCampaigns(rt *rapid.T, apps int) []oracleCampaign {
	var out []oracleCampaign
	for id := range rapid.IntRange(1, 8).Draw(rt, "campaigns") {
		out = append(out, oracleCampaign{
			id: id + 1, app: rapid.IntRange(0, apps-1).Draw(rt, "app"),
			hour: rapid.IntRange(9, 10).Draw(rt, "hour"), minute: rapid.SampledFrom([]int{0, 0, 0, 1, 30}).Draw(rt, "minute"),
			days: rapid.IntRange(1, 20).Draw(rt, "days"), calls: rapid.SampledFrom([]int{0, 1, 2, 40, 500}).Draw(rt, "calls"),
			quota:   rapid.SampledFrom([]int{0, 0, 1000}).Draw(rt, "quota"),
			skipped: rapid.IntRange(0, 4).Draw(rt, "skipped"), waiting: rapid.SampledFrom([]int{0, 0, 1}).Draw(rt, "waiting"),
		})
	}
	return out
}

// asInput is what the forecast gets of them.
func asInput(t *testing.T, rt *rapid.T, list []oracleCampaign, apps []forecast.App, until time.Time) forecast.Input {
	t.Helper()
	in := forecast.Input{Now: now, Until: until, Apps: apps}
	for _, c := range list {
		schedule := daily(t, fmt.Sprintf("%02d:%02d:00", c.hour, c.minute), c.days)
		in.Campaigns = append(in.Campaigns, forecast.Campaign{
			ID: int64(c.id), Name: fmt.Sprint("c", c.id), App: apps[c.app].AppKey, Channel: "x", Zone: "UTC", Schedule: schedule, Window: time.Hour, Calls: c.calls, Quota: c.quota,
		})
		if c.skipped > 0 {
			at := time.Date(now.Year(), now.Month(), now.Day()+c.skipped, c.hour, c.minute, 0, 0, time.UTC)
			in.Stored = append(in.Stored, forecast.Stored{CampaignID: int64(c.id), DueAt: at, Skipped: true})
		}
		if c.waiting == 1 {
			in.Stored = append(in.Stored, forecast.Stored{CampaignID: int64(c.id), DueAt: now.Add(-time.Hour)})
		}
	}
	if rapid.Bool().Draw(rt, "with pending tasks") { // what is a task already changes nothing
		for _, c := range list {
			for _, at := range c.due(until)[:min(len(c.due(until)), 3)] {
				if at.After(now) {
					in.Stored = append(in.Stored, forecast.Stored{CampaignID: int64(c.id), DueAt: at})
				}
			}
		}
	}
	return in
}

// Peaks, bursts, repeats and ends are those that counting by hand finds, whatever
// is stored: each by the plainest way there is, minute by minute, call by call, week
// by week.
func TestPeaksBurstsRepeatsAndEndsAgainstAnOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var apps []forecast.App
		for i := range rapid.IntRange(1, 3).Draw(rt, "apps") {
			apps = append(apps, forecast.App{
				AppKey: forecast.AppKey{AppID: fmt.Sprint("app", i)}, PendingLimit: rapid.IntRange(0, 4).Draw(rt, "limit"),
				CallsPerSecond: rapid.SampledFrom([]float64{0, 1, 2, 5}).Draw(rt, "rate"),
			})
		}
		until := now.AddDate(0, 0, rapid.IntRange(1, 21).Draw(rt, "until"))
		list := drawCampaigns(rt, len(apps))
		got := forecast.Make(asInput(t, rt, list, apps, until))
		diff := func(what string, want, got any) {
			if d := gocmp.Diff(want, got); d != "" {
				rt.Errorf("%s (-oracle +forecast):\n%s\ncampaigns: %+v\napps: %+v", what, d, list, apps)
			}
		}
		diff("peaks", oraclePeaks(list, apps, until), got.Peaks)
		diff("bursts", oracleBursts(list, apps, until), got.Bursts)
		diff("repeats", oracleRepeats(list, until), timesOf(got.Repeats))
		diff("ends", oracleEnds(list, until), lastsOf(got.Ends))
	})
}

// oraclePeaks looks at each minute of the two hours of a day in which campaigns push.
func oraclePeaks(list []oracleCampaign, apps []forecast.App, until time.Time) []forecast.Peak {
	out := []forecast.Peak{}
	dues := make([][]time.Time, len(list))
	for i, c := range list {
		dues[i] = c.due(until)
	}
	for minute := range 30 * 120 {
		at := time.Date(now.Year(), now.Month(), now.Day()+minute/120, 9, minute%120, 0, 0, time.UTC)
		for i, app := range apps {
			n := 0
			for j, c := range list {
				if c.app == i && slices.ContainsFunc(dues[j], at.Equal) {
					n++
				}
			}
			if app.PendingLimit > 0 && n > app.PendingLimit {
				out = append(out, forecast.Peak{AppID: app.AppID, At: at, Due: n, Limit: app.PendingLimit})
			}
		}
	}
	return out
}

// oracleBursts lets each app make its calls one by one, in whole milliseconds: a
// call goes out when it is due and the one before is long enough ago. A stretch
// ends where a push finds nothing under way; it is told of from a second on.
func oracleBursts(list []oracleCampaign, apps []forecast.App, until time.Time) []forecast.Burst {
	out := []forecast.Burst{}
	for i, app := range apps {
		if app.CallsPerSecond == 0 {
			continue
		}
		gap := time.Duration(float64(dispatch.SecondOfBounds) / app.CallsPerSecond)
		type push struct {
			at    time.Time
			calls int
		}
		var pushes []push
		for _, c := range list {
			if c.app != i {
				continue
			}
			for _, at := range c.due(until) {
				if at.Before(now) {
					at = now
				}
				pushes = append(pushes, push{at, max(c.calls, 1)})
			}
		}
		slices.SortStableFunc(pushes, func(a, b push) int { return a.at.Compare(b.at) })
		var stretches []forecast.Burst
		for _, p := range pushes {
			if n := len(stretches); n == 0 || p.at.After(stretches[n-1].Last) {
				stretches = append(stretches, forecast.Burst{AppID: app.AppID, From: p.at, Last: p.at.Add(-gap)})
			}
			b := &stretches[len(stretches)-1]
			for range p.calls {
				b.Last, b.Calls = b.Last.Add(gap), b.Calls+1
			}
		}
		for _, b := range stretches {
			if b.Last.Sub(b.From) >= time.Second {
				out = append(out, b)
			}
		}
	}
	slices.SortFunc(out, func(a, b forecast.Burst) int { return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.AppID, b.AppID)) })
	return out
}

// oracleRepeats counts for each push of a campaign with a quota those of the seven
// days that begin with it.
func oracleRepeats(list []oracleCampaign, until time.Time) map[string]int {
	out := map[string]int{}
	for _, c := range list {
		for _, from := range c.due(until) {
			n := 0
			for _, at := range c.due(until) {
				if !at.Before(from) && at.Before(from.AddDate(0, 0, 7)) {
					n++
				}
			}
			if c.quota > 0 && n > max(out[fmt.Sprint("c", c.id)], 1) {
				out[fmt.Sprint("c", c.id)] = n
			}
		}
	}
	return out
}

// oracleEnds are the campaigns whose last day lies within, skipped or not.
func oracleEnds(list []oracleCampaign, until time.Time) map[string]time.Time {
	out := map[string]time.Time{}
	for _, c := range list {
		last := time.Date(now.Year(), now.Month(), now.Day()+c.days, c.hour, c.minute, 0, 0, time.UTC)
		if !last.After(until) {
			out[fmt.Sprint("c", c.id)] = last
		}
	}
	return out
}

func timesOf(list []forecast.Repeat) map[string]int {
	out := map[string]int{}
	for _, r := range list {
		out[r.Campaign] = r.Times
	}
	return out
}

func lastsOf(list []forecast.End) map[string]time.Time {
	out := map[string]time.Time{}
	for _, e := range list {
		out[e.Campaign] = e.Last
	}
	return out
}
