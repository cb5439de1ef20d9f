package strategy

import (
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Note says why the occurrence at t differs from the day and time that its author
// wrote. It is empty when there is no difference, and when t is no occurrence.
func (s Schedule) Note(t time.Time) string {
	switch {
	case !s.Next(t.Add(-1)).Equal(t):
		return ""
	case !s.from.IsZero():
		return moved([]string{s.from.In(s.zone).Format(time.DateOnly)})
	case s.days == nil:
		return ""
	}
	return s.days.noteOf(t.Unix())
}

// noteOf returns the note of the time of day that falls onto the instant. Where
// two do, it returns the shorter note: one of the two may be as it was written.
func (c *timetable) noteOf(unix int64) string {
	text, found := "", false
	for ; c != nil; c = c.also {
		if c.after(unix-1) != unix {
			continue
		}
		if note := c.note(unix); !found || len(note) < len(text) {
			text, found = note, true
		}
	}
	return text
}

func (c *timetable) note(unix int64) string {
	day := c.dayAfter(unix - 1)
	var notes []string
	nominal := dateOf(c.first + int64(day))
	if dates := c.moves.sources(c, day); len(dates) > 0 {
		notes = append(notes, moved(dates))
	} else if c.kind == monthly && c.days&(1<<nominal.Day()) == 0 {
		missing := c.days >> (nominal.Day() + 1) << (nominal.Day() + 1)
		notes = append(notes, "last day of a month without day "+join(numbers(missing), "or"))
	}
	if shift := unix + offsetAt(c.zone, unix) - c.wall(day); shift != 0 {
		notes = append(notes, "moved forward by "+length(shift)+
			": a clock change skips "+time.Unix(c.wall(day), 0).UTC().Format(time.DateTime))
	}
	return strings.Join(notes, "; ")
}

// moved returns the note of an occurrence that was moved from closed days.
func moved(dates []string) string {
	const most = 3
	if n := len(dates) - most; n > 0 {
		dates = append(dates[:most:most], strconv.Itoa(n)+" more")
	}
	return "moved from " + join(dates, "and") + ", closed in the calendar"
}

// length writes seconds as people do: "1h", "30m", "44m30s".
func length(seconds int64) string {
	text := (time.Duration(seconds) * time.Second).String()
	if s, ok := strings.CutSuffix(text, "m0s"); ok {
		text = s + "m"
	}
	if s, ok := strings.CutSuffix(text, "h0m"); ok {
		text = s + "h"
	}
	return text
}

// Describe says the schedule in words, for people.
func (s Schedule) Describe() string {
	switch {
	case s.kind == Fixed && !s.once.IsZero():
		return "once, on " + s.once.In(s.zone).Format("Monday 2006-01-02 at 15:04:05") + " (" + s.zone.String() + ")"
	case s.days != nil:
		return s.days.describe()
	case s.once.IsZero():
		return "never"
	}
	return "at once"
}

func (c *timetable) describe() string {
	var times []string
	gaps := false
	for k := c; k != nil; k = k.also {
		times = append(times, dateOf(0).Add(time.Duration(k.time)*time.Second).Format(time.TimeOnly))
		gaps = gaps || k.gaps
	}
	at := " at " + join(times, "and") + " (" + c.zone.String() + ")"
	text := c.rhythm() + at + ", " + period(date(c.first), date(c.end)) + c.policies(gaps, len(times) > 1)
	if c.moves != nil {
		text += c.moves.describe()
	}
	return text
}

func period(first, end string) string {
	if first == end {
		return "on " + first + " only"
	}
	return "from " + first + " to " + end
}

func (c *timetable) rhythm() string {
	switch c.kind {
	case weekly:
		names := make([]string, 0, 7)
		for _, day := range numbers(c.days) {
			names = append(names, weekdays[day])
		}
		return "every " + join(names, "and")
	case monthly:
		days := numbers(c.days)
		if len(days) == 1 {
			return "every month on day " + days[0]
		}
		return "every month on days " + join(days, "and")
	}
	return "every day"
}

// policies says what happens in short months and on clock changes, if the
// schedule can meet any.
func (c *timetable) policies(gaps, several bool) string {
	text := ""
	if c.kind == monthly && c.days>>29 != 0 {
		text += "; months without the day " + map[ShortMonthPolicy]string{
			ShortMonthSkip: "are left out", ShortMonthLastDay: "use their last day",
		}[c.shortMonth]
	}
	switch {
	case gaps && several:
		text += "; where a clock change skips one of these times, it " + map[DSTGapPolicy]string{
			DSTGapShift: "moves forward by the gap", DSTGapSkip: "is left out on that day",
		}[c.dstGap]
	case gaps:
		text += "; where a clock change skips that time, it " + map[DSTGapPolicy]string{
			DSTGapShift: "moves forward by the gap", DSTGapSkip: "leaves the day out",
		}[c.dstGap]
	}
	return text
}

var weekdays = map[string]string{
	"1": "Monday", "2": "Tuesday", "3": "Wednesday", "4": "Thursday", "5": "Friday", "6": "Saturday", "7": "Sunday",
}

// numbers lists the bits of a set in order.
func numbers(set uint32) []string {
	list := make([]string, 0, bits.OnesCount32(set))
	for ; set != 0; set &= set - 1 {
		list = append(list, strconv.Itoa(bits.TrailingZeros32(set)))
	}
	return list
}

// join makes a list as people do: "1, 15 and 31".
func join(list []string, last string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " " + last + " " + list[len(list)-1]
}
