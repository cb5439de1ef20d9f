package strategy

import (
	"sort"
	"time"
)

// CalendarPolicy says what becomes of an occurrence on a day that the campaign's
// calendar closes.
type CalendarPolicy string

const (
	// CalendarSkip leaves the occurrence out. The empty policy does the same.
	CalendarSkip CalendarPolicy = "skip"
	// CalendarNextOpen pushes at the same local time on the nearest open day after.
	CalendarNextOpen CalendarPolicy = "next_open"
	// CalendarPreviousOpen pushes at the same local time on the nearest open
	// day before.
	CalendarPreviousOpen CalendarPolicy = "previous_open"
)

// MaxMove is the most days by which a calendar moves a fixed time.
const MaxMove = 31

// A closing says when a campaign's calendar is closed, and where occurrences move
// then. It is made once for a Spec and not changed.
type closing struct {
	name  string
	step  int     // days by which an occurrence moves at a time; 0: it is left out
	edges []int64 // Unix seconds, ascending: closed from the first until the second, and so on
}

// newClosing returns nil where there is no calendar, or an unknown policy.
func newClosing(s *Spec) *closing {
	step, ok := map[CalendarPolicy]int{"": 0, CalendarSkip: 0, CalendarNextOpen: 1, CalendarPreviousOpen: -1}[s.CalendarPolicy]
	if s.Calendar == "" || !ok {
		return nil
	}
	c := &closing{name: s.Calendar, step: step, edges: make([]int64, len(s.Closed))}
	for i, at := range s.Closed {
		c.edges[i] = wholeSecond(at)
	}
	return c
}

// wholeSecond returns the first whole second that is not before a time.
func wholeSecond(t time.Time) int64 { return t.Add(time.Second - 1).Unix() }

// shut says whether the calendar is closed at a Unix time.
func (c *closing) shut(unix int64) bool {
	return sort.Search(len(c.edges), func(i int) bool { return c.edges[i] > unix })%2 == 1
}

// moves say how a calendar changes the days of one timetable.
type moves struct {
	*closing
	wanted dayset // days that the cycle chooses
	lost   dayset // days without an occurrence, since a clock change skips their local time and dst_gap_policy is skip
	closed dayset
	from   int64 // there is no occurrence before
}

// look finds the closed days.
func (m *moves) look(c *timetable) {
	for day := range c.length() {
		if m.shut(c.at(day)) {
			m.closed.add(day)
		}
	}
}

// applied looks at the calendar, and returns the days onto which it lets the chosen
// days of the timetable fall.
func (m *moves) applied(c *timetable) (days dayset) {
	m.look(c)
	for day := range c.chosen.all {
		if onto, _ := m.onto(c, day); onto >= 0 {
			days.add(onto)
		}
	}
	return days
}

// The reasons why an occurrence on a closed day is not moved.
const (
	becauseSkip  = "left out"
	becauseNoDay = "left out: no open day is left"
	becausePast  = "left out: the open day lies in the past"
	becauseLost  = "left out: a clock change skips its time on the open day"
)

// onto returns the day on which the occurrence of a day is pushed. That is the day
// itself if it is open or there is no calendar. If the occurrence is not pushed at
// all, onto returns a negative number and why.
func (m *moves) onto(c *timetable, day int) (onto int, why string) {
	if m == nil || !m.closed.has(day) {
		return day, ""
	}
	if m.step == 0 {
		return -1, becauseSkip
	}
	for onto = day + m.step; ; onto += m.step {
		switch {
		case onto < 0 || onto >= c.length():
			return -1, becauseNoDay
		case m.closed.has(onto):
		case m.lost.has(onto):
			return -1, becauseLost
		default:
			return onto, ""
		}
	}
}

// sources lists, as dates, the days whose occurrences the calendar moves onto a day.
// It returns nil for a day that has an occurrence of its own.
func (m *moves) sources(c *timetable, onto int) []string {
	if m == nil || m.wanted.has(onto) && !m.lost.has(onto) {
		return nil
	}
	var dates []string
	for day := range c.length() {
		if !m.wanted.has(day) || m.lost.has(day) {
			continue
		}
		if to, _ := m.onto(c, day); to == onto {
			dates = append(dates, date(c.first+int64(day)))
		}
	}
	return dates
}

// A Displaced is an occurrence that a calendar moves or leaves out.
type Displaced struct {
	From time.Time // on a closed day; UTC
	To   time.Time // where it is pushed; zero: it is not
	Why  string    // why it is not pushed
}

// Displaced lists the occurrences that the calendar moves or leaves out, in the
// order of From within each time of day.
func (s Schedule) Displaced() []Displaced {
	var out []Displaced
	if !s.from.IsZero() {
		out = append(out, Displaced{From: s.from, To: s.once})
	}
	for c := s.days; c != nil; c = c.also {
		out = append(out, c.displaced()...)
	}
	return out
}

func (c *timetable) displaced() []Displaced {
	m := c.moves
	if m == nil {
		return nil
	}
	var out []Displaced
	for day := range c.length() {
		if !m.wanted.has(day) || m.lost.has(day) || !m.closed.has(day) {
			continue
		}
		d := Displaced{From: time.Unix(c.at(day), 0).UTC()}
		switch onto, why := m.onto(c, day); {
		case onto < 0:
			d.Why = why
		case c.at(onto) < m.from:
			d.Why = becausePast
		default:
			d.To = time.Unix(c.at(onto), 0).UTC()
		}
		out = append(out, d)
	}
	return out
}

// fixed returns the time to which the calendar moves a fixed time, or false where it
// leaves it out. A time on an open day stays, even before from.
func (c *closing) fixed(zone *time.Location, unix, from int64, gaps DSTGapPolicy) (at int64, ok bool) {
	if !c.shut(unix) {
		return unix, true
	}
	if c.step == 0 {
		return 0, false
	}
	wall := unix + offsetAt(zone, unix)
	spans := spansOf(zone, unix-(MaxMove+3)*secondsPerDay, unix+(MaxMove+3)*secondsPerDay)
	for n := 1; n <= MaxMove; n++ {
		moved := wall + int64(n*c.step)*secondsPerDay
		offset, gap := resolve(spans, moved)
		if at = moved - offset; c.shut(at) {
			continue
		}
		return at, at >= from && (!gap || gaps != DSTGapSkip)
	}
	return 0, false
}

// describe says in words what the calendar does. The text follows that of a schedule.
func (c *closing) describe() string {
	if c == nil {
		return ""
	}
	return "; what falls on a closed day of calendar " + c.name + map[int]string{
		0: " is left out", 1: " moves to the next open day", -1: " moves to the previous open day",
	}[c.step]
}
