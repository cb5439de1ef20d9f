package forecast_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/forecast"
)

// A draft takes calls of a quota from others of its app, and of nobody else.
func TestDraftTakesCallsFromOthers(t *testing.T) {
	t.Parallel()
	stored := label(1, daily(t, "10:00:00", 7), 2*time.Hour)
	stored.Quota = 7
	other := stored
	other.ID, other.App = 2, forecast.AppKey{AppID: "another"}
	in := forecast.Input{
		Now: now, Until: now.AddDate(0, 0, 9), Apps: []forecast.App{{AppKey: life, PendingLimit: 4}},
		Campaigns: []forecast.Campaign{stored, other}, Calls: []forecast.Call{{life, stored.Channel, now.Add(-time.Hour)}},
	}
	draft := forecast.Draft{Campaign: stored}
	draft.ID, draft.Name, draft.Schedule = 0, "draft", daily(t, "09:00:00", 2)
	e := forecast.With(in, draft)
	if same := forecast.With(in, forecast.Draft{Campaign: stored}); len(same.Missed)+len(same.Waiting) > 0 {
		t.Errorf("an edit that changes nothing: %+v", same)
	}
	want := []string{"11-07 10h free 11-08 23h", "11-08 10h free 11-08 23h"}
	if diff := cmp.Diff(want, dues(e.Missed)); diff != "" {
		t.Errorf("missed (-want +got):\n%s", diff)
	}
	got := []forecast.Fill{e.Pushes, e.Pending, e.Second, e.Week}
	if diff := cmp.Diff([]forecast.Fill{{7, 9, 0}, {4, 4, 4}, {0, 1, 4}, {7, 7, 7}}, got); diff != "" || e.Own != 2 || e.Repeats != 2 {
		t.Errorf("fills (-want +got), %d of its own, %d times the same users:\n%s", e.Own, e.Repeats, diff)
	}
}

// An edit takes the place of what is stored, and keeps what is skipped. A strategy
// that changes cancels what was due; at once means now.
func TestDraftOfAnEdit(t *testing.T) {
	t.Parallel()
	c := label(1, daily(t, "10:00:00", 3), time.Hour)
	first := c.Schedule.Next(now)
	in := forecast.Input{
		Now: now, Until: now.AddDate(0, 0, 9), Apps: []forecast.App{{AppKey: life, PendingLimit: 1}}, Campaigns: []forecast.Campaign{c},
		Stored: []forecast.Stored{{CampaignID: 1, DueAt: now.Add(-time.Minute)}, {CampaignID: 1, DueAt: first, Skipped: true}},
	}
	same := forecast.With(in, forecast.Draft{Campaign: c})
	if same.Pushes != (forecast.Fill{Before: 3, After: 3}) || len(same.Missed)+len(same.Waiting) > 0 {
		t.Errorf("an edit that changes nothing: %+v", same)
	}
	changed := forecast.Draft{Campaign: c, Rescheduled: true}
	changed.Schedule = daily(t, "10:00:00", 5)
	if e := forecast.With(in, changed); e.Pushes != (forecast.Fill{Before: 3, After: 4}) || e.Own != 4 {
		t.Errorf("two days more, without the one that was due: %+v", e)
	}
	changed.Due = []time.Time{now}
	if e := forecast.With(in, changed); e.Own != 5 || e.Pending != (forecast.Fill{Before: 1, After: 1, Limit: 1}) {
		t.Errorf("with one at once: %+v", e)
	}
}

// More of the app in one second than may be pending, and calls that follow at the
// app's rate, are the draft's where they are not there without it.
func TestDraftFillsASecond(t *testing.T) {
	t.Parallel()
	at := daily(t, "10:00:00", 1)
	in := forecast.Input{
		Now: now, Until: now.AddDate(0, 0, 2), Apps: []forecast.App{{AppKey: life, PendingLimit: 2, CallsPerSecond: 2}},
		Campaigns: []forecast.Campaign{{ID: 1, App: life, Schedule: at, Window: time.Hour}, {ID: 2, App: life, Schedule: at, Window: time.Hour}},
	}
	e := forecast.With(in, forecast.Draft{Campaign: forecast.Campaign{App: life, Schedule: at, Window: time.Hour, Calls: 2}, AtLeast: true})
	if e.Second != (forecast.Fill{Before: 2, After: 3, Limit: 2}) || !e.Second.Over() || !e.AtLeast {
		t.Errorf("the second: %+v", e)
	}
	if len(e.Bursts) != 1 || e.Bursts[0].Calls != 4 {
		t.Errorf("held back: %+v", e.Bursts)
	}
}

// A draft counts however many campaigns its app has.
func TestDraftBeyondTheBounds(t *testing.T) {
	t.Parallel()
	in := forecast.Input{Now: now, Until: now.AddDate(0, 0, 2), Campaigns: make([]forecast.Campaign, forecast.MaxCampaigns)}
	for i := range in.Campaigns {
		in.Campaigns[i] = forecast.Campaign{ID: int64(i + 1), App: life, Schedule: daily(t, "10:00:00", 1)}
	}
	e := forecast.With(in, forecast.Draft{Campaign: forecast.Campaign{App: life, Schedule: daily(t, "10:00:00", 1)}})
	if e.Own != 1 || !e.AtLeast {
		t.Errorf("%d of its own, at least %v", e.Own, e.AtLeast)
	}
}
