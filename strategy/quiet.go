package strategy

import (
	"slices"
	"time"
)

// QuietHours are the hours of each day in which an app's pushes do not begin,
// whatever their strategies say. They last from a time of day until another.
// Where that is earlier, it is of the next day. The zero QuietHours are none.
type QuietHours struct {
	from, until time.Duration // since midnight
	zone        *time.Location
}

// NewQuietHours returns the quiet hours between two times of day, of whole seconds
// since midnight, in a zone. It returns none where the times are equal or not
// within a day, or the zone is not known.
func NewQuietHours(from, until time.Duration, zone string) QuietHours {
	loaded := loadZone(zone)
	if from == until || min(from, until) < 0 || max(from, until) >= 24*time.Hour || loaded == nil {
		return QuietHours{}
	}
	return QuietHours{from: from, until: until, zone: loaded}
}

// None says that there are none.
func (q QuietHours) None() bool { return q.zone == nil }

// End returns when the quiet hours end in which an instant lies, in UTC; zero: it
// lies in none. As for occurrences, a local time that a clock change skips is
// later by the gap, and of a local time that occurs twice the first counts.
func (q QuietHours) End(at time.Time) time.Time {
	if q.None() {
		return time.Time{}
	}
	if since, ok := q.sinceStart(at); ok {
		if since >= q.length() {
			return time.Time{}
		}
		return at.Add(q.length() - since).Round(0).UTC()
	}
	var end time.Time
	for nights := q.around(at); ; {
		further := end
		for _, p := range nights { // a clock change may let one day's quiet hours begin before those of the day before have ended
			if !p.starts.After(at) && p.ends.After(at) && p.ends.After(further) {
				further = p.ends
			}
		}
		if further.Equal(end) {
			return end
		}
		end, at = further, further
	}
}

// WindowFrom returns the instant from which the catch-up window of an occurrence
// counts: the end of the first quiet hours that it meets, else when it is due.
func (q QuietHours) WindowFrom(due time.Time, window time.Duration) time.Time {
	if q.None() {
		return due
	}
	if since, ok := q.sinceStart(due); ok {
		switch next := oneDay - since; {
		case since < q.length():
			return due.Add(q.length() - since).Round(0).UTC()
		case next < window:
			return due.Add(next + q.length()).Round(0).UTC()
		}
		return due
	}
	if end := q.End(due); !end.IsZero() {
		return end
	}
	for _, p := range q.around(due) { // in their order
		if p.starts.After(due) {
			if p.starts.Sub(due) < window {
				return q.End(p.starts)
			}
			break
		}
	}
	return due
}

const oneDay = secondsPerDay * time.Second

// Outside returns the instant at which a length of time has passed since from,
// not counting quiet hours, or ends where that is earlier.
func (q QuietHours) Outside(from time.Time, length time.Duration, ends time.Time) time.Time {
	for !q.None() && from.Before(ends) {
		if end := q.End(from); !end.IsZero() {
			from = end
			continue
		}
		nights := q.around(from)
		i := slices.IndexFunc(nights, func(n night) bool { return n.starts.After(from) })
		if i < 0 || !from.Add(length).After(nights[i].starts) {
			break
		}
		length -= nights[i].starts.Sub(from)
		from = nights[i].ends
	}
	if at := from.Add(length); q.None() || at.Before(ends) {
		return at
	}
	return ends
}

// length returns how long quiet hours last on a day without a clock change.
func (q QuietHours) length() time.Duration { return (q.until - q.from + oneDay) % oneDay }

// sinceStart returns how long ago quiet hours last began. It returns false where a
// clock changes within four days: then each of the days around has to be looked at.
// Where none changes, the local time is enough, at a twentieth of the cost.
func (q QuietHours) sinceStart(at time.Time) (time.Duration, bool) {
	unix, offset := at.Unix(), offsetAt(q.zone, at.Unix())
	if offsetAt(q.zone, unix-4*secondsPerDay) != offset || offsetAt(q.zone, unix+4*secondsPerDay) != offset {
		return 0, false
	}
	local := unix + offset
	clock := time.Duration(local-floorDiv(local, secondsPerDay)*secondsPerDay)*time.Second + time.Duration(at.Nanosecond())
	return (clock - q.from + oneDay) % oneDay, true
}

// A night is the quiet hours of one day, from their start to before their end.
type night struct{ starts, ends time.Time }

// around returns the quiet hours of the days around an instant. A clock change may
// leave a day without any.
func (q QuietHours) around(at time.Time) []night {
	today := dayOf(q.zone, at.Unix())
	spans := spansOf(q.zone, (today-4)*secondsPerDay, (today+6)*secondsPerDay)
	instant := func(day int64, clock time.Duration) time.Time {
		wall := day*secondsPerDay + int64(clock/time.Second)
		offset, _ := resolve(spans, wall)
		return time.Unix(wall-offset, 0).UTC()
	}
	out := make([]night, 0, 6)
	for day := today - 2; day <= today+3; day++ {
		last := day
		if q.until < q.from {
			last++
		}
		if p := (night{instant(day, q.from), instant(last, q.until)}); p.starts.Before(p.ends) {
			out = append(out, p)
		}
	}
	return out
}
