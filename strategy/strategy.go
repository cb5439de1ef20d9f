// Package strategy turns a campaign's strategy, as its author stored it, into
// the instants at which the campaign pushes.
//
// The rules are those of mPaaS StrategyContent (Alibaba Cloud, Message Push
// Service) and of the columns beside it. The package is pure: it reads no clock,
// no database and no environment, so that the same Spec means the same
// occurrences in every daemon and in every year. Only the time zone rules come
// from outside, from the IANA database of the machine or, where it has none,
// from the copy inside the binary.
//
// The functions scheduler.strategy_* in migrations/ refuse the same rows with
// the same words; a test in store/ compares the two.
package strategy

import (
	"strconv"
	"strings"
	"time"
)

// Type is campaigns.strategy_type.
type Type int

const (
	// Now pushes once, at the moment the campaign was written.
	Now Type = 0
	// Fixed pushes once, at fixedTime.
	Fixed Type = 1
	// Loop pushes daily, weekly or monthly from startTime to endTime.
	Loop Type = 2
)

// String returns the type as problems name it, for example "1 (fixed time)".
func (t Type) String() string {
	switch t {
	case Now:
		return "0 (now)"
	case Fixed:
		return "1 (fixed time)"
	case Loop:
		return "2 (loop)"
	}
	return strconv.Itoa(int(t))
}

// ShortMonthPolicy says what a monthly loop does in a month without its day.
type ShortMonthPolicy string

const (
	// ShortMonthSkip leaves the month out.
	ShortMonthSkip ShortMonthPolicy = "skip"
	// ShortMonthLastDay takes the month's last day instead.
	ShortMonthLastDay ShortMonthPolicy = "last_day"
)

// DSTGapPolicy says what becomes of a local time that a clock change skips.
type DSTGapPolicy string

const (
	// DSTGapShift moves the time forward by the length of the gap, as RFC 5545 does.
	DSTGapShift DSTGapPolicy = "shift"
	// DSTGapSkip leaves the day out.
	DSTGapSkip DSTGapPolicy = "skip"
)

// Limits of a Spec.
const (
	// MaxDays is how many days after today a loop may end [mPaaS documents].
	MaxDays = 180
	// MaxContent is the longest StrategyContent in characters.
	MaxContent = 8192
	// MaxTimes is how many times of day a loop may have.
	MaxTimes = 24
	// MaxCatchUpWindow is the longest CatchUpWindow, a century.
	MaxCatchUpWindow = 36525 * 24 * time.Hour
)

// A Spec holds the parts of a campaign's row that say when to push. Defaults
// are already filled in: an empty field is a problem, not a default.
type Spec struct {
	Type Type
	// Content is StrategyContent: a JSON object, or a JSON string that holds
	// one. For Now it may be empty or null.
	Content []byte
	// Zone is the name of an IANA time zone, spelt exactly.
	Zone       string
	ShortMonth ShortMonthPolicy
	DSTGap     DSTGapPolicy
	// Times are a loop's times of day, "HH:mm:ss", in any order. Where there are
	// any, they replace the time in Content.
	Times []string
	// Calendar names the calendar of a fixed time or a loop; empty: none. Its closed
	// times are in Closed.
	Calendar string
	// CalendarPolicy is empty or one of the policies; empty means skip.
	CalendarPolicy CalendarPolicy
	// Closed is when the calendar is closed: from the first of these instants, which
	// ascend, until the second, from the third until the fourth, and so on.
	Closed []time.Time
	// Since is when Closed was last changed after the strategy was written; zero:
	// never. There is no occurrence before it. A Spec with Since was judged before. It
	// is not refused because of days that its calendar closes now.
	Since time.Time
	// CatchUpWindow is how late an occurrence may still be pushed, and so how
	// far in the past a fixedTime may lie.
	CatchUpWindow time.Duration
	// WrittenAt is when the strategy was written. "Today" in the rules is its
	// day in Zone, and a loop has no occurrence before it.
	WrittenAt time.Time
}

// Parse judges a Spec and works out its Schedule. The error, if any, is a
// Problems that names everything wrong with the Spec; warnings come with and
// without it. A Spec stored with its WrittenAt parses the same for ever.
func Parse(s Spec) (Schedule, []Warning, error) {
	j := judge{spec: s}
	j.columns()
	schedule := j.content()
	if len(j.problems) > 0 {
		return Schedule{}, j.warnings, j.problems
	}
	return schedule, j.warnings, nil
}

// A judge collects what is wrong with one Spec.
type judge struct {
	spec     Spec
	zone     *time.Location // nil when Spec.Zone is no zone
	window   bool           // Spec.CatchUpWindow is a valid window
	times    []int64        // Spec.Times in order, in seconds after midnight
	closing  *closing       // nil: there is no calendar, or its policy is unknown
	problems Problems
	warnings []Warning
}

func (j *judge) columns() {
	s := j.spec
	if s.Type < Now || s.Type > Loop {
		j.problem("strategy_type", "must be 0 (now), 1 (fixed time) or 2 (loop)",
			strconv.Itoa(int(s.Type)), "leave it out to push at once")
	}
	if j.zone = loadZone(s.Zone); j.zone == nil {
		j.problem("time_zone", "must be an IANA time zone, spelt as the IANA database spells it", s.Zone,
			"use an Area/Location name such as Asia/Shanghai, or UTC; abbreviations and offsets are not zones")
	}
	if s.ShortMonth != ShortMonthSkip && s.ShortMonth != ShortMonthLastDay {
		j.problem("short_month_policy", "must be skip or last_day", string(s.ShortMonth),
			"skip leaves out a month without the day; last_day takes the month's last day instead")
	}
	if s.DSTGap != DSTGapShift && s.DSTGap != DSTGapSkip {
		j.problem("dst_gap_policy", "must be shift or skip", string(s.DSTGap),
			"shift moves a local time that a clock change skips forward by the gap; skip leaves that day out")
	}
	if j.window = s.CatchUpWindow > 0 && s.CatchUpWindow <= MaxCatchUpWindow; !j.window {
		j.problem("catch_up_window", "must be longer than zero and at most 36525 days",
			seconds(s.CatchUpWindow), "write an interval such as '1 hour'")
	}
	if len(s.Times) > 0 {
		j.timesOfDay()
	}
	j.calendar()
}

func (j *judge) calendar() {
	s := &j.spec
	if s.Calendar != "" && s.Type == Now {
		j.warn(fieldCalendar, "is ignored: it belongs to strategy types "+Fixed.String()+" and "+Loop.String())
	}
	switch s.CalendarPolicy {
	case "", CalendarSkip, CalendarNextOpen, CalendarPreviousOpen:
		if s.CalendarPolicy != "" && s.Calendar == "" {
			j.problem(fieldCalendarPolicy, "must come with a calendar", string(s.CalendarPolicy),
				"name a calendar in the column calendar, or leave calendar_policy out")
		}
	default:
		j.problem(fieldCalendarPolicy, "must be skip, next_open or previous_open", string(s.CalendarPolicy),
			"skip leaves out what falls on a closed day; next_open and previous_open move it to the nearest open day after or before")
	}
	j.closing = newClosing(s)
}

// from returns the first second that does not lie in the past, and so may have an
// occurrence.
func (s *Spec) from() int64 {
	from := wholeSecond(s.WrittenAt)
	if !s.Since.IsZero() {
		from = max(from, wholeSecond(s.Since))
	}
	return from
}

// seconds writes a duration to the microsecond, which is as fine as PostgreSQL
// keeps it.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Truncate(time.Microsecond).Seconds(), 'f', -1, 64) + " s"
}

// A Problem is one reason to refuse a Spec.
type Problem struct {
	// Field is a key of StrategyContent such as "circleValue", or a column:
	// strategy_type, strategy_content (as a whole), time_zone,
	// short_month_policy, dst_gap_policy, catch_up_window, times or
	// calendar_policy.
	Field string
	// Message is the rule, worded to follow the field: "must not be empty".
	Message string
	// Value is the field's present value, cut to 80 characters. JSON values are
	// shown as JSON. Empty when there is none.
	Value string
	// Hint says how to fix it.
	Hint string
}

// Error returns the field and its rule.
func (p Problem) Error() string { return p.Field + " " + p.Message }

// Problems lists everything wrong with a Spec in a fixed order: the columns,
// the content as a whole, its unknown and repeated keys in the order of the
// text, its known keys.
type Problems []Problem

// Error joins the problems with semicolons.
func (ps Problems) Error() string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.Error()
	}
	return strings.Join(texts, "; ")
}

// A Warning is a fact that an author should know. It refuses nothing.
type Warning struct {
	Field   string // as in Problem
	Message string // worded to follow the field
}

// String returns the field and the message.
func (w Warning) String() string { return w.Field + " " + w.Message }

const maxValue = 80

func (j *judge) problem(field, message, value, hint string) {
	j.problems = append(j.problems, Problem{Field: field, Message: message, Value: clip(value), Hint: hint})
}

func (j *judge) warn(field, message string) {
	j.warnings = append(j.warnings, Warning{Field: field, Message: message})
}

// clip cuts s to maxValue characters, so that no log line or error holds a long
// text that an author pasted.
func clip(s string) string {
	count := 0
	for i := range s {
		if count == maxValue {
			return s[:i] + "..."
		}
		count++
	}
	return s
}
