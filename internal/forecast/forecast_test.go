package forecast_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/strategy"
)

var (
	now  = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC) // a Monday
	life = forecast.AppKey{AppID: "life"}
)

// daily pushes every day at a time of day from tomorrow on, for some days.
func daily(t testing.TB, at string, days int) strategy.Schedule {
	t.Helper()
	content := fmt.Sprintf(`{"startTime": %d, "endTime": %d, "circleType": 1, "time": %q}`,
		now.AddDate(0, 0, 1).UnixMilli(), now.AddDate(0, 0, days).UnixMilli(), at)
	s, _, err := strategy.Parse(strategy.Spec{
		Type: strategy.Loop, Content: []byte(content), Zone: "UTC", ShortMonth: strategy.ShortMonthSkip, DSTGap: strategy.DSTGapShift, CatchUpWindow: time.Hour, WrittenAt: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func label(id int64, s strategy.Schedule, window time.Duration) forecast.Campaign {
	return forecast.Campaign{ID: id, Name: fmt.Sprint("c", id), App: life, Channel: "alipay.label_send", Zone: "UTC", Schedule: s, Window: window, Quota: 5}
}

func dues(list []forecast.Push) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.DueAt.Format("01-02 15h")+" free "+p.FreeAt.Format("01-02 15h"))
	}
	return out
}

// Five calls in any seven days: the sixth and seventh day's are missed where the
// window is short, and the next week starts with the first that is free.
func TestQuota(t *testing.T) {
	t.Parallel()
	in := forecast.Input{Now: now, Until: now.AddDate(0, 0, 9), Campaigns: []forecast.Campaign{label(1, daily(t, "10:00:00", 9), time.Hour)}}
	r := forecast.Make(in)
	if diff := cmp.Diff([]string{"11-08 10h free 11-10 10h", "11-09 10h free 11-10 10h"}, dues(r.Missed)); diff != "" {
		t.Errorf("missed (-want +got):\n%s", diff)
	}
	if len(r.Waiting) != 0 {
		t.Errorf("waiting: %v", dues(r.Waiting))
	}
	in.Campaigns[0].Window = 49 * time.Hour
	r = forecast.Make(in)
	if diff := cmp.Diff([]string{"11-08 10h free 11-10 10h", "11-09 10h free 11-11 10h"}, dues(r.Waiting[:2])); diff != "" {
		t.Errorf("waiting with a window of two days (-want +got):\n%s", diff)
	}
	in.Campaigns[0].Window = time.Hour
	in.Calls = []forecast.Call{{life, "alipay.label_send", now.Add(-time.Hour)}, {life, "alipay.label_send", now.Add(-2 * time.Hour)}}
	if r = forecast.Make(in); len(r.Missed) == 0 || dues(r.Missed)[0] != "11-06 10h free 11-08 22h" {
		t.Errorf("with two calls made already: %v", dues(r.Missed))
	}
	if len(r.Repeats) != 1 || r.Repeats[0].Times != 7 {
		t.Errorf("repeats: %+v", r.Repeats)
	}
}

func TestPeaksBurstsAndEnds(t *testing.T) {
	t.Parallel()
	shop := forecast.AppKey{AppID: "shop", WorkspaceID: "test"}
	in := forecast.Input{Now: now, Until: now.AddDate(0, 0, 2), Apps: []forecast.App{{AppKey: shop, PendingLimit: 3, CallsPerSecond: 2}}}
	for id := range int64(5) {
		in.Campaigns = append(in.Campaigns, forecast.Campaign{ID: id, App: shop, Schedule: daily(t, "10:00:00", 1), Window: time.Hour, Calls: 2})
	}
	r := forecast.Make(in)
	at := now.AddDate(0, 0, 1).Add(10 * time.Hour)
	if diff := cmp.Diff([]forecast.Peak{{AppID: "shop", Workspace: "test", At: at, Due: 5, Limit: 3}}, r.Peaks); diff != "" {
		t.Errorf("peaks (-want +got):\n%s", diff)
	}
	want := []forecast.Burst{{AppID: "shop", Workspace: "test", From: at, Last: at.Add(9 * dispatch.SecondOfBounds / 2), Calls: 10}}
	if diff := cmp.Diff(want, r.Bursts); diff != "" {
		t.Errorf("bursts (-want +got):\n%s", diff)
	}
	if len(r.Ends) != 5 || !r.Ends[0].Last.Equal(at) {
		t.Errorf("ends: %+v", r.Ends)
	}
	if r.Occurrences != 5 || r.AtLeast {
		t.Errorf("%d occurrences, at least %v", r.Occurrences, r.AtLeast)
	}
}

func TestBeyondTheBoundsItSaysAtLeast(t *testing.T) {
	t.Parallel()
	s := daily(t, "10:00:00", 1)
	in := forecast.Input{Now: now, Until: now.AddDate(0, 0, 2), Campaigns: make([]forecast.Campaign, forecast.MaxCampaigns+1)}
	for i := range in.Campaigns {
		in.Campaigns[i].Schedule = s
	}
	if r := forecast.Make(in); !r.AtLeast || r.Occurrences != forecast.MaxCampaigns {
		t.Errorf("%d occurrences, at least %v", r.Occurrences, r.AtLeast)
	}
}

// However far ahead a forecast looks, it works out no more than it holds, the earliest
// first. These campaigns have 597,000 occurrences.
func TestFarAheadItEndsAtTheBound(t *testing.T) {
	t.Parallel()
	s := daily(t, "10:00:00", 150)
	in := forecast.Input{Now: now, Until: now.AddDate(1, 0, 0), Campaigns: make([]forecast.Campaign, 3980)}
	for i := range in.Campaigns {
		in.Campaigns[i] = forecast.Campaign{ID: int64(i + 1), Schedule: s}
	}
	r := forecast.Make(in)
	// Fifty days have them all, the next has a thousand of them.
	last := now.AddDate(0, 0, 51).Add(10 * time.Hour)
	if !r.AtLeast || r.Occurrences != forecast.MaxOccurrences || !r.Until.Equal(last) {
		t.Errorf("%d occurrences until %v, at least %v; want %d until %v", r.Occurrences, r.Until, r.AtLeast, forecast.MaxOccurrences, last)
	}
	if first, end := r.Coming[0], r.Coming[len(r.Coming)-1]; !first.At.Equal(now.AddDate(0, 0, 1).Add(10*time.Hour)) || end.Campaign.ID != 1000 {
		t.Errorf("the first is at %v, the last is campaign %d's", first.At, end.Campaign.ID)
	}
	in.From = now.AddDate(0, 0, 120)
	in.Until = in.From.AddDate(0, 0, 2)
	if r = forecast.Make(in); r.AtLeast || r.Occurrences != 2*3980 || r.Coming[0].At.Before(in.From) {
		t.Errorf("of two days in four months: %d occurrences from %v, at least %v", r.Occurrences, r.Coming[0].At, r.AtLeast)
	}
}

// Held against the plainest model of the rule there is: time goes on from event
// to event, and whoever is due the longest takes a call when the last seven days
// have room.
func TestQuotaAgainstAModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(rt, "campaigns")
		window := time.Duration(rapid.IntRange(1, 100).Draw(rt, "window")) * time.Hour
		quota := rapid.IntRange(1, 6).Draw(rt, "quota")
		in := forecast.Input{Now: now, Until: now.AddDate(0, 0, 30)}
		var due []time.Time
		for i := range n {
			days := rapid.IntRange(1, 30).Draw(rt, "days")
			clock := fmt.Sprintf("%02d:00:00", rapid.IntRange(0, 23).Draw(rt, "hour"))
			c := label(int64(i), daily(t, clock, days), window)
			c.Quota = quota
			in.Campaigns = append(in.Campaigns, c)
			for at := c.Schedule.Next(now); !at.IsZero() && !at.After(in.Until); at = c.Schedule.Next(at) {
				due = append(due, at)
			}
		}
		missed, waited := model(due, window, quota)
		r := forecast.Make(in)
		if len(r.Missed) != missed || len(r.Waiting) != waited {
			rt.Fatalf("forecast: %d missed, %d waiting; model: %d, %d", len(r.Missed), len(r.Waiting), missed, waited)
		}
	})
}

// model goes through the hours one by one.
func model(due []time.Time, window time.Duration, quota int) (missed, waited int) {
	var calls, queue []time.Time
	for at := now; at.Before(now.AddDate(0, 0, 60)); at = at.Add(time.Hour) {
		for _, d := range due {
			if d.Equal(at) {
				queue = append(queue, d)
			}
		}
		var left []time.Time
		for _, d := range queue {
			recent := 0
			for _, c := range calls {
				if at.Sub(c) < forecast.Week {
					recent++
				}
			}
			switch {
			case at.After(d) && !at.Before(d.Add(window)):
				missed++
			case recent < quota:
				calls = append(calls, at)
				if at.After(d) {
					waited++
				}
			default:
				left = append(left, d)
			}
		}
		queue = left
	}
	return missed, waited
}

// What the database knows already counts: a skipped occurrence takes no call, and
// a task that is due and waits takes the first.
func TestStoredOccurrences(t *testing.T) {
	t.Parallel()
	s := daily(t, "10:00:00", 3)
	first := s.Next(now)
	c := label(1, s, 24*time.Hour)
	c.Quota = 2
	in := forecast.Input{
		Now: now, Until: now.AddDate(0, 0, 9), Campaigns: []forecast.Campaign{c},
		Stored: []forecast.Stored{{CampaignID: 1, DueAt: first}, {CampaignID: 1, DueAt: s.Next(first), Skipped: true}, {CampaignID: 1, DueAt: now.Add(-time.Hour)}},
	}
	r := forecast.Make(in)
	var coming []string
	for _, o := range r.Coming {
		coming = append(coming, fmt.Sprint(o.At.Format("01-02 15h"), " planned ", o.Planned))
	}
	if diff := cmp.Diff([]string{"11-01 23h planned false", "11-03 10h planned false", "11-05 10h planned true"}, coming); diff != "" {
		t.Errorf("what is to come (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"11-05 10h free 11-09 00h"}, dues(r.Missed)); diff != "" || len(r.Waiting) > 0 {
		t.Errorf("missed (-want +got):\n%s\nwaiting: %v", diff, dues(r.Waiting))
	}
	in.Partial = true
	if !forecast.Make(in).AtLeast {
		t.Error("a part of the rows does not make it say \"at least\"")
	}
	// In whatever order they are read, a skip counts more than the task that it ends.
	second := s.Next(first)
	in.Stored = []forecast.Stored{{CampaignID: 1, DueAt: second, Skipped: true}, {CampaignID: 2, DueAt: first}, {CampaignID: 1, DueAt: second}, {CampaignID: 1, DueAt: first}}
	r = forecast.Make(in)
	if len(r.Coming) != 2 || !r.Coming[0].At.Equal(first) || r.Coming[0].Planned || !r.Coming[1].At.Equal(s.Next(second)) || !r.Coming[1].Planned {
		t.Errorf("with a skipped task: %+v", r.Coming)
	}
}

// A forecast looks thirty years ahead at most, and says so.
func TestNoFurtherThanMaxAhead(t *testing.T) {
	t.Parallel()
	at := now.Add(forecast.MaxAhead)
	in := forecast.Input{Now: now, Until: at, Campaigns: []forecast.Campaign{{ID: 1, Schedule: daily(t, "10:00:00", 3)}}}
	if r := forecast.Make(in); r.AtLeast || len(r.Coming) != 3 || !r.Until.Equal(at) {
		t.Errorf("so far ahead: until %v, at least %v", r.Until, r.AtLeast)
	}
	in.Until = at.Add(time.Hour)
	if r := forecast.Make(in); !r.AtLeast || !r.Until.Equal(at) {
		t.Errorf("further ahead: until %v, at least %v", r.Until, r.AtLeast)
	}
}

// An occurrence whose calls are spread: when the last of them goes out, by the spread,
// the window's end and the app's rate.
func TestSpreads(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		app            forecast.App
		calls, targets int
		spread, window time.Duration
		want           time.Duration // from the first to the last; negative: it is not spread
	}{
		{"none", forecast.App{}, 10, 1000, 0, time.Hour, -1},
		{"one call", forecast.App{}, 1, 100, time.Minute, time.Hour, -1},
		{"by the spread", forecast.App{}, 10, 1000, 10 * time.Minute, time.Hour, 9 * time.Minute},
		{"by the window", forecast.App{}, 10, 1000, time.Hour, time.Hour, 59 * time.Minute * 9 / 10},
		{"by calls per second", forecast.App{CallsPerSecond: 0.01}, 10, 1000, 10 * time.Minute, time.Hour, 900 * time.Second},
		{"by targets per second", forecast.App{TargetsPerSecond: 1}, 10, 1000, 10 * time.Minute, time.Hour, 900 * time.Second},
		{"the rate is no bound", forecast.App{CallsPerSecond: 1, TargetsPerSecond: 100}, 10, 1000, 10 * time.Minute, time.Hour, 9 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.app.AppKey = life
			in := forecast.Input{Now: now, Until: now.AddDate(0, 0, 2), Apps: []forecast.App{c.app}, Campaigns: []forecast.Campaign{
				{ID: 1, Name: "c", App: life, Zone: "UTC", Schedule: daily(t, "10:00:00", 1), Window: c.window, Calls: c.calls, Targets: c.targets, Spread: c.spread},
			}}
			r := forecast.Make(in)
			if c.want < 0 {
				if len(r.Spreads) > 0 {
					t.Errorf("spread: %+v", r.Spreads)
				}
				return
			}
			if len(r.Spreads) != 1 || r.Spreads[0].Last.Sub(r.Spreads[0].From) != c.want || r.Spreads[0].Calls != c.calls || len(r.Bursts) > 0 {
				t.Errorf("spread %+v, want %v; bursts %+v", r.Spreads, c.want, r.Bursts)
			}
		})
	}
}

// Targets per second hold a burst back as calls per second do, whichever is slower.
func TestBurstsOfTargets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		app  forecast.App
		want time.Duration
	}{
		{forecast.App{TargetsPerSecond: 100}, 19 * dispatch.SecondOfBounds}, // 20 calls of 100 targets
		{forecast.App{TargetsPerSecond: 150}, 19 * dispatch.SecondOfBounds}, // one more would be above the bound
		{forecast.App{TargetsPerSecond: 50}, 38 * time.Second},
		{forecast.App{CallsPerSecond: 2, TargetsPerSecond: 1000}, 19 * dispatch.SecondOfBounds / 2},
	} {
		c.app.AppKey = life
		in := forecast.Input{Now: now, Until: now.AddDate(0, 0, 2), Apps: []forecast.App{c.app}}
		for id := range int64(2) {
			in.Campaigns = append(in.Campaigns, forecast.Campaign{ID: id + 1, App: life, Schedule: daily(t, "10:00:00", 1), Window: time.Hour, Calls: 10, Targets: 1000})
		}
		r := forecast.Make(in)
		if len(r.Bursts) != 1 || r.Bursts[0].Calls != 20 || r.Bursts[0].Last.Sub(r.Bursts[0].From) != c.want {
			t.Errorf("%+v: bursts %+v, want one of 20 calls in %v", c.app, r.Bursts, c.want)
		}
	}
}
