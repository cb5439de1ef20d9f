package strategy

import (
	"math/bits"
	"time"
)

// A Schedule is a judged strategy: it answers when the campaign pushes next. It
// is small, immutable, safe for concurrent use, and has no clock inside. The zero
// Schedule has no occurrences.
type Schedule struct {
	kind Type
	zone *time.Location // Fixed only
	once time.Time      // Now and Fixed; UTC
	days *calendar      // Loop only
}

// A calendar holds the occurrences of a loop, of which there are at most 181:
// one bit a day, and the offsets that turn local times into instants.
type calendar struct {
	cycle
	chosen      [3]uint64 // bit n: the n-th day from first has an occurrence
	runs        []run     // by day, at least one
	early, last int64     // Unix seconds of the first and last occurrence
	gaps        bool      // a clock change skips the time of a day it would choose
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
	case s.days != nil && !s.days.empty():
		return time.Unix(s.days.last, 0).UTC()
	}
	return time.Time{}
}

func (c *calendar) next(after time.Time) time.Time {
	unix := after.Unix()
	switch {
	case c.empty() || unix >= c.last:
		return time.Time{}
	case unix < c.early:
		return time.Unix(c.early, 0).UTC()
	}
	return time.Unix(c.at(c.dayAfter(unix)), 0).UTC()
}

// dayAfter returns the chosen day of the first occurrence after a Unix time. There
// must be one.
func (c *calendar) dayAfter(unix int64) int {
	// No offset reaches 16 hours, so that no earlier day can be the one.
	day := max(0, int((unix-c.wall(0)-16*3600)/secondsPerDay))
	for day = c.chosenFrom(day); c.at(day) <= unix; {
		day = c.chosenFrom(day + 1)
	}
	return day
}

func (c *calendar) empty() bool { return c.chosen == [3]uint64{} }

// chosenFrom returns the first chosen day from the given one on. There must be
// one.
func (c *calendar) chosenFrom(day int) int {
	word := day / 64
	rest := c.chosen[word] >> (day % 64) << (day % 64)
	for rest == 0 {
		word++
		rest = c.chosen[word]
	}
	return word*64 + bits.TrailingZeros64(rest)
}

// at returns the instant of a day's local time, in Unix seconds.
func (c *calendar) at(day int) int64 {
	k := len(c.runs) - 1
	for c.runs[k].day > day {
		k--
	}
	return c.wall(day) - c.runs[k].offset
}

// wall returns a day's local time as though its zone were UTC.
func (c *calendar) wall(day int) int64 {
	return (c.first+int64(day))*secondsPerDay + c.time
}

func (c *calendar) choose(day int) { c.chosen[day/64] |= 1 << (day % 64) }

func (c *calendar) drop(day int) { c.chosen[day/64] &^= 1 << (day % 64) }

// schedule computes the occurrences, day by day. Local times before written are
// not occurrences.
func (y cycle) schedule(written time.Time) Schedule {
	c := &calendar{cycle: y}
	spans := spansOf(y.zone, c.wall(0)-2*secondsPerDay, c.wall(int(y.end-y.first))+2*secondsPerDay)
	from := written.Add(time.Second - 1).Unix() // the first whole second that is not before it
	previous := -1
	for day := 0; y.first+int64(day) <= y.end; day++ {
		offset, gap := resolve(spans, c.wall(day))
		if len(c.runs) == 0 || c.runs[len(c.runs)-1].offset != offset {
			c.runs = append(c.runs, run{day: day, offset: offset})
		}
		at := c.wall(day) - offset
		if at < from || !y.wants(y.first+int64(day)) {
			continue
		}
		if c.gaps = c.gaps || gap; gap && y.dstGap == DSTGapSkip {
			continue
		}
		if previous >= 0 && at == c.last {
			// A zone that leaps over a whole day, as Samoa's did, shifts its
			// push onto the next day's: that is one occurrence.
			c.drop(previous)
		}
		if previous < 0 {
			c.early = at
		}
		c.choose(day)
		previous, c.last = day, at
	}
	return Schedule{kind: Loop, days: c}
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
		return y.days&(1<<isoWeekday(dateOf(day).Weekday())) != 0
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

func isoWeekday(d time.Weekday) int {
	if d == time.Sunday {
		return 7
	}
	return int(d)
}
