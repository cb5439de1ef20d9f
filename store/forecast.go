package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// A ForecastCampaign is what a forecast needs of an active campaign.
type ForecastCampaign struct {
	CampaignSummary
	CatchUpWindow time.Duration
	MaxTargets    int   // a call of its channel may carry; zero: it takes none
	Targets       int64 // rows of campaign_targets, counted up to 10,001
}

// A QuotaCall counts against a quota.
type QuotaCall struct {
	AppID, WorkspaceID, Channel string
	At                          time.Time
}

// ForecastRows returns the active campaigns of an app, or of all where it is
// empty, the earliest written first and at most limit, with the calls of the
// last 7 days that count against quotas.
func (s *Store) ForecastRows(ctx context.Context, appID string, limit int) ([]ForecastCampaign, []QuotaCall, error) {
	where := Filter{AppID: appID, Statuses: []string{"active"}}.common("c")
	where.where = append(where.where, "c.strategy_type <> 0")
	most := where.limit(limit)
	var campaigns []ForecastCampaign
	var calls []QuotaCall
	err := s.read(ctx, "read what a forecast needs", func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			SELECT c.id, c.name, c.app_id, c.workspace_id, c.channel, c.strategy_type, c.strategy_content, c.time_zone, c.short_month_policy, c.dst_gap_policy,
			       c.written_at, c.catch_up_window, k.max_targets,
			       CASE WHEN k.max_targets > 0 THEN (SELECT count(*) FROM (SELECT FROM scheduler.campaign_targets t WHERE t.campaign_id = c.id LIMIT 10001) x) ELSE 0 END
			  FROM scheduler.campaigns c JOIN scheduler.channels k USING (channel) WHERE `+where.sql()+` ORDER BY c.id LIMIT `+most, where.args...)
		var err error
		campaigns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c ForecastCampaign, err error) {
			err = row.Scan(&c.ID, &c.Name, &c.AppID, &c.WorkspaceID, &c.Channel, &c.StrategyType, &c.StrategyContent, &c.TimeZone, &c.ShortMonth, &c.DSTGap,
				&c.WrittenAt, (*interval)(&c.CatchUpWindow), &c.MaxTargets, &c.Targets)
			return c, err
		})
		if err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, `SELECT app_id, workspace_id, channel, used_at FROM scheduler.quota_calls ORDER BY used_at`)
		calls, err = pgx.CollectRows(rows, pgx.RowToStructByPos[QuotaCall])
		return err
	})
	return campaigns, calls, err
}
