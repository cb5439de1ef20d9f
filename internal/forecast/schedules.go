package forecast

import (
	"bytes"
	"slices"
	"sync"

	"github.com/campaign-scheduler/scheduler/strategy"
)

// Schedules remembers the schedules of campaigns. A page reads up to a thousand, and
// to work them out costs as much as to read them, while hardly any has changed since
// the page before. It is safe for concurrent use.
type Schedules struct {
	mu    sync.Mutex
	known map[int64]knownSchedule // by campaign
}

// A knownSchedule is the schedule of a strategy that is written so, by a zone's rules.
type knownSchedule struct {
	spec     strategy.Spec
	rules    string // those of the zone: a daemon may read others while it runs
	schedule strategy.Schedule
}

// Bounds of what is remembered, some 15 MB.
const (
	maxKnown   = 10_000
	maxContent = 1024 // bytes of a strategy's content; longer ones are worked out each time
)

// of returns the schedule of a campaign whose strategy is written so.
func (m *Schedules) of(campaign int64, spec strategy.Spec) (strategy.Schedule, error) {
	if m == nil || spec.Calendar != "" || len(spec.Content) > maxContent {
		schedule, _, err := strategy.Parse(spec)
		return schedule, err
	}
	rules, _ := strategy.ZoneRules(spec.Zone) // before they are used, so that older ones are never taken for them
	m.mu.Lock()
	k, ok := m.known[campaign]
	m.mu.Unlock()
	if ok && k.rules == rules && sameSpec(k.spec, spec) {
		return k.schedule, nil
	}
	schedule, _, err := strategy.Parse(spec)
	if err != nil {
		return strategy.Schedule{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= maxKnown {
		m.known = make(map[int64]knownSchedule)
	}
	m.known[campaign] = knownSchedule{spec, rules, schedule}
	return schedule, nil
}

// sameSpec says whether two strategies without a calendar are written alike.
func sameSpec(a, b strategy.Spec) bool {
	return a.Type == b.Type && bytes.Equal(a.Content, b.Content) && a.Zone == b.Zone && a.ShortMonth == b.ShortMonth && a.DSTGap == b.DSTGap &&
		slices.Equal(a.Times, b.Times) && a.CatchUpWindow == b.CatchUpWindow && a.WrittenAt.Equal(b.WrittenAt)
}
