package strategy_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/robfig/cron/v3"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/strategy"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

var _ cron.Schedule = strategy.Schedule{}

// The oracle shares nothing with the package: it reads StrategyContent through
// encoding/json, walks days with time.Date, and finds the instants of a local
// time by trying every offset the zone has around that day.
func oracle(t rapid.TB, s strategy.Spec, calendar *strategytest.Calendar) []time.Time {
	t.Helper()
	var c struct {
		FixedTime, StartTime, EndTime int64
		CircleType                    int
		CircleValue                   []int
		Time                          string
	}
	if err := json.Unmarshal(s.Content, &c); err != nil {
		t.Fatal(err)
	}
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		t.Fatal(err)
	}
	if s.Type == strategy.Fixed {
		at := time.UnixMilli(c.FixedTime).Truncate(time.Second).UTC()
		if calendar != nil && !calendar.Open(t, at) {
			wall := at.In(zone)
			date := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, time.UTC)
			moved, ok := move(t, calendar, &s, zone, date, func(d time.Time) bool { return d.Sub(date).Abs() <= 31*24*time.Hour })
			if !ok || moved.Before(s.WrittenAt) {
				return nil
			}
			at = moved
		}
		if at.Before(s.Since) {
			return nil
		}
		return []time.Time{at}
	}
	end := time.UnixMilli(c.EndTime).In(zone).Format(time.DateOnly)
	start := time.UnixMilli(c.StartTime).In(zone).Format(time.DateOnly)
	year, month, first := time.UnixMilli(c.StartTime).In(zone).Date()
	found := map[time.Time]bool{}
	for n := 0; ; n++ {
		// A date without zone, so that no day of the walk can be missing.
		day := time.Date(year, month, first+n, 0, 0, 0, 0, time.UTC)
		if day.Format(time.DateOnly) > end {
			break
		}
		if !chosen(day, c.CircleType, c.CircleValue, s.ShortMonth) {
			continue
		}
		for _, length := range clocks(t, c.Time, s.Times) {
			at, exists := instant(zone, day.Add(length))
			if !exists && s.DSTGap == strategy.DSTGapSkip {
				continue
			}
			if calendar != nil && !calendar.Open(t, at) {
				if at, exists = move(t, calendar, &s, zone, day.Add(length), func(d time.Time) bool {
					return d.Format(time.DateOnly) <= end && d.Format(time.DateOnly) >= start
				}); !exists {
					continue
				}
			}
			if !at.Before(s.WrittenAt) && !at.Before(s.Since) {
				found[at] = true
			}
		}
	}
	all := make([]time.Time, 0, len(found))
	for at := range found {
		all = append(all, at)
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// move walks from a closed day to the next or the previous one that is open, as far as
// within allows. wall is a local time without a zone.
func move(t rapid.TB, calendar *strategytest.Calendar, s *strategy.Spec, zone *time.Location, wall time.Time, within func(time.Time) bool) (time.Time, bool) {
	t.Helper()
	step := map[strategy.CalendarPolicy]int{strategy.CalendarNextOpen: 1, strategy.CalendarPreviousOpen: -1}[s.CalendarPolicy]
	if step == 0 {
		return time.Time{}, false
	}
	for wall = wall.AddDate(0, 0, step); within(wall); wall = wall.AddDate(0, 0, step) {
		if at, exists := instant(zone, wall); calendar.Open(t, at) {
			return at.UTC(), exists || s.DSTGap == strategy.DSTGapShift
		}
	}
	return time.Time{}, false
}

// clocks reads times of day as what has gone by since midnight.
func clocks(t rapid.TB, one string, several []string) []time.Duration {
	t.Helper()
	if len(several) == 0 {
		several = []string{one}
	}
	lengths := make([]time.Duration, len(several))
	for i, text := range several {
		clock, err := time.Parse(time.TimeOnly, text)
		if err != nil {
			t.Fatal(err)
		}
		lengths[i] = clock.Sub(clock.Truncate(24 * time.Hour))
	}
	return lengths
}

func chosen(day time.Time, circleType int, circleValue []int, policy strategy.ShortMonthPolicy) bool {
	switch circleType {
	case 2:
		return slices.Contains(circleValue, (int(day.Weekday())+6)%7+1)
	case 3:
		if slices.Contains(circleValue, day.Day()) {
			return true
		}
		last := time.Date(day.Year(), day.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
		return policy == strategy.ShortMonthLastDay && day.Day() == last && slices.Max(circleValue) > last
	}
	return true
}

// instant returns the first instant at which the zone's clocks show wall. When
// none does, exists is false, and at is what the clocks of before would have
// shown it.
func instant(zone *time.Location, wall time.Time) (at time.Time, exists bool) {
	for step := -48 * time.Hour; step <= 48*time.Hour; step += 15 * time.Minute {
		_, offset := wall.Add(step).In(zone).Zone()
		at := wall.Add(-time.Duration(offset) * time.Second)
		if at.In(zone).Format(time.DateTime) == wall.Format(time.DateTime) {
			return at, true
		}
	}
	// Clocks go from before wall to after it at one instant; look for it.
	before, after := wall.Add(-48*time.Hour).Unix(), wall.Add(48*time.Hour).Unix()
	for after-before > 1 {
		middle := (before + after) / 2
		if time.Unix(middle, 0).In(zone).Format(time.DateTime) < wall.Format(time.DateTime) {
			before = middle
		} else {
			after = middle
		}
	}
	_, offset := time.Unix(before, 0).In(zone).Zone()
	return wall.Add(-time.Duration(offset) * time.Second), false
}

func TestOccurrencesAgreeWithTheOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := strategytest.Good(t)
		agree(t, s, oracle(t, s, nil))
	})
}

// The oracle knows a calendar by its weekdays and days, and walks from day to day.
func TestOccurrencesOfCalendarsAgreeWithTheOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, calendar := strategytest.WithCalendar(t)
		agree(t, s, oracle(t, s, &calendar))
	})
}

// agree holds Parse against the occurrences that there are.
func agree(t *rapid.T, s strategy.Spec, want []time.Time) {
	t.Helper()
	schedule, _, err := strategy.Parse(s)
	what := fmt.Sprintf("%s at %v in %s, written %s, %q %s since %s", s.Content, s.Times, s.Zone, s.WrittenAt, s.Calendar, s.CalendarPolicy, s.Since)
	switch {
	case len(want) == 0 && s.Since.IsZero():
		if err == nil {
			t.Fatalf("accepted without an occurrence: %s", what)
		}
		return
	case err != nil:
		t.Fatalf("%v: %s", err, what)
	}
	if diff := cmp.Diff(want, walk(schedule), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s (-oracle +Schedule):\n%s", what, diff)
	}
	places := make(map[time.Time]bool)
	for _, d := range schedule.Displaced() {
		if d.To.IsZero() != (d.Why != "") {
			t.Errorf("%s: displaced %+v", what, d)
		}
		if !d.To.IsZero() {
			places[d.To] = true
		}
	}
	for at := range places {
		if !slices.Contains(want, at) {
			t.Errorf("%s: displaced to %s, which is no occurrence", what, at)
		}
	}
}
