package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/judge"
)

// localTime shows a time in its zone, with the offset, so that the two 02:30 of
// an autumn night differ.
const localTime = "2006-01-02 15:04:05 -07:00"

// relative says how far away something is, as people would: "in 3 days".
func relative(d time.Duration) string {
	if d.Abs() < time.Second {
		return "now"
	}
	if d < 0 {
		return span(-d) + " ago"
	}
	return "in " + span(d)
}

// span says how long something is, as people would: "3 days".
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return count(int(d/time.Second), "second")
	case d < time.Hour:
		return count(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return count(int(d/time.Hour), "hour")
	}
	return count(int(d/(24*time.Hour)), "day")
}

// inZone shows a time in a zone; in UTC when this machine does not know it.
func inZone(t time.Time, zone string) time.Time {
	if location, err := time.LoadLocation(zone); err == nil && zone != "" {
		return t.In(location)
	}
	return t.UTC()
}

// dueIn writes a time in a zone for people; nothing for no time.
func dueIn(t time.Time, zone string) string {
	if t.IsZero() {
		return ""
	}
	return inZone(t, zone).Format(localTime)
}

// parseMoment reads a date, an RFC 3339 time, or an age: "24h", "7 days". A
// sign turns the age around: "+2h" lies ahead. The empty text is no moment.
func parseMoment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	ahead, signed := strings.CutPrefix(text, "+")
	age, err := judge.Interval(ahead)
	if err != nil {
		return time.Time{}, usageError(fmt.Sprintf("a time is a date such as 2026-01-31, an RFC 3339 time, or an age such as 24h or '7 days', not %q", text))
	}
	if signed {
		age = -age
	}
	return now.Add(-age), nil
}
