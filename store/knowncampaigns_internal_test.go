package store

import (
	"bytes"
	"testing"
)

// KnownCampaigns forgets all when it has many, and remembers none that take much room or
// are not of their row alone.
func TestKnownCampaignsAreBounded(t *testing.T) {
	t.Parallel()
	known := new(KnownCampaigns)
	one := func(id int64, plan CampaignSummary) campaignVersion {
		v := campaignVersion{id, 1}
		known.add([]knownCampaign{{campaignVersion: v, plan: &CampaignPlan{CampaignSummary: plan}}})
		return v
	}
	long := one(-1, CampaignSummary{StrategyContent: bytes.Repeat([]byte(" "), maxKnownContent+1)})
	closed := one(-2, CampaignSummary{Calendar: CalendarSays{Name: "holidays"}})
	if plans, unknown := known.find([]campaignVersion{long, closed}); len(plans) != 0 || len(unknown) != 2 {
		t.Errorf("of a long and of a closed one %d are remembered", len(plans))
	}
	for id := range int64(maxKnown + 5) {
		one(id, CampaignSummary{})
	}
	if n := len(known.known); n != 5 {
		t.Errorf("%d are remembered, want 5", n)
	}
	if plans, unknown := known.find([]campaignVersion{{maxKnown, 1}, {maxKnown + 1, 2}}); len(plans) != 1 || len(unknown) != 1 {
		t.Errorf("%d known, %d not; want one of each", len(plans), len(unknown))
	}
	// One that was short and is long now is not remembered as it was.
	known.add([]knownCampaign{{campaignVersion: campaignVersion{maxKnown, 2}, plan: &CampaignPlan{CampaignSummary: CampaignSummary{StrategyContent: make([]byte, maxKnownContent+1)}}}})
	if _, has := known.known[maxKnown]; has {
		t.Error("an old version is kept")
	}
}
