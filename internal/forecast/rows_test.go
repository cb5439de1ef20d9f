package forecast

import (
	"reflect"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A schedule stays with its plan, but not that of a zone's old rules.
func TestSchedulesFollowTheirZones(t *testing.T) {
	t.Parallel()
	plan := &store.CampaignPlan{CampaignSummary: store.CampaignSummary{
		StrategyType: int16(strategy.Fixed), StrategyContent: []byte(`{"fixedTime": 1772359200000}`), TimeZone: "UTC",
		ShortMonth: string(strategy.ShortMonthSkip), DSTGap: string(strategy.DSTGapShift), WrittenAt: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
	}}
	want, _, err := strategy.Parse(SpecOf(plan.CampaignSummary))
	if err != nil {
		t.Fatal(err)
	}
	plan.Worked.Store(workedSchedule{rules: "others"})
	for range 2 {
		if got, err := scheduleOf(plan); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("a schedule by old rules, or %v", err)
		}
	}
	plan.StrategyContent = []byte(`nonsense`) // which nobody may do to a plan: it shows that the content is not read again
	if got, err := scheduleOf(plan); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("it was worked out again: %v", err)
	}
}
