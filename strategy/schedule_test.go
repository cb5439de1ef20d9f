package strategy_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/strategy"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

// From whatever moment it is asked, Next gives the first occurrence after it.
func TestNextIsTheFirstOccurrenceAfter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		schedule, _, err := strategy.Parse(strategytest.Good(t))
		if err != nil {
			t.Skip()
		}
		all := walk(schedule)
		if last := schedule.Last(); !last.Equal(all[len(all)-1]) {
			t.Fatalf("Last is %s, the last occurrence %s", last, all[len(all)-1])
		}
		near := rapid.SampledFrom(all).Draw(t, "near")
		after := near.Add(time.Duration(rapid.Int64Range(-3e14, 3e14).Draw(t, "by")))
		if rapid.Bool().Draw(t, "close") {
			after = near.Add(time.Duration(rapid.SampledFrom([]int{-1e9, -1, 0, 1, 1e9}).Draw(t, "by a little")))
		}
		var want time.Time
		for _, at := range all {
			if at.After(after) {
				want = at
				break
			}
		}
		if got := schedule.Next(after); got != want {
			t.Fatalf("Next(%s) = %s, want %s", after, got, want)
		}
	})
}

func TestNextOfExtremeTimes(t *testing.T) {
	t.Parallel()
	schedule := parse(t, loopAcrossClockChange())
	first := schedule.Next(time.Time{})
	for _, at := range []time.Time{time.Unix(-1<<63, 0), time.Unix(-1<<60, 0), first.Add(-1)} {
		if got := schedule.Next(at); got != first {
			t.Errorf("Next(%d) = %s, want the first occurrence, %s", at.Unix(), got, first)
		}
	}
	for _, at := range []time.Time{schedule.Last(), time.Unix(1<<60, 0), time.Unix(1<<62, 0)} {
		if got := schedule.Next(at); !got.IsZero() {
			t.Errorf("Next(%d) = %s, want none", at.Unix(), got)
		}
	}
}

func TestZeroScheduleNeverPushes(t *testing.T) {
	t.Parallel()
	var s strategy.Schedule
	if !s.Next(time.Time{}).IsZero() || !s.Last().IsZero() || s.Note(time.Time{}) != "" || s.Describe() != "never" {
		t.Errorf("Next %v, Last %v, Note %q, Describe %q", s.Next(time.Time{}), s.Last(), s.Note(time.Time{}), s.Describe())
	}
}

func TestNowPushesWhenItWasWritten(t *testing.T) {
	t.Parallel()
	spec := strategytest.Defaults()
	spec.Type = strategy.Now
	spec.WrittenAt = time.Date(2026, 11, 22, 10, 0, 0, 123_456_000, time.FixedZone("", 8*3600))
	s := parse(t, spec)
	if got := s.Next(spec.WrittenAt.Add(-1)); !got.Equal(spec.WrittenAt) || got.Location() != time.UTC {
		t.Errorf("Next = %s, want %s in UTC", got, spec.WrittenAt)
	}
	if got := s.Next(spec.WrittenAt); !got.IsZero() {
		t.Errorf("a second occurrence at %s", got)
	}
	if got := s.Last(); !got.IsZero() {
		t.Errorf("Last = %s, want none", got)
	}
}

func TestNoteIsEmptyBetweenOccurrences(t *testing.T) {
	t.Parallel()
	s := parse(t, loopAcrossClockChange())
	shifted := time.Date(2026, 3, 8, 7, 30, 0, 0, time.UTC)
	if s.Note(shifted) == "" {
		t.Errorf("no note at %s", shifted)
	}
	for _, at := range []time.Time{shifted.Add(1), shifted.Add(-time.Second), {}} {
		if note := s.Note(at); note != "" {
			t.Errorf("Note(%s) = %q", at, note)
		}
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	for _, times := range [][]string{nil, {"02:30:00"}, {"02:30:00", "03:30:00", "18:00:00"}} {
		spec := onWorkdays(loopAcrossClockChange())
		spec.Times = times
		s := parse(t, spec)
		at := s.Next(time.Time{})
		if n := testing.AllocsPerRun(100, func() { s.Next(at) }); n != 0 {
			t.Errorf("at %v Next allocates %v times", times, n)
		}
	}
}

// loopAcrossClockChange is a daily loop of 181 days at 02:30 in New York.
func loopAcrossClockChange() strategy.Spec {
	s := strategytest.Defaults()
	s.Zone = "America/New_York"
	s.WrittenAt = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	s.Content = []byte(`{"startTime":1767268800000,"endTime":1782820800000,"circleType":1,"time":"02:30:00"}`)
	return s
}

// onWorkdays gives a Spec a calendar that closes weekends, for half a year and more.
func onWorkdays(s strategy.Spec) strategy.Spec {
	s.Calendar, s.CalendarPolicy = "workdays", strategy.CalendarNextOpen
	for at := time.Date(2025, 12, 27, 5, 0, 0, 0, time.UTC); at.Year() < 2027; at = at.AddDate(0, 0, 7) {
		s.Closed = append(s.Closed, at, at.AddDate(0, 0, 2))
	}
	return s
}

func parse(t testing.TB, s strategy.Spec) strategy.Schedule {
	t.Helper()
	schedule, _, err := strategy.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return schedule
}

func BenchmarkNext(b *testing.B) {
	hours := make([]string, 24)
	for i := range hours {
		hours[i] = fmt.Sprintf("%02d:30:00", i)
	}
	several := map[string][]string{"one in times": hours[2:3], "three times": {"02:30:00", "12:30:00", "18:30:00"}, "every hour": hours}
	for name, content := range map[string]string{
		"one in times": `{"startTime":1767268800000,"endTime":1782820800000,"circleType":1}`,
		"three times":  `{"startTime":1767268800000,"endTime":1782820800000,"circleType":1}`,
		"every hour":   `{"startTime":1767268800000,"endTime":1782820800000,"circleType":1}`,

		"on workdays": `{"startTime":1767268800000,"endTime":1782820800000,"circleType":1,"time":"02:30:00"}`,

		"daily":   `{"startTime":1767268800000,"endTime":1782820800000,"circleType":1,"time":"02:30:00"}`,
		"weekly":  `{"startTime":1767268800000,"endTime":1782820800000,"circleType":2,"circleValue":[6],"time":"02:30:00"}`,
		"monthly": `{"startTime":1767268800000,"endTime":1782820800000,"circleType":3,"circleValue":[31],"time":"02:30:00"}`,
	} {
		b.Run(name, func(b *testing.B) {
			spec := loopAcrossClockChange()
			spec.Content, spec.Times = []byte(content), several[name]
			if name == "on workdays" {
				spec = onWorkdays(spec)
			}
			s := parse(b, spec)
			b.ReportAllocs()
			for at := spec.WrittenAt; b.Loop(); {
				if at = s.Next(at); at.IsZero() {
					at = spec.WrittenAt
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	spec := loopAcrossClockChange()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := strategy.Parse(spec); err != nil {
			b.Fatal(err)
		}
	}
}
