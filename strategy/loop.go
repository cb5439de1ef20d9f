package strategy

import (
	"slices"
	"strconv"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

const (
	daily   = 1
	weekly  = 2
	monthly = 3
)

const secondsPerDay = 24 * 60 * 60

// A cycle is a loop after it was judged. Days are counted from 1970-01-01 in
// the campaign's zone.
type cycle struct {
	zone       *time.Location
	first, end int64  // days, both included
	kind       int64  // daily, weekly or monthly
	days       uint32 // bit n: day n of the week (1 Monday) or of the month
	time       int64  // seconds after local midnight; a loop with several has a timetable for each
	shortMonth ShortMonthPolicy
	dstGap     DSTGapPolicy
}

func (j *judge) loop(m *members) Schedule {
	if m == nil {
		return Schedule{}
	}
	c := cycle{zone: j.zone, shortMonth: j.spec.ShortMonth, dstGap: j.spec.DSTGap}
	c.first, c.end = j.dates(m)
	if kind, ok := j.whole(m, keyCircleType); ok {
		c.kind = kind
		c.days = j.circle(m, kind)
	}
	times := j.times
	if len(j.spec.Times) == 0 {
		times = []int64{j.timeOfDay(m)}
	} else if _, ok := m.values[keyTime]; ok {
		j.warn(keyTime, "is ignored: the column times stands in its place")
	}
	j.ignore(m, Fixed, keyFixedTime)
	if _, ok := m.values[keyCircleValue]; ok && c.kind == daily {
		j.warn(keyCircleValue, "is ignored: a daily loop pushes on every day")
	}
	if len(j.problems) == 0 {
		j.storable(m.text)
	}
	if len(j.problems) > 0 {
		return Schedule{}
	}
	s := c.schedule(times, j.spec.from(), j.closing)
	if s.Last().IsZero() && j.spec.Since.IsZero() {
		j.problem(fieldContent, "must yield at least one occurrence from now on", m.text, j.widen())
	}
	return s
}

// widen returns a hint that says how a loop without occurrences gets some.
func (j *judge) widen() string {
	clock := keyTime
	if len(j.spec.Times) > 0 {
		clock = fieldTimes
	}
	text := "widen startTime to endTime, or change circleValue, " + clock + ", short_month_policy"
	if j.spec.Calendar == "" {
		return text + " or dst_gap_policy"
	}
	return text + ", dst_gap_policy or calendar_policy; calendar " + j.spec.Calendar + " closes days among these"
}

// dates reads the first and the last day and compares them with today.
func (j *judge) dates(m *members) (first, end int64) {
	start, hasStart := j.moment(m, keyStartTime)
	if j.zone != nil && hasStart {
		first = dayOf(j.zone, start)
		j.notBeforeToday(m, keyStartTime, start, first)
	}
	stop, hasEnd := j.moment(m, keyEndTime)
	if j.zone == nil || !hasEnd {
		return first, end
	}
	end = dayOf(j.zone, stop)
	today := dayOf(j.zone, j.spec.WrittenAt.Unix())
	if j.notBeforeToday(m, keyEndTime, stop, end) && hasStart && end < first {
		j.problem(keyEndTime, "must not lie before startTime", m.values[keyEndTime],
			"it means "+date(end)+" and startTime means "+date(first)+" in "+j.zone.String())
	}
	if end > today+MaxDays {
		j.problem(keyEndTime, "must lie at most 180 days after today", m.values[keyEndTime],
			"it means "+date(end)+": write "+date(today+MaxDays)+" in "+j.zone.String()+" or earlier")
	}
	return first, end
}

func (j *judge) notBeforeToday(m *members, key string, unix, day int64) bool {
	today := dayOf(j.zone, j.spec.WrittenAt.Unix())
	if day >= today {
		return true
	}
	j.problem(key, "must not lie before today 00:00", m.values[key],
		hintSeconds(unix, "it means "+date(day)+" and today is "+date(today)+" in "+j.zone.String()))
	return false
}

// circle judges circleType and reads the days that circleValue chooses.
func (j *judge) circle(m *members, kind int64) uint32 {
	switch kind {
	case daily:
		return 0
	case weekly:
		return j.circleValue(m, 7, "must hold days from 1 (Monday) to 7 (Sunday)",
			"write the days of the week, for example [1,7] for Monday and Sunday")
	case monthly:
		return j.circleValue(m, 31, "must hold days from 1 to 31",
			"write the days of the month, for example [1,15]")
	}
	j.problem(keyCircleType, "must be 1 (daily), 2 (weekly) or 3 (monthly)", m.values[keyCircleType], fixes[keyCircleType])
	return 0
}

// circleValue reads the array into a set of bits. Each rule is reported once,
// with the first value that breaks it.
func (j *judge) circleValue(m *members, highest int64, span, fix string) (set uint32) {
	raw, ok := m.values[keyCircleValue]
	if !ok {
		j.problem(keyCircleValue, "is required for a weekly or monthly loop", "", fix)
		return 0
	}
	if rawjson.KindOf(raw) != rawjson.List {
		j.problem(keyCircleValue, "must be an array of whole numbers", raw, fix)
		return 0
	}
	var strange, outside, twice string
	empty := true
	for element := range rawjson.Elements(raw) {
		empty = false
		day, why := parseWhole(element)
		switch {
		case why != isWhole:
			keepFirst(&strange, element)
		case day < 1 || day > highest:
			keepFirst(&outside, element)
		case set&(1<<day) != 0:
			keepFirst(&twice, element)
		default:
			set |= 1 << day
		}
	}
	if empty {
		j.problem(keyCircleValue, "must not be empty", raw, fix)
		return 0
	}
	j.element("must hold whole numbers only", strange, fix)
	j.element(span, outside, fix)
	j.element("must not hold a day twice", twice, fix)
	return set
}

func keepFirst(slot *string, element string) {
	if *slot == "" {
		*slot = element
	}
}

func (j *judge) element(message, value, fix string) {
	if value != "" {
		j.problem(keyCircleValue, message, value, fix)
	}
}

// timeOfDay reads "HH:mm:ss" as seconds after midnight.
func (j *judge) timeOfDay(m *members) int64 {
	raw, ok := j.required(m, keyTime)
	if !ok {
		return 0
	}
	text, _ := rawjson.Unquote(raw)
	if seconds, ok := parseClock(text); ok {
		return seconds
	}
	j.problem(keyTime, "must be a time of day from 00:00:00 to 23:59:59", raw, fixes[keyTime])
	return 0
}

// parseClock reads "HH:mm:ss" as seconds after midnight.
func parseClock(text string) (seconds int64, ok bool) {
	if len(text) != len("HH:mm:ss") { // time.Parse alone would take "3:04:05" and fractions
		return 0, false
	}
	t, err := time.Parse("15:04:05", text)
	if err != nil {
		return 0, false
	}
	hour, minute, second := t.Clock()
	return int64(hour*3600 + minute*60 + second), true
}

// timesOfDay judges Spec.Times and reads them. Each rule is reported once, with
// the first value that breaks it.
func (j *judge) timesOfDay() {
	if j.spec.Type == Now || j.spec.Type == Fixed {
		j.warn(fieldTimes, "is ignored: it belongs to strategy type "+Loop.String())
	}
	if n := len(j.spec.Times); n > MaxTimes {
		j.problem(fieldTimes, "must not hold more than 24 times", strconv.Itoa(n)+" times", "write at most 24, or divide them among several campaigns")
		return
	}
	var strange, twice string
	for _, text := range j.spec.Times {
		at, ok := parseClock(text)
		place, found := slices.BinarySearch(j.times, at)
		switch {
		case !ok:
			keepFirst(&strange, `"`+text+`"`)
		case found:
			keepFirst(&twice, `"`+text+`"`)
		default:
			j.times = slices.Insert(j.times, place, at)
		}
	}
	if strange != "" {
		j.problem(fieldTimes, "must hold times of day from 00:00:00 to 23:59:59", strange, `write each time of day as "HH:mm:ss"`)
	}
	if twice != "" {
		j.problem(fieldTimes, "must not hold a time twice", twice, "keep one of them")
	}
}

// dayOf returns the local day of a Unix time, as days since 1970-01-01.
func dayOf(zone *time.Location, unix int64) int64 {
	return floorDiv(unix+offsetAt(zone, unix), secondsPerDay)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// dateOf returns midnight UTC of a day. Its date and weekday are the day's.
func dateOf(day int64) time.Time { return time.Unix(day*secondsPerDay, 0).UTC() }

func date(day int64) string { return dateOf(day).Format(time.DateOnly) }
