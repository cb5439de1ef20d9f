package strategy

import (
	"encoding/json"
	"time"
)

const (
	// maxMillis is the end of the year 9999, in Unix milliseconds.
	maxMillis = 253_402_300_799_999
	// A number between these two is a time from 1973 to 5138 in seconds. In
	// milliseconds it is a time from 1970 to 1973.
	leastSeconds, mostSeconds = 100_000_000, 100_000_000_000
)

// fixes say what to write for each key, whether it is missing or wrong.
var fixes = map[string]string{
	keyFixedTime:  "write the moment of the push in Unix milliseconds",
	keyStartTime:  "write the first day as the Unix milliseconds of any moment in it",
	keyEndTime:    "write the last day as the Unix milliseconds of any moment in it",
	keyCircleType: "write 1 for daily, 2 for weekly or 3 for monthly",
	keyTime:       `write the time of day as "HH:mm:ss"`,
}

func (j *judge) fixed(m *members) Schedule {
	if m == nil {
		return Schedule{}
	}
	unix, ok := j.moment(m, keyFixedTime)
	if ok && j.window {
		ok = j.notTooOld(m, unix)
	}
	j.ignore(m, Loop, keys[1:]...)
	s := Schedule{kind: Fixed, once: time.Unix(unix, 0).UTC(), zone: j.zone}
	if ok && j.zone != nil && j.closing != nil {
		j.moveFixed(m, unix, &s)
	}
	if len(j.problems) == 0 {
		j.storable(m.text)
	}
	return s
}

// moveFixed has the calendar move a fixed time.
func (j *judge) moveFixed(m *members, unix int64, s *Schedule) {
	at, ok := j.closing.fixed(j.zone, unix, j.spec.from(), j.spec.DSTGap)
	switch {
	case !j.spec.Since.IsZero() && (!ok || at < wholeSecond(j.spec.Since)):
		s.once = time.Time{} // it had an occurrence when it was written
	case !ok:
		j.closedThen(m, unix)
	case at != unix:
		s.once, s.from = time.Unix(at, 0).UTC(), s.once
	}
}

// closedThen refuses a fixed time on a closed day from which the calendar does
// not move it.
func (j *judge) closedThen(m *members, unix int64) {
	message := "must have an open day of the calendar within 31 days to move to"
	hint := "it means " + time.Unix(unix, 0).In(j.zone).Format(time.DateTime) + " in " + j.zone.String() + ", where calendar " + j.spec.Calendar +
		" is closed: write another moment"
	if j.closing.step == 0 {
		message = "must not lie on a day that the calendar closes"
		hint += ", or calendar_policy next_open or previous_open"
	}
	j.problem(keyFixedTime, message, m.values[keyFixedTime], hint)
}

// FixedTime reads the fixedTime of a StrategyContent, or returns false where there
// is no possible one. It is for callers that look up the days of a calendar around
// it.
func FixedTime(content []byte) (time.Time, bool) {
	var c struct {
		FixedTime *int64 `json:"fixedTime"`
	}
	if err := json.Unmarshal(content, &c); err != nil || c.FixedTime == nil || *c.FixedTime < 0 || *c.FixedTime > maxMillis {
		return time.Time{}, false
	}
	return time.Unix(*c.FixedTime/1000, 0).UTC(), true
}

// notTooOld applies the catch-up rule to a fixedTime in the past.
func (j *judge) notTooOld(m *members, unix int64) bool {
	at := time.Unix(unix, 0)
	if !at.Before(j.spec.WrittenAt.Add(-j.spec.CatchUpWindow)) {
		return true
	}
	zone := j.zone
	if zone == nil {
		zone = time.UTC
	}
	j.problem(keyFixedTime, "must not be further in the past than catch_up_window", m.values[keyFixedTime],
		hintSeconds(unix, "it means "+at.In(zone).Format(time.DateTime)+" in "+zone.String()+
			": write a moment to come, or a longer catch_up_window"))
	return false
}

// hintSeconds replaces a hint when a moment lies in the past because it was
// written in seconds.
func hintSeconds(unix int64, hint string) string {
	if unix >= leastSeconds/1000 && unix < mostSeconds/1000 {
		return "it looks like seconds: write Unix milliseconds"
	}
	return hint
}

// moment reads a time in Unix milliseconds, cut to the second.
func (j *judge) moment(m *members, key string) (unix int64, ok bool) {
	ms, ok := j.whole(m, key)
	if !ok {
		return 0, false
	}
	if ms < 0 || ms > maxMillis {
		j.problem(key, "must be Unix milliseconds of the years 1970 to 9999", m.values[key], fixes[key])
		return 0, false
	}
	return ms / 1000, true
}

// whole reads a key that must be there as a whole number.
func (j *judge) whole(m *members, key string) (v int64, ok bool) {
	raw, ok := j.required(m, key)
	if !ok {
		return 0, false
	}
	v, why := parseWhole(raw)
	if why != isWhole {
		j.problem(key, string(why), raw, fixes[key])
		return 0, false
	}
	return v, true
}

// required reads a raw value that must be there.
func (j *judge) required(m *members, key string) (raw string, ok bool) {
	if raw, ok = m.values[key]; !ok {
		j.problem(key, "is required for strategy type "+j.spec.Type.String(), "", fixes[key])
	}
	return raw, ok
}
