package engine_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// beirut plans a daily loop and returns its pending occurrences.
func beirut(t *testing.T, r *rig) (id int64, dues func() []time.Time) {
	t.Helper()
	r.app(t, "app", "webhook", nil)
	today := time.Now().UTC().Truncate(24 * time.Hour)
	id = r.insert(t, "app", "webhook", 2, daily(today.AddDate(0, 0, 1), 150, "09:00:00"), "time_zone", "Asia/Beirut")
	return id, func() []time.Time {
		return list[time.Time](t, r, `SELECT due_at FROM scheduler.pending_tasks ORDER BY due_at`)
	}
}

// otherRules stores the coming occurrences as if they had been worked out under
// rules that are hours off.
func (r *rig) otherRules(t *testing.T, hours int) {
	t.Helper()
	r.run(t, `UPDATE scheduler.pending_tasks SET due_at = due_at + make_interval(hours => $1), ready_at = ready_at + make_interval(hours => $1)`, hours)
	r.run(t, `UPDATE scheduler.campaign_cursors SET next_due_at = next_due_at + make_interval(hours => $1)`, hours)
}

// The stored occurrences of a loop follow the rules that are in force when a
// daemon starts, or reads its configuration, whichever way they moved.
func TestStoredOccurrencesFollowTheRulesOfTheirZone(t *testing.T) {
	t.Parallel()
	for name, hours := range map[string]int{"later": 6, "earlier": -3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.run(t, `DELETE FROM scheduler.zone_rules`) // as the first daemon finds it
			_, dues := beirut(t, r)
			e := start(t, r.config(t))
			until(t, "the plan", func() bool { return len(dues()) == 100 })
			until(t, "the record of rules", func() bool {
				return get[int](t, r, `SELECT count(*) FROM scheduler.zone_rules WHERE time_zone = 'Asia/Beirut'`) == 1
			})
			want := dues()
			for range 2 { // a record is kept, and what follows it is left alone
				e.Reload(10)
				r.run(t, `UPDATE scheduler.zone_rules SET rules = 'other' WHERE time_zone = 'Asia/Beirut'`)
				r.otherRules(t, hours)
				e.Reload(10)
				until(t, "the right occurrences", func() bool { return cmp.Equal(want, dues()) })
			}
			if got := get[int](t, r, `SELECT campaigns FROM scheduler.zone_rules WHERE time_zone = 'Asia/Beirut' ORDER BY id DESC LIMIT 1`); got != 1 {
				t.Errorf("%d campaigns were moved, want 1", got)
			}
		})
	}
}

// A resumed loop is planned anew, though its earliest occurrence was worked out
// under other rules.
func TestAResumedLoopFollowsTheRulesOfItsZone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id, dues := beirut(t, r)
	start(t, r.config(t))
	until(t, "the plan", func() bool { return len(dues()) == 100 })
	want := dues()
	r.otherRules(t, 6)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`, id)
	until(t, "the pause", func() bool {
		return len(dues()) == 0 && get[int](t, r, `SELECT count(*) FROM scheduler.campaign_changes`) == 0
	})
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
	until(t, "the plan", func() bool { return len(dues()) == 100 })
	if diff := cmp.Diff(want, dues()); diff != "" {
		t.Error(diff)
	}
}

// An instant that a zone's new rules have moved stands for the occurrence nearest
// to it, also where the campaign has others that day.
func TestMovedInstantStandsForTheNearest(t *testing.T) {
	t.Parallel()
	day := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		times    []string
		at, want time.Duration // after the day's midnight
	}{
		{nil, 18*time.Hour + 30*time.Minute, 18 * time.Hour},
		{nil, 17*time.Hour + 30*time.Minute, 18 * time.Hour},
		{[]string{"09:00:00", "18:00:00"}, 18*time.Hour + 30*time.Minute, 18 * time.Hour},
		{[]string{"09:00:00", "18:00:00"}, 17*time.Hour + 30*time.Minute, 18 * time.Hour},
		{[]string{"09:00:00", "18:00:00"}, 9*time.Hour + 30*time.Minute, 9 * time.Hour},
		{[]string{"09:00:00", "18:00:00"}, 18 * time.Hour, 18 * time.Hour},
	} {
		s, err := engine.Parse(&store.Campaign{
			StrategyType: 2, StrategyContent: []byte(daily(day.AddDate(0, 0, -5), 20, "18:00:00")), Times: c.times, TimeZone: "UTC",
			ShortMonthPolicy: "skip", DSTGapPolicy: "shift", WrittenAt: day.AddDate(0, 0, -5),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := engine.OnSchedule(s, day.Add(c.at)); !got.Equal(day.Add(c.want)) {
			t.Errorf("at %v, %v after midnight stands for %s, want %s", c.times, c.at, got, day.Add(c.want))
		}
	}
}
