package strategy_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/robfig/cron/v3"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/strategy"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

var _ cron.Schedule = strategy.Schedule{}

// The oracle shares nothing with the package: it reads StrategyContent through
// encoding/json, walks days with time.Date, and finds the instants of a local
// time by trying every offset the zone has around that day.
func oracle(t rapid.TB, s strategy.Spec) []time.Time {
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
	if s.Type == strategy.Fixed {
		return []time.Time{time.UnixMilli(c.FixedTime).Truncate(time.Second).UTC()}
	}
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		t.Fatal(err)
	}
	end := time.UnixMilli(c.EndTime).In(zone).Format(time.DateOnly)
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
			if (exists || s.DSTGap == strategy.DSTGapShift) && !at.Before(s.WrittenAt) {
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
		want := oracle(t, s)
		schedule, _, err := strategy.Parse(s)
		if len(want) == 0 {
			if err == nil {
				t.Fatalf("accepted without an occurrence: %s at %v in %s", s.Content, s.Times, s.Zone)
			}
			return
		}
		if err != nil {
			t.Fatalf("%v: %s at %v in %s, written %s", err, s.Content, s.Times, s.Zone, s.WrittenAt)
		}
		if diff := cmp.Diff(want, walk(schedule)); diff != "" {
			t.Fatalf("%s at %v in %s, written %s (-oracle +Schedule):\n%s", s.Content, s.Times, s.Zone, s.WrittenAt, diff)
		}
	})
}
