package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A ForecastCampaign is what a forecast needs of an active campaign.
type ForecastCampaign struct {
	CampaignSummary
	CatchUpWindow time.Duration
	Spread        time.Duration // zero: none
	MaxTargets    int           // a call of its channel may carry; zero: it takes none
	Targets       int64         // rows of campaign_targets, counted up to 10,001; zero: they were not counted
}

// A QuotaCall counts against a quota.
type QuotaCall struct {
	AppID, WorkspaceID, Channel string
	At                          time.Time
}

// A StoredOccurrence is an occurrence that the database knows of: a pending
// task, or one that somebody skipped and that is to come.
type StoredOccurrence struct {
	CampaignID int64
	DueAt      time.Time
	Skipped    bool
}

// ForecastRows are what a forecast is made of.
type ForecastRows struct {
	Campaigns []ForecastCampaign // the earliest written first
	Calls     []QuotaCall        // of the last 7 days
	Stored    []StoredOccurrence // of the campaigns
	Partial   bool               // more is stored than was read
}

// maxStored bounds the stored occurrences that a forecast reads of each kind.
const maxStored = 100_000

// A ForecastFilter chooses what a forecast is made of.
type ForecastFilter struct {
	AppID     string   // empty: every app
	Campaigns int      // at most so many are read
	CountFor  []string // app_ids whose campaigns' targets are counted, beside those of campaigns with a spread
	CountOn   []string // channels whose campaigns' targets are counted too
	Until     time.Time
}

// ForecastRows reads the campaigns that are to push, with the occurrences of
// which the database knows already, and the calls of the last 7 days that count
// against quotas.
func (s *Store) ForecastRows(ctx context.Context, f ForecastFilter) (out ForecastRows, err error) {
	where := Filter{AppID: f.AppID, Statuses: []string{"active"}}.common("c")
	// A push at once is to come while it has a task. LIMIT asks for one campaign's at
	// a time; EXISTS would read every pending task.
	where.where = append(where.where, "(c.strategy_type <> 0 OR (SELECT true FROM scheduler.upcoming u WHERE u.campaign_id = c.id LIMIT 1))")
	where.args = append(where.args, f.CountFor, f.CountOn)
	counted := len(where.args)
	most := where.limit(f.Campaigns)
	err = s.read(ctx, "read what a forecast needs", func(tx pgx.Tx) error {
		some, err := seesSome(ctx, tx)
		if err != nil {
			return err
		}
		if some {
			where.where = append(where.where, ofVisibleApps)
		}
		rows, _ := tx.Query(ctx, fmt.Sprintf(`
			SELECT c.id, c.name, c.app_id, c.workspace_id, c.channel, c.strategy_type, c.strategy_content, c.time_zone, c.short_month_policy, c.dst_gap_policy, c.times,
			       c.written_at, c.catch_up_window, c.spread, k.max_targets,
			       CASE WHEN k.max_targets > 0 AND (c.app_id = ANY ($%d) OR c.channel = ANY ($%d) OR c.spread IS NOT NULL)
			            THEN (SELECT count(*) FROM (SELECT FROM scheduler.campaign_targets t WHERE t.campaign_id = c.id LIMIT 10001) x) ELSE 0 END
			  FROM scheduler.campaigns c JOIN scheduler.channels k USING (channel) WHERE %s ORDER BY c.id LIMIT %s`,
			counted-1, counted, where.sql(), most), where.args...)
		out.Campaigns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c ForecastCampaign, err error) {
			err = row.Scan(&c.ID, &c.Name, &c.AppID, &c.WorkspaceID, &c.Channel, &c.StrategyType, &c.StrategyContent, &c.TimeZone, &c.ShortMonth, &c.DSTGap, &c.Times,
				&c.WrittenAt, (*interval)(&c.CatchUpWindow), (*interval)(&c.Spread), &c.MaxTargets, &c.Targets)
			return c, err
		})
		if err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, `SELECT app_id, workspace_id, channel, used_at FROM scheduler.quota_calls ORDER BY used_at`)
		if out.Calls, err = pgx.CollectRows(rows, pgx.RowToStructByPos[QuotaCall]); err != nil {
			return err
		}
		ids := make([]int64, len(out.Campaigns))
		for i, c := range out.Campaigns {
			ids[i] = c.ID
		}
		// Each campaign is asked for by its own key: there may be many more rows of others.
		for _, sql := range []string{`
			SELECT u.campaign_id, u.due_at, false FROM scheduler.upcoming u WHERE u.campaign_id = ANY ($1) AND u.due_at <= $2 LIMIT $3`, `
			SELECT k.campaign_id, k.due_at, true FROM scheduler.skipped_occurrences k
			 WHERE k.campaign_id = ANY ($1) AND k.due_at > now() AND k.due_at <= $2 AND k.restored_at IS NULL LIMIT $3`} {
			rows, _ = tx.Query(ctx, sql, ids, f.Until, maxStored)
			stored, err := pgx.CollectRows(rows, pgx.RowToStructByPos[StoredOccurrence])
			if err != nil {
				return err
			}
			out.Stored, out.Partial = append(out.Stored, stored...), out.Partial || len(stored) == maxStored
		}
		return nil
	})
	return out, err
}
