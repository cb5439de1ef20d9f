package store_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/campaign-scheduler/scheduler/store"
)

// Whatever changes between two reads, a read that knows the campaigns of the one before
// finds what a read finds that knows none.
func TestKnownCampaignsAreTheStoredOnes(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	exemption := one[int64](t, db, `SELECT scheduler.grant_quiet_exemption('hook', '', name => 'code')`)
	run(t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, quiet_policy) SELECT name, 'hook', 'webhook', 2,
		jsonb_build_object('startTime', extract(epoch FROM now())::bigint * 1000, 'endTime', extract(epoch FROM now() + interval '90 days')::bigint * 1000, 'circleType', 1, 'time', '10:00:00'), policy
		FROM (VALUES ('a', 'hold'), ('b', 'hold'), ('code', 'ignore')) x (name, policy)`)
	known := new(store.KnownCampaigns)
	read := func(known *store.KnownCampaigns) store.ForecastRows {
		t.Helper()
		rows, err := s.ForecastRows(t.Context(), store.ForecastFilter{Campaigns: 10, Until: time.Now().AddDate(0, 0, 14), Known: known})
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	before := read(known)
	for _, change := range []string{
		`SELECT 1`,
		`UPDATE scheduler.campaigns SET strategy_content = jsonb_set(strategy_content, '{time}', '"11:00:00"') WHERE name = 'a'`,
		`UPDATE scheduler.campaigns SET name = 'c', misfire_policy = 'skip', quiet_policy = 'skip' WHERE name = 'a'`,
		`UPDATE scheduler.campaigns SET catch_up_window = '2 h', time_zone = 'UTC' WHERE name = 'c'`,
		`INSERT INTO scheduler.app_quotas SELECT app_no, 'webhook', 3 FROM scheduler.apps WHERE app_id = 'hook'`,
		`UPDATE scheduler.channels SET max_targets = 7 WHERE channel = 'webhook'`,
		`UPDATE scheduler.app_quotas SET weekly_quota = 0`,
		`SELECT scheduler.revoke_quiet_exemption(` + strconv.FormatInt(exemption, 10) + `)`,
		`SELECT scheduler.grant_quiet_exemption('hook', '', channel => 'webhook')`,
		`UPDATE scheduler.campaigns SET status = 'paused' WHERE name = 'b'`,
		`UPDATE scheduler.campaigns SET status = 'active' WHERE name = 'b'`,
	} {
		run(t, db, change)
		with, without := read(known), read(nil)
		if diff := cmp.Diff(without, with, cmpopts.IgnoreFields(store.CampaignPlan{}, "Worked")); diff != "" {
			t.Errorf("%s (-read anew +with what was known):\n%s", change, diff)
		}
	}
	after := read(known)
	if len(before.Campaigns) != 3 || len(after.Campaigns) != 3 {
		t.Fatalf("%d campaigns before and %d after, want 3", len(before.Campaigns), len(after.Campaigns))
	}
	for i, c := range after.Campaigns {
		if c.CampaignPlan == before.Campaigns[i].CampaignPlan {
			t.Errorf("campaign %d is remembered from the first read, though it was changed", i+1)
		}
	}
	// What nobody changes is read once, but for what has an exemption.
	last := read(known)
	for i, again := range []bool{true, true, false} {
		if (last.Campaigns[i].CampaignPlan == after.Campaigns[i].CampaignPlan) != again {
			t.Errorf("campaign %d is remembered: %v, want %v", i+1, !again, again)
		}
	}
}
