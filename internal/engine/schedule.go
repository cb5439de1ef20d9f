package engine

import (
	"time"

	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// schedule works out a stored campaign's occurrences. The row was judged when
// it was written, so it is not held against a catch-up window that its author
// shortened since.
func schedule(c *store.Campaign) (strategy.Schedule, error) {
	s, _, err := strategy.Parse(strategy.Spec{
		Type:          strategy.Type(c.StrategyType),
		Content:       c.StrategyContent,
		Zone:          c.TimeZone,
		ShortMonth:    strategy.ShortMonthPolicy(c.ShortMonthPolicy),
		DSTGap:        strategy.DSTGapPolicy(c.DSTGapPolicy),
		CatchUpWindow: strategy.MaxCatchUpWindow,
		WrittenAt:     c.WrittenAt,
	})
	return s, err
}

// first returns a schedule's first occurrence; zero when there is none.
func first(s strategy.Schedule) time.Time { return s.Next(time.Time{}) }

// schedules are what is known of campaigns' occurrences already, by campaign.
// A zero Schedule is as good as none.
type schedules map[int64]strategy.Schedule

// of returns the campaign's schedule.
func (k schedules) of(c *store.Campaign) (strategy.Schedule, error) {
	if s, ok := k[c.ID]; ok && !s.Last().IsZero() {
		return s, nil
	}
	return schedule(c)
}
