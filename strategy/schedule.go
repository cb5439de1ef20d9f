package strategy

import (
	"math/bits"
	"slices"
	"time"
)

// A Schedule is a judged strategy: it answers when the campaign pushes next. It
// is small, immutable, safe for concurrent use, and has no clock inside. The zero
// Schedule has no occurrences.
type Schedule struct {
	kind Type
	zone *time.Location // Fixed only
	once time.Time      // Now and Fixed; UTC; zero: never
	from time.Time      // Fixed only: the fixedTime, where the calendar moves it to once; zero: it is not moved
	days *timetable     // Loop only
}

// A timetable holds the occurrences of a loop at one time of day, of which there
// are at most 181: one bit a day, and the offsets that turn local times into
// instants. A loop with several times of day is a list of timetables.
type timetable struct {
	cycle
	also        *timetable // the same loop at its next time of day
	chosen      dayset     // days with an occurrence
	runs        []run      // by day, at least one
	early, last int64      // Unix seconds of the first and last occurrence
	gaps        bool       // a clock change skips the time of a day that the cycle chooses
	moves       *moves     // changes by the calendar; nil: there is no calendar
}

// A dayset has bit n for the n-th day from cycle.first.
type dayset [3]uint64

func (s *dayset) add(day int)      { s[day/64] |= 1 << (day % 64) }
func (s *dayset) drop(day int)     { s[day/64] &^= 1 << (day % 64) }
func (s *dayset) has(day int) bool { return s[day/64]&(1<<(day%64)) != 0 }

// all yields the days of the set, in their order. A day that is dropped meanwhile may
// still come.
func (s dayset) all(yield func(day int) bool) {
	for word, rest := range s {
		for ; rest != 0; rest &= rest - 1 {
			if !yield(word*64 + bits.TrailingZeros64(rest)) {
				return
			}
		}
	}
}

// without returns the days of s that are not in other.
func (s dayset) without(other dayset) dayset {
	for i := range s {
		s[i] &^= other[i]
	}
	return s
}

// before returns the last day of the set before the given one; -1: there is none.
func (s *dayset) before(day int) int {
	for word := min(day/64, len(s)-1); word >= 0; word-- {
		rest := s[word]
		if word == day/64 {
			rest &= 1<<(day%64) - 1
		}
		if rest != 0 {
			return word*64 + bits.Len64(rest) - 1
		}
	}
	return -1
}

// A run is a row of days whose local time converts with the same offset.
type run struct {
	day    int // counted from cycle.first
	offset int64
}

// Next returns the first occurrence after the given time, in UTC, or the zero
// time when there is none. It satisfies cron.Schedule.
func (s Schedule) Next(after time.Time) time.Time {
	if s.days != nil {
		return s.days.next(after)
	}
	if s.once.After(after) {
		return s.once
	}
	return time.Time{}
}

// Last returns the last occurrence in UTC. It is zero for Now, whose only
// occurrence is never planned ahead.
func (s Schedule) Last() time.Time {
	switch {
	case s.kind == Fixed:
		return s.once
	case s.days != nil:
		return s.days.latest()
	}
	return time.Time{}
}

// latest returns the last occurrence at any of the times of day.
func (c *timetable) latest() time.Time {
	last := int64(minUnix)
	for ; c != nil; c = c.also {
		if !c.empty() {
			last = max(last, c.last)
		}
	}
	if last == minUnix {
		return time.Time{}
	}
	return time.Unix(last, 0).UTC()
}

// next returns the first occurrence at any of the times of day. Two occurrences
// that fall onto one instant, because of a clock change, count as one.
func (c *timetable) next(after time.Time) time.Time {
	unix := after.Unix()
	at := c.after(unix)
	for c = c.also; c != nil; c = c.also {
		at = min(at, c.after(unix))
	}
	if at == maxUnix {
		return time.Time{}
	}
	return time.Unix(at, 0).UTC()
}

// after returns the first occurrence at this time of day after a Unix time, or
// maxUnix when there is none.
func (c *timetable) after(unix int64) int64 {
	switch {
	case c.empty() || unix >= c.last:
		return maxUnix
	case unix < c.early:
		return c.early
	}
	return c.at(c.dayAfter(unix))
}

// dayAfter returns the chosen day of the first occurrence after a Unix time. There
// must be one.
func (c *timetable) dayAfter(unix int64) int {
	// No offset reaches 16 hours, so the day cannot be earlier than this one.
	day := max(0, int((unix-c.wall(0)-16*3600)/secondsPerDay))
	for day = c.chosenFrom(day); c.at(day) <= unix; {
		day = c.chosenFrom(day + 1)
	}
	return day
}

func (c *timetable) empty() bool { return c.chosen == dayset{} }

// chosenFrom returns the first chosen day from the given one on. There must be
// one.
func (c *timetable) chosenFrom(day int) int {
	word := day / 64
	rest := c.chosen[word] >> (day % 64) << (day % 64)
	for rest == 0 {
		word++
		rest = c.chosen[word]
	}
	return word*64 + bits.TrailingZeros64(rest)
}

// at returns the instant of a day's local time, in Unix seconds.
func (c *timetable) at(day int) int64 {
	k := len(c.runs) - 1
	for c.runs[k].day > day {
		k--
	}
	return c.wall(day) - c.runs[k].offset
}

// wall returns a day's local time as though its zone were UTC.
func (c *timetable) wall(day int) int64 {
	return (c.first+int64(day))*secondsPerDay + c.time
}

// schedule computes the occurrences at each of the times of day that are not before
// a Unix time.
func (y cycle) schedule(times []int64, from int64, calendar *closing) Schedule {
	spans := spansOf(y.zone, (y.first-2)*secondsPerDay, (y.end+3)*secondsPerDay)
	s := Schedule{kind: Loop}
	for _, at := range slices.Backward(times) {
		y.time = at
		c := y.timetable(spans, from, calendar)
		c.also = s.days
		s.days = c
	}
	return s
}

// timetable computes the occurrences at one time of day, day by day.
func (y cycle) timetable(spans []span, from int64, calendar *closing) *timetable {
	c := &timetable{cycle: y}
	var wanted, lost dayset // days of the cycle; days whose local time is skipped
	for day := range y.length() {
		offset, gap := resolve(spans, c.wall(day))
		if len(c.runs) == 0 || c.runs[len(c.runs)-1].offset != offset {
			c.runs = append(c.runs, run{day: day, offset: offset})
		}
		if gap && y.dstGap == DSTGapSkip {
			lost.add(day)
		}
		if y.wants(y.first + int64(day)) {
			wanted.add(day)
			c.gaps = c.gaps || gap && c.wall(day)-offset >= from
		}
	}
	c.chosen = wanted.without(lost)
	if calendar != nil {
		c.moves = &moves{closing: calendar, wanted: wanted, lost: lost, from: from}
		c.chosen = c.moves.applied(c)
	}
	for day := range c.chosen.all { // instants do not descend from day to day
		if c.at(day) >= from {
			break
		}
		c.chosen.drop(day)
	}
	c.settle()
	return c
}

// length returns how many days a cycle has, chosen or not; zero when it ends before it
// begins.
func (y *cycle) length() int { return max(0, int(y.end-y.first)+1) }

// settle finds the first and the last occurrence. A zone that leaps over a whole day,
// as Samoa's did, shifts that day's push onto the next day's. The two are one
// occurrence.
func (c *timetable) settle() {
	for i := 1; i < len(c.runs); i++ { // within a run days are a day apart
		day := c.runs[i].day
		if previous := c.chosen.before(day); previous >= 0 && c.chosen.has(day) && c.at(previous) == c.at(day) {
			c.chosen.drop(previous)
		}
	}
	if last := c.chosen.before(64 * len(c.chosen)); last >= 0 {
		c.early, c.last = c.at(c.chosenFrom(0)), c.at(last)
	}
}

// resolve returns the offset for a local time. A time that occurs twice gets the
// offset of the first. A time that a clock change skips gets the offset before
// the gap, which moves the time forward by the gap's length.
func resolve(spans []span, wall int64) (offset int64, gap bool) {
	for i, s := range spans {
		if wall-s.offset >= s.to {
			continue
		}
		if i > 0 && wall-s.offset < s.from {
			return spans[i-1].offset, true
		}
		return s.offset, false
	}
	return spans[len(spans)-1].offset, false
}

// wants reports whether the cycle chooses a day, before clock changes.
func (y *cycle) wants(day int64) bool {
	switch y.kind {
	case weekly:
		return y.days&(1<<isoWeekday(day)) != 0
	case monthly:
		dom := dateOf(day).Day()
		return y.days&(1<<dom) != 0 || y.shortMonth == ShortMonthLastDay && y.lastDayFor(day)
	}
	return true
}

// lastDayFor reports whether a day is the last of a month that is too short for
// one of the days chosen.
func (y *cycle) lastDayFor(day int64) bool {
	return dateOf(day+1).Day() == 1 && y.days>>(dateOf(day).Day()+1) != 0
}

// isoWeekday returns 1 for a Monday and 7 for a Sunday. Day 0, 1970-01-01, was a
// Thursday.
func isoWeekday(day int64) int { return int((day%7+7+3)%7) + 1 }
