package forecast

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// WithQuietNote adds to the note of an occurrence whether quiet hours hold it or
// leave it out, by the quiet_policy of its campaign. The note has times in zone.
func WithQuietNote(note string, q strategy.QuietHours, policy string, due time.Time, zone string) string {
	if quiet := quietNote(q, policy, due, zone); quiet != "" {
		return strings.TrimPrefix(note+"; "+quiet, "; ")
	}
	return note
}

func quietNote(q strategy.QuietHours, policy string, due time.Time, zone string) string {
	end := q.End(due)
	switch {
	case end.IsZero() || policy == "ignore":
		return ""
	case policy == "skip":
		return "left out: quiet hours"
	}
	if at, err := time.LoadLocation(zone); err == nil {
		end = end.In(at)
	}
	return "quiet hours: held until " + end.Format("2006-01-02 15:04:05")
}

// A Closed is an occurrence that a campaign's calendar moves or leaves out. Word
// says why its day is closed, if the calendar says so.
type Closed struct {
	strategy.Displaced
	Word string
}

// ClosedAround reads when a calendar is closed in the days of a strategy that is
// written now, in the form of strategy.Spec.Closed. The error may be
// store.ErrNoCalendar.
func ClosedAround(ctx context.Context, s *store.Store, calendar string, kind strategy.Type, content []byte, now time.Time) ([]time.Time, error) {
	from, until := now, now.AddDate(0, 0, strategy.MaxDays+3)
	if fixed, ok := strategy.FixedTime(content); ok && kind == strategy.Fixed {
		from, until = fixed.AddDate(0, 0, -strategy.MaxMove), fixed.AddDate(0, 0, strategy.MaxMove)
	}
	return s.CalendarClosed(ctx, calendar, from, until)
}

// ReadClosed lists the occurrences after an instant that the calendar of a schedule
// moves or leaves out, the earliest first and at most most. more says how many others
// there are.
func ReadClosed(ctx context.Context, s *store.Store, calendar string, schedule strategy.Schedule, after time.Time, most int) (list []Closed, more int, err error) {
	displaced := slices.DeleteFunc(schedule.Displaced(), func(d strategy.Displaced) bool { return !d.From.After(after) && !d.To.After(after) })
	if len(displaced) == 0 {
		return nil, 0, nil
	}
	slices.SortFunc(displaced, func(a, b strategy.Displaced) int { return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To)) })
	shown := displaced[:min(len(displaced), most)]
	k, days, err := s.Calendar(ctx, calendar, shown[0].From.AddDate(0, 0, -2), shown[len(shown)-1].From.AddDate(0, 0, 2))
	if err != nil && !errors.Is(err, store.ErrNoCalendar) {
		return nil, 0, err
	}
	words := make(map[string]string, len(days))
	for _, d := range days {
		if !d.Open {
			words[d.Day.Format(time.DateOnly)] = d.Why
		}
	}
	zone, err := time.LoadLocation(k.TimeZone) // UTC where there is no calendar
	if err != nil {
		zone = time.UTC
	}
	for _, d := range shown {
		list = append(list, Closed{d, words[d.From.In(zone).Format(time.DateOnly)]})
	}
	return list, len(displaced) - len(shown), nil
}
