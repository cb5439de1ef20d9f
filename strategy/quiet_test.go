package strategy_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/strategy"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

func TestQuietCases(t *testing.T) {
	t.Parallel()
	for _, c := range strategytest.QuietCases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			at, q := strategytest.Moment(c.At), c.Hours()
			if got, want := q.End(at), strategytest.Moment(c.End); !got.Equal(want) {
				t.Errorf("they end at %v, want %v", got, want)
			}
			if got, want := q.WindowFrom(at, c.Window), strategytest.Moment(c.WindowFrom); !got.Equal(want) {
				t.Errorf("the window counts from %v, want %v", got, want)
			}
		})
	}
}

// What can be no quiet hours is none.
func TestNoQuietHours(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 29, 23, 0, 0, 0, time.UTC)
	for name, q := range map[string]strategy.QuietHours{
		"zero":         {},
		"equal":        strategy.NewQuietHours(time.Hour, time.Hour, "UTC"),
		"beyond a day": strategy.NewQuietHours(time.Hour, 24*time.Hour, "UTC"),
		"negative":     strategy.NewQuietHours(-time.Hour, time.Hour, "UTC"),
		"no zone":      strategy.NewQuietHours(time.Hour, 2*time.Hour, "Mars/Olympus"),
	} {
		if !q.None() || !q.End(at).IsZero() || !q.WindowFrom(at, time.Hour).Equal(at) {
			t.Errorf("%s: there are some", name)
		}
	}
}

// TestQuietHoursByMinutes holds End against an oracle that walks minutes: it finds
// the instant of a local time by looking at the clock of each minute, and knows no
// offsets.
func TestQuietHoursByMinutes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom(strategytest.Zones).Draw(t, "zone")
		from := rapid.IntRange(0, 24*60-1).Draw(t, "from")
		until := rapid.IntRange(0, 24*60-1).Filter(func(n int) bool { return n != from }).Draw(t, "until")
		at := time.Unix(60*rapid.Int64Range(1577836800/60, 1893456000/60).Draw(t, "minute"), 0).UTC() // 2020 to 2029
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Skip("the machine does not know the zone")
		}
		if change := nextChange(location, at); rapid.Bool().Draw(t, "near a change") && !change.IsZero() {
			at = change.Add(time.Duration(rapid.IntRange(-2*24*60, 2*24*60).Draw(t, "off")) * time.Minute)
		}
		q := strategy.NewQuietHours(time.Duration(from)*time.Minute, time.Duration(until)*time.Minute, zone)
		if q.None() {
			t.Skip("no zone for campaigns")
		}
		if got, want := q.End(at), quietEnd(location, from, until, at); !got.Equal(want) {
			t.Fatalf("at %v they end at %v, want %v", at.In(location), got.In(location), want.In(location))
		}
	})
}

// TestOutsideByMinutes holds Outside against a walk over minutes, of which it counts
// those that End calls loud.
func TestOutsideByMinutes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		from, until := rapid.IntRange(0, 24*60-1).Draw(t, "from"), rapid.IntRange(0, 24*60-1).Draw(t, "until")
		q := strategy.NewQuietHours(time.Duration(from)*time.Minute, time.Duration(until)*time.Minute, rapid.SampledFrom(strategytest.Zones).Draw(t, "zone"))
		start := time.Unix(60*rapid.Int64Range(1577836800/60, 1893456000/60).Draw(t, "minute"), 0).UTC()
		length := rapid.IntRange(0, 24*60).Draw(t, "length")
		ends := start.Add(time.Duration(rapid.IntRange(1, 5*24*60).Draw(t, "ends")) * time.Minute)
		want := start
		for passed := 0; passed < length || !q.End(want).IsZero(); want = want.Add(time.Minute) {
			if !q.None() && !want.Before(ends) {
				want = ends
				break
			}
			if q.End(want).IsZero() {
				passed++
			} else if passed == length && length > 0 {
				break // it has passed just as they begin
			}
		}
		if got := q.Outside(start, time.Duration(length)*time.Minute, ends); !got.Equal(want) {
			t.Fatalf("%d minutes from %v end at %v, want %v", length, start, got, want)
		}
	})
}

// quietEnd is the oracle.
func quietEnd(zone *time.Location, from, until int, at time.Time) time.Time {
	today := at.In(zone)
	var starts, ends []time.Time
	for day := -2; day <= 3; day++ {
		last := day
		if until < from {
			last++
		}
		starts, ends = append(starts, minuteOf(zone, today, day, from)), append(ends, minuteOf(zone, today, last, until))
	}
	quiet := func(t time.Time) bool {
		for i := range starts {
			if !t.Before(starts[i]) && t.Before(ends[i]) {
				return true
			}
		}
		return false
	}
	if !quiet(at) {
		return time.Time{}
	}
	for quiet(at) {
		at = at.Add(time.Minute)
	}
	return at
}

// minuteOf finds the instant of a minute of a local day by walking: the first whose
// clock shows it; else, where the clock jumps over it, as far behind the jump as the
// minute is behind what the clock would have shown.
func minuteOf(zone *time.Location, today time.Time, day, minute int) time.Time {
	wall := func(t time.Time) int64 {
		y, m, d := t.In(zone).Date()
		return time.Date(y, m, d, t.In(zone).Hour(), t.In(zone).Minute(), 0, 0, time.UTC).Unix() / 60
	}
	y, m, d := today.Date()
	want := time.Date(y, m, d+day, 0, minute, 0, 0, time.UTC).Unix() / 60
	t := time.Unix(60*want, 0).Add(-30 * time.Hour).UTC()
	for wall(t) < want {
		t = t.Add(time.Minute)
	}
	if wall(t) == want {
		return t
	}
	return t.Add(time.Duration(want-wall(t.Add(-time.Minute))-1) * time.Minute)
}

// nextChange is when a zone's clocks change next.
func nextChange(zone *time.Location, at time.Time) time.Time {
	_, end := at.In(zone).ZoneBounds()
	return end.UTC().Truncate(time.Minute)
}
