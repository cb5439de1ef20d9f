package forecast

import (
	"reflect"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/strategy"
)

// Whatever of a strategy is written anew, its schedule is that of the new one.
func TestSchedulesFollowTheirStrategies(t *testing.T) {
	t.Parallel()
	base := strategy.Spec{
		Type: strategy.Loop, Content: []byte(`{"startTime": 1767312000000, "endTime": 1782691200000, "circleType": 3, "circleValue": [2, 31], "time": "02:30:00"}`),
		Zone: "Europe/Berlin", ShortMonth: strategy.ShortMonthSkip, DSTGap: strategy.DSTGapShift, CatchUpWindow: time.Hour,
		WrittenAt: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
	}
	specs := map[string]strategy.Spec{"as it was": base}
	for field, change := range map[string]func(*strategy.Spec){
		"Type": func(s *strategy.Spec) { s.Type, s.Content = strategy.Fixed, []byte(`{"fixedTime": 1772359200000}`) },
		"Content": func(s *strategy.Spec) {
			s.Content = []byte(`{"startTime": 1767312000000, "endTime": 1782691200000, "circleType": 3, "circleValue": [2, 30], "time": "02:30:00"}`)
		},
		"Zone":          func(s *strategy.Spec) { s.Zone = "Asia/Shanghai" },
		"ShortMonth":    func(s *strategy.Spec) { s.ShortMonth = strategy.ShortMonthLastDay },
		"DSTGap":        func(s *strategy.Spec) { s.DSTGap = strategy.DSTGapSkip },
		"Times":         func(s *strategy.Spec) { s.Times = []string{"08:00:00", "20:00:00"} },
		"CatchUpWindow": func(s *strategy.Spec) { s.CatchUpWindow = 2 * time.Hour },
		"WrittenAt":     func(s *strategy.Spec) { s.WrittenAt = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) },
		"Closed": func(s *strategy.Spec) {
			s.Calendar, s.Closed = "holidays", []time.Time{time.Date(2026, 3, 30, 0, 0, 0, 0, time.UTC), time.Date(2026, 4, 2, 0, 0, 0, 0, time.UTC)}
		},
	} {
		spec := base
		change(&spec)
		specs[field] = spec
	}
	for of := range reflect.TypeFor[strategy.Spec]().Fields() {
		if _, ok := specs[of.Name]; !ok && of.Name != "Calendar" && of.Name != "CalendarPolicy" && of.Name != "Since" {
			t.Errorf("nothing changes %s", of.Name)
		}
	}
	for name, spec := range specs {
		var known Schedules
		for i, written := range []strategy.Spec{base, spec, spec, base} {
			want, _, err := strategy.Parse(written)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := known.of(7, written)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s, read %d: another strategy's schedule", name, i+1)
			}
		}
	}
}

// A schedule is not that of a zone's old rules.
func TestSchedulesFollowTheirZones(t *testing.T) {
	t.Parallel()
	spec := strategy.Spec{Type: strategy.Fixed, Content: []byte(`{"fixedTime": 1772359200000}`), Zone: "UTC", ShortMonth: strategy.ShortMonthSkip, DSTGap: strategy.DSTGapShift, CatchUpWindow: time.Hour, WrittenAt: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	want, _, err := strategy.Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	old := knownSchedule{spec: spec, rules: "others"}
	known := Schedules{known: map[int64]knownSchedule{7: old}}
	if got, err := known.of(7, spec); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("a schedule by old rules, or %v", err)
	}
}

// Schedules forgets all when it has many, and remembers no long ones.
func TestSchedulesAreBounded(t *testing.T) {
	t.Parallel()
	var known Schedules
	spec := strategy.Spec{Type: strategy.Fixed, Content: []byte(`{"fixedTime": 1772359200000}`), Zone: "UTC", ShortMonth: strategy.ShortMonthSkip, DSTGap: strategy.DSTGapShift, CatchUpWindow: time.Hour, WrittenAt: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	for id := range int64(maxKnown + 5) {
		if _, err := known.of(id, spec); err != nil {
			t.Fatal(err)
		}
	}
	long := spec
	long.Content = append(make([]byte, 0, 2*maxContent), spec.Content...)
	for len(long.Content) <= maxContent {
		long.Content = append(long.Content, ' ')
	}
	if _, err := known.of(-1, long); err != nil {
		t.Fatal(err)
	}
	if n := len(known.known); n != 5 {
		t.Errorf("%d are remembered, want 5", n)
	}
}
