package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// A CampaignPlan holds the columns of a campaign that say when it will push. Several
// readers may share one: nobody changes it, but for Worked.
type CampaignPlan struct {
	CampaignSummary
	CatchUpWindow time.Duration
	Spread        time.Duration // of a push's deliveries; zero: none
	QuietPolicy   string        // hold, skip or ignore; ignore only with an exemption
	MisfirePolicy string

	Worked atomic.Value // what a reader has worked out of the columns, for those after it
}

// KnownCampaigns remembers the plans of campaigns by the versions of their rows. A page
// looks at up to a thousand, and hardly any has changed since the page before. It is
// safe for concurrent use.
type KnownCampaigns struct {
	mu    sync.Mutex
	known map[int64]knownCampaign
}

// A campaignVersion names a row of scheduler.campaigns as one transaction left it.
// PostgreSQL gives each transaction that writes another number, for four thousand million
// transactions.
type campaignVersion struct {
	id      int64
	version uint32
}

// versionColumn reads a version, beside the id.
const versionColumn = ", c.xmin AS version"

type knownCampaign struct {
	campaignVersion
	plan    *CampaignPlan
	ignores bool // quiet hours, if it has an exemption
}

// Bounds of what is remembered, some 15 MB with what is worked out of them.
const (
	maxKnown        = 10_000
	maxKnownContent = 1024 // bytes of a strategy's content
)

// find returns the plans that are known in these versions, and the ids of the others.
func (k *KnownCampaigns) find(chosen []campaignVersion) (plans []*CampaignPlan, unknown []int64) {
	plans = make([]*CampaignPlan, 0, len(chosen))
	if k != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
	}
	for _, c := range chosen {
		if k != nil && k.known[c.id].campaignVersion == c {
			plans = append(plans, k.known[c.id].plan)
		} else {
			unknown = append(unknown, c.id)
		}
	}
	return plans, unknown
}

// add remembers plans, but for those that are long or that are not of their row alone: an
// exemption from quiet hours stands elsewhere.
func (k *KnownCampaigns) add(read []knownCampaign) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range read {
		if len(c.plan.StrategyContent) > maxKnownContent || c.plan.Calendar.Name != "" || c.ignores {
			delete(k.known, c.id)
			continue
		}
		if k.known == nil || len(k.known) >= maxKnown {
			k.known = make(map[int64]knownCampaign)
		}
		k.known[c.id] = c
	}
}

// readPlans reads the plans of campaigns.
func readPlans(ctx context.Context, tx pgx.Tx, ids []int64) ([]knownCampaign, error) {
	rows, _ := tx.Query(ctx, `
		SELECT c.id`+versionColumn+`, c.name, c.app_id, c.workspace_id, c.channel, c.strategy_type, c.strategy_content, c.time_zone, c.short_month_policy, c.dst_gap_policy, c.times, `+calendarColumns+`,
		       c.written_at, c.catch_up_window, c.spread, `+quietPolicy+`, c.quiet_policy IS NOT DISTINCT FROM 'ignore', c.misfire_policy
		  FROM scheduler.campaigns c WHERE c.id = ANY ($1)`, ids)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k knownCampaign, err error) {
		c := new(CampaignPlan)
		err = row.Scan(
			&c.ID, &k.version, &c.Name, &c.AppID, &c.WorkspaceID, &c.Channel, &c.StrategyType, (*[]byte)(&c.StrategyContent), &c.TimeZone, &c.ShortMonth, &c.DSTGap, &c.Times,
			&c.Calendar.Name, &c.Calendar.Policy, &c.Calendar.Closed, (*timeOrZero)(&c.Calendar.Since),
			&c.WrittenAt, (*interval)(&c.CatchUpWindow), (*interval)(&c.Spread), &c.QuietPolicy, &k.ignores, &c.MisfirePolicy)
		k.id, k.plan = c.ID, c
		return k, err
	})
}
