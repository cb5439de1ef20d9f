package forecast_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// fates says what quiet hours do to occurrences: when each is due, and until when it
// is held, or that it is left out.
func fates(r forecast.Result) []string {
	var out []string
	for _, p := range r.Held {
		out = append(out, fmt.Sprintf("c%d %s → %s", p.CampaignID, p.DueAt.Format("02 15:04"), p.FreeAt.Format("02 15:04")))
	}
	for _, p := range r.Silent {
		out = append(out, fmt.Sprintf("c%d %s –", p.CampaignID, p.DueAt.Format("02 15:04")))
	}
	slices.Sort(out)
	return out
}

func TestQuietHours(t *testing.T) {
	t.Parallel()
	shop, other := forecast.AppKey{AppID: "shop"}, forecast.AppKey{AppID: "other"}
	campaign := func(id int64, app forecast.AppKey, at, policy, misfire string) forecast.Campaign {
		return forecast.Campaign{ID: id, App: app, Zone: "UTC", Schedule: daily(t, at, 2), Window: time.Hour, Quiet: policy, Misfire: misfire}
	}
	in := forecast.Input{
		Now: now, Until: now.AddDate(0, 0, 2).Add(12 * time.Hour),
		Apps: []forecast.App{{AppKey: shop, Quiet: strategy.NewQuietHours(22*time.Hour, 8*time.Hour, "UTC"), CallsPerSecond: 1}, {AppKey: other, CallsPerSecond: 1}},
		Campaigns: []forecast.Campaign{
			campaign(1, shop, "23:00:00", "", ""), campaign(2, shop, "07:00:00", "hold", "all"), campaign(3, shop, "07:30:00", "skip", ""),
			campaign(4, shop, "07:30:00", "ignore", ""), campaign(5, shop, "12:00:00", "", ""), campaign(6, other, "23:00:00", "", ""),
		},
		Stored: []forecast.Stored{{CampaignID: 5, DueAt: now.Add(-time.Hour)}}, // late, and now it is midnight
	}
	r := forecast.Make(in)
	want := []string{"c1 03 23:00 → 04 08:00", "c2 03 07:00 → 03 08:00", "c2 04 07:00 → 04 08:00", "c3 03 07:30 –", "c3 04 07:30 –", "c5 01 23:00 → 02 08:00"}
	if diff := cmp.Diff(want, fates(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	held := 0
	for _, o := range r.Coming {
		if !o.Held.IsZero() && !o.Silent {
			held++
		}
	}
	if held != 4 {
		t.Errorf("%d of the occurrences to come are held, want 4", held)
	}
	// What is held together goes out one after the other at their end.
	if len(r.Bursts) != 1 || !r.Bursts[0].From.Equal(now.AddDate(0, 0, 2).Add(8*time.Hour)) || r.Bursts[0].Calls != 2 {
		t.Errorf("bursts: %+v", r.Bursts)
	}
}

// Several occurrences of one campaign that are held together: the newest is pushed,
// or all. One that is due as they end overtakes them, too.
func TestHeldTogether(t *testing.T) {
	t.Parallel()
	times := func(list ...string) strategy.Schedule {
		content := fmt.Sprintf(`{"startTime": %d, "endTime": %d, "circleType": 1}`, now.AddDate(0, 0, 1).UnixMilli(), now.AddDate(0, 0, 1).UnixMilli())
		s, _, err := strategy.Parse(strategy.Spec{
			Type: strategy.Loop, Content: []byte(content), Zone: "UTC", Times: list, ShortMonth: strategy.ShortMonthSkip, DSTGap: strategy.DSTGapShift, CatchUpWindow: time.Hour, WrittenAt: now,
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	app := forecast.AppKey{AppID: "shop"}
	for _, c := range []struct {
		misfire string
		times   []string
		want    []string
	}{
		{"latest", []string{"01:00:00", "02:00:00"}, []string{"c1 03 01:00 –", "c1 03 02:00 → 03 08:00"}},
		{"skip", []string{"01:00:00", "02:00:00"}, []string{"c1 03 01:00 –", "c1 03 02:00 → 03 08:00"}},
		{"all", []string{"01:00:00", "02:00:00"}, []string{"c1 03 01:00 → 03 08:00", "c1 03 02:00 → 03 08:00"}},
		{"latest", []string{"01:00:00", "08:00:00"}, []string{"c1 03 01:00 –"}},
		{"latest", []string{"01:00:00", "08:00:01"}, []string{"c1 03 01:00 → 03 08:00"}},
	} {
		r := forecast.Make(forecast.Input{
			Now: now, Until: now.AddDate(0, 0, 2), Apps: []forecast.App{{AppKey: app, Quiet: strategy.NewQuietHours(22*time.Hour, 8*time.Hour, "UTC")}},
			Campaigns: []forecast.Campaign{{ID: 1, App: app, Zone: "UTC", Schedule: times(c.times...), Window: time.Hour, Misfire: c.misfire}},
		})
		if diff := cmp.Diff(c.want, fates(r)); diff != "" {
			t.Errorf("%s %v (-want +got):\n%s", c.misfire, c.times, diff)
		}
	}
}

// A quota that is free within quiet hours is free at their end, and the window counts
// from there.
func TestQuotaWithinQuietHours(t *testing.T) {
	t.Parallel()
	c := label(1, daily(t, "23:00:00", 1), time.Hour)
	in := forecast.Input{
		Now: now, Until: now.AddDate(0, 0, 3), Campaigns: []forecast.Campaign{c},
		Apps: []forecast.App{{AppKey: life, Quiet: strategy.NewQuietHours(22*time.Hour, 8*time.Hour, "UTC")}},
	}
	for i := range 5 { // all are free at 08:30 of the day after it is due
		in.Calls = append(in.Calls, forecast.Call{App: life, Channel: c.Channel, At: now.AddDate(0, 0, 2).Add(8*time.Hour + 30*time.Minute - forecast.Week - time.Duration(i)*time.Second)})
	}
	r := forecast.Make(in)
	if diff := cmp.Diff([]string{"11-03 23h free 11-04 08h"}, dues(r.Waiting)); diff != "" || len(r.Missed) > 0 {
		t.Errorf("missed %v, waiting (-want +got):\n%s", dues(r.Missed), diff)
	}
}
