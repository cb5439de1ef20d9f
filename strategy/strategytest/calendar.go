package strategytest

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/strategy"
)

// A Calendar is what an admin writes: weekdays, and days that differ from them. It
// knows nothing of instants but the day that each falls on.
type Calendar struct {
	Zone     string
	Weekdays []int           // open, 1 Monday to 7 Sunday
	Days     map[string]bool // open or not, by date
}

// Open says whether the day of an instant is open.
func (c *Calendar) Open(t rapid.TB, at time.Time) bool {
	t.Helper()
	return c.openOn(at.In(location(t, c.Zone)))
}

func (c *Calendar) openOn(day time.Time) bool {
	if open, ok := c.Days[day.Format(time.DateOnly)]; ok {
		return open
	}
	weekday := int(day.Weekday())
	if weekday == 0 {
		weekday = 7
	}
	return slices.Contains(c.Weekdays, weekday)
}

// Closed is what the database makes of the calendar between two instants, and some
// days more: for strategy.Spec. It looks at every quarter of an hour, which is when
// days begin, but for the first 20 hours of a day, in which no other begins.
func (c *Calendar) Closed(t rapid.TB, from, to time.Time) (edges []time.Time) {
	t.Helper()
	zone := location(t, c.Zone)
	closed, today := false, 0
	step, end := time.Duration(0), to.AddDate(0, 0, 3)
	for at := from.Truncate(time.Hour).AddDate(0, 0, -3); at.Before(end); at = at.Add(step) {
		step = 15 * time.Minute
		local := at.In(zone)
		if local.Day() == today {
			continue
		}
		if today != 0 { // else the day may have begun long ago
			step = 20 * time.Hour
		}
		today = local.Day()
		if now := !c.openOn(local); now != closed {
			edges, closed = append(edges, at), now
		}
	}
	if closed {
		edges = append(edges, to.AddDate(0, 0, 4))
	}
	return edges
}

func location(t rapid.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// calendarZones are those whose clocks never return to the day before.
var calendarZones = []string{
	"Asia/Shanghai", "UTC", "America/New_York", "Pacific/Apia", "America/Havana", "Africa/Cairo", "Asia/Beirut", "America/Sao_Paulo",
	"Pacific/Tongatapu", "Asia/Kolkata", "Etc/GMT+12",
}

// Calendars draws a calendar with days that differ near a time.
func Calendars(t *rapid.T, near time.Time) Calendar {
	c := Calendar{Zone: rapid.SampledFrom(calendarZones).Draw(t, "calendar zone"), Days: make(map[string]bool)}
	c.Weekdays = rapid.SampledFrom([][]int{{1, 2, 3, 4, 5}, {1, 2, 3, 4, 5, 6, 7}, {}, {2}, {6, 7}}).Draw(t, "weekdays")
	for range rapid.IntRange(0, 8).Draw(t, "stretches") {
		open := rapid.IntRange(0, 3).Draw(t, "open") == 0
		first := rapid.IntRange(-3, 180).Draw(t, "stretch")
		for n := range rapid.SampledFrom([]int{1, 1, 2, 7, 8, 40}).Draw(t, "days") {
			c.Days[near.AddDate(0, 0, first+n).Format(time.DateOnly)] = open
		}
	}
	return c
}

// WithCalendar draws a Spec that most likely has no other problem than what its
// calendar closes, with the calendar.
func WithCalendar(t *rapid.T) (strategy.Spec, Calendar) {
	s := Good(t)
	near := s.WrittenAt
	if s.Type == strategy.Fixed { // near enough for the calendar to matter
		ahead := rapid.Int64Range(-3_590_000, 180*86_400_000).Draw(t, "ahead")
		s.Content = object([]member{{"fixedTime", digits(max(0, near.UnixMilli()+ahead))}})
	}
	c := Calendars(t, near)
	s.Calendar = "open"
	s.CalendarPolicy = rapid.SampledFrom([]strategy.CalendarPolicy{"", strategy.CalendarSkip, strategy.CalendarNextOpen, strategy.CalendarPreviousOpen}).Draw(t, "calendar_policy")
	s.Closed = c.Closed(t, near.AddDate(0, 0, -40), near.AddDate(0, 0, 225))
	if rapid.IntRange(0, 3).Draw(t, "changed since") == 0 {
		s.Since = near.Add(time.Duration(rapid.Int64Range(0, 180*86_400).Draw(t, "since")) * time.Second)
	}
	return s, c
}
