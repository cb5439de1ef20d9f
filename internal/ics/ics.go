// Package ics reads the all-day events of an iCalendar file (RFC 5545) as the days of a
// calendar. The size of a file is bounded, and a file that the package does not
// understand is refused.
package ics

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-ical"
	"github.com/teambition/rrule-go"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// Bounds of a file. The days are as many as a calendar may have.
const (
	MaxBytes  = 1 << 20
	maxLine   = 16 << 10 // unfolded: the decoder takes time that grows with the square of a line
	maxEvents = 5000
	maxDays   = 5000
	maxLength = 366 // days of one event
	maxWord   = 200 // bytes
)

// Options say how events are read.
type Options struct {
	Open   bool      // events are open days, such as make-up workdays, and not closed ones
	OpenIf string    // events whose SUMMARY contains this are open days; empty: none
	Until  time.Time // the last day to which events that recur are followed
}

// A Day is a day that a file has events for.
type Day struct {
	Date time.Time // midnight UTC
	Open bool
	Word string // SUMMARY of the day's events, joined; may be empty
}

// A Result holds the days of a file.
type Result struct {
	Days      []Day // by date
	Timed     int   // events that are not all-day, which are left out
	Cancelled int   // events with that status, which are left out
}

// Read reads a file. The error names what it does not understand.
func Read(text []byte, o Options) (Result, error) {
	calendar, err := decode(text)
	if err != nil {
		return Result{}, err
	}
	events := calendar.Events()
	if len(events) > maxEvents {
		return Result{}, fmt.Errorf("the file has %d events, at most %d are read", len(events), maxEvents)
	}
	r := reader{Options: o, days: make(map[time.Time]*Day), replaced: replacedIn(events)}
	for i := range events {
		if err := r.event(&events[i]); err != nil {
			return Result{}, fmt.Errorf("event %d (%.60q): %w", i+1, summary(&events[i]), err)
		}
	}
	for _, date := range slices.SortedFunc(maps.Keys(r.days), time.Time.Compare) {
		r.result.Days = append(r.result.Days, *r.days[date])
	}
	return r.result, nil
}

// decode takes the text apart. The decoder panics at some texts that are not iCalendar.
func decode(text []byte) (calendar *ical.Calendar, err error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("the file is longer than %d bytes", MaxBytes)
	}
	if !utf8.Valid(text) {
		return nil, errors.New("the file is not UTF-8")
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	length := 0
	for line := range bytes.Lines(text) {
		if line[0] != ' ' && line[0] != '\t' {
			length = 0
		}
		if length += len(line); length > maxLine {
			return nil, fmt.Errorf("the file has a line longer than %d bytes", maxLine)
		}
	}
	defer func() {
		if recover() != nil {
			calendar, err = nil, errors.New("the file is no iCalendar: a line has no end")
		}
	}()
	calendar, err = ical.NewDecoder(bytes.NewReader(text)).Decode()
	if err != nil {
		return nil, fmt.Errorf("the file is no iCalendar: %w", err)
	}
	return calendar, nil
}

type reader struct {
	Options
	days     map[time.Time]*Day
	replaced map[string]map[time.Time]bool // by UID: recurrences that have an event of their own
	result   Result
}

// replacedIn finds the recurrences that have an event of their own.
func replacedIn(events []ical.Event) map[string]map[time.Time]bool {
	out := make(map[string]map[time.Time]bool)
	for i := range events {
		p := events[i].Props.Get(ical.PropRecurrenceID)
		if p == nil {
			continue
		}
		if at, ok := dateOf(p.Value); ok {
			uid := text(&events[i], ical.PropUID)
			if out[uid] == nil {
				out[uid] = make(map[time.Time]bool)
			}
			out[uid][at] = true
		}
	}
	return out
}

// event adds the days of an event.
func (r *reader) event(e *ical.Event) error {
	if strings.EqualFold(text(e, ical.PropStatus), string(ical.EventCancelled)) {
		r.result.Cancelled++
		return nil
	}
	start := e.Props.Get(ical.PropDateTimeStart)
	if start == nil {
		return errors.New("it has no DTSTART")
	}
	first, ok := dateOf(start.Value)
	if !ok {
		if _, err := start.DateTime(time.UTC); err != nil {
			return fmt.Errorf("DTSTART: %w", err)
		}
		r.result.Timed++
		return nil
	}
	n, err := length(e, first)
	if err != nil {
		return err
	}
	starts, err := r.starts(e, first)
	if err != nil {
		return err
	}
	for _, day := range starts {
		for i := range n {
			if err := r.add(day.AddDate(0, 0, i), summary(e)); err != nil {
				return err
			}
		}
	}
	return nil
}

// length returns how many days an event has.
func length(e *ical.Event, first time.Time) (int, error) {
	n := 1
	if p := e.Props.Get(ical.PropDateTimeEnd); p != nil {
		end, ok := dateOf(p.Value)
		if !ok {
			return 0, errors.New("DTEND must be a date, as DTSTART is")
		}
		n = max(1, int(end.Sub(first)/(24*time.Hour))) // some programs write an end on the first day
	} else if p := e.Props.Get(ical.PropDuration); p != nil {
		d, err := p.Duration()
		if err != nil || d < 24*time.Hour || d%(24*time.Hour) != 0 {
			return 0, errors.New("DURATION must be whole days")
		}
		n = int(d / (24 * time.Hour))
	}
	if n > maxLength {
		return 0, fmt.Errorf("it has %d days, at most %d are read", n, maxLength)
	}
	return n, nil
}

// starts lists the first days of an event and its recurrences.
func (r *reader) starts(e *ical.Event, first time.Time) ([]time.Time, error) {
	on := map[time.Time]bool{first: true}
	rule, err := e.Props.RecurrenceRule()
	if err != nil {
		return nil, err
	}
	if rule != nil {
		if err := r.recur(rule, first, on); err != nil {
			return nil, err
		}
	}
	for _, p := range e.Props.Values(ical.PropRecurrenceDates) {
		for value := range strings.SplitSeq(p.Value, ",") {
			day, ok := dateOf(value)
			if !ok {
				return nil, errors.New("RDATE must be dates, as DTSTART is")
			}
			on[day] = true
		}
	}
	for _, p := range e.Props.Values(ical.PropExceptionDates) {
		for value := range strings.SplitSeq(p.Value, ",") {
			day, ok := dateOf(value)
			if !ok {
				return nil, errors.New("EXDATE must be dates, as DTSTART is")
			}
			delete(on, day)
		}
	}
	if e.Props.Get(ical.PropRecurrenceID) == nil {
		for day := range r.replaced[text(e, ical.PropUID)] {
			delete(on, day)
		}
	}
	return slices.SortedFunc(maps.Keys(on), time.Time.Compare), nil
}

// recur follows a rule up to Until.
func (r *reader) recur(rule *rrule.ROption, first time.Time, on map[time.Time]bool) error {
	if rule.Freq > rrule.DAILY {
		return errors.New("RRULE must recur daily or more seldom")
	}
	rule.Dtstart = first
	if rule.Until.IsZero() || rule.Until.After(r.Until) {
		rule.Until = r.Until
	}
	made, err := rrule.NewRRule(*rule)
	if err != nil {
		return fmt.Errorf("RRULE: %w", err)
	}
	next := made.Iterator()
	for day, ok := next(); ok; day, ok = next() {
		if on[day.UTC()] = true; len(on) > maxDays {
			return fmt.Errorf("RRULE recurs more than %d times", maxDays)
		}
	}
	return nil
}

// add adds a day of an event.
func (r *reader) add(date time.Time, word string) error {
	open := r.Open || r.OpenIf != "" && strings.Contains(word, r.OpenIf)
	d := r.days[date]
	switch {
	case d == nil:
		if len(r.days) == maxDays {
			return fmt.Errorf("the file has more than %d days", maxDays)
		}
		r.days[date] = &Day{Date: date, Open: open, Word: dispatch.Clip(word, maxWord)}
	case d.Open != open:
		return fmt.Errorf("%s is both open and closed", date.Format(time.DateOnly))
	case word != "" && !strings.Contains(d.Word, word):
		d.Word = dispatch.Clip(strings.Join(slices.DeleteFunc([]string{d.Word, word}, func(s string) bool { return s == "" }), ", "), maxWord)
	}
	return nil
}

// dateOf reads a DATE.
func dateOf(value string) (time.Time, bool) {
	if len(value) != len("20060102") {
		return time.Time{}, false
	}
	t, err := time.Parse("20060102", value)
	return t, err == nil
}

func text(e *ical.Event, name string) string {
	value, _ := e.Props.Text(name) // a property that cannot be read counts as empty
	return value
}

// summary returns an event's SUMMARY on one line.
func summary(e *ical.Event) string {
	p := e.Props.Get(ical.PropSummary)
	if p == nil {
		return ""
	}
	return strings.Join(strings.Fields(cmp.Or(text(e, ical.PropSummary), p.Value)), " ")
}
