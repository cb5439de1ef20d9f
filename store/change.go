package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Change is a campaign the planner has to look at.
type Change struct {
	CampaignID int64     // 0: none in particular, plan the app
	RewindTo   time.Time // the earliest occurrence whose task was withdrawn; zero: none
	Campaign   *Campaign // nil: it was deleted
	Cursor     *Cursor   // nil: it was never planned
	History    []Superseded
}

// Superseded is a version of a campaign that a change ended.
type Superseded struct {
	Before        Campaign
	Action        string
	StrategyEnded bool
	ChangedAt     time.Time
}

// Changes takes up to limit of the app's changes and locks their campaigns
// against authors until the transaction ends. Campaigns an author holds stay
// for a later pass.
func (p *PlanTx) Changes(ctx context.Context, limit int) ([]Change, error) {
	rewinds, gone, err := p.takeChanges(ctx, limit)
	if err != nil || len(rewinds) == 0 {
		return nil, err
	}
	ids := make([]int64, 0, len(rewinds))
	for id := range rewinds {
		ids = append(ids, id)
	}
	campaigns, cursors, err := p.changed(ctx, ids)
	if err != nil {
		return nil, err
	}
	if err := p.addGone(ctx, gone, cursors); err != nil {
		return nil, err
	}
	history, err := p.history(ctx, campaigns, cursors, gone)
	if err != nil {
		return nil, err
	}
	if err := p.takeUntold(ctx); err != nil {
		return nil, err
	}
	changes := make([]Change, 0, len(rewinds))
	for id, rewind := range rewinds {
		changes = append(changes, Change{CampaignID: id, RewindTo: rewind, Campaign: campaigns[id], Cursor: cursors[id], History: history[id]})
	}
	return changes, nil
}

// takeChanges removes the changes of campaigns that could be locked or are
// gone, and returns the earliest rewind of each. The limit counts only those: an
// author who holds thousands of campaigns holds up none of the app's others.
func (p *PlanTx) takeChanges(ctx context.Context, limit int) (rewinds map[int64]time.Time, gone []int64, err error) {
	// As values, not as EXISTS, for which the server may read every campaign. The
	// OFFSET keeps the server from locking a campaign twice.
	rows, err := p.tx.Query(ctx, `
		WITH change AS MATERIALIZED (
			SELECT x.ctid, x.locked IS NULL AS gone
			  FROM (SELECT x.ctid, x.campaign_id, (SELECT c.id FROM scheduler.campaigns c WHERE c.id = x.campaign_id FOR SHARE SKIP LOCKED) AS locked
			          FROM scheduler.campaign_changes x WHERE x.app_no = $1 OFFSET 0) x
			 WHERE x.locked IS NOT NULL OR (SELECT c.id FROM scheduler.campaigns c WHERE c.id = x.campaign_id) IS NULL
			 LIMIT $2
		)
		DELETE FROM scheduler.campaign_changes x USING change WHERE x.ctid = change.ctid
		RETURNING x.campaign_id, x.rewind_to, change.gone`, p.AppNo, limit)
	if err != nil {
		return nil, nil, fmt.Errorf("take changes: %w", err)
	}
	rewinds = make(map[int64]time.Time)
	var id int64
	var rewind *time.Time
	var absent bool
	_, err = pgx.ForEachRow(rows, []any{&id, &rewind, &absent}, func() error {
		old, seen := rewinds[id]
		switch {
		case rewind != nil && (!seen || old.IsZero() || rewind.Before(old)):
			rewinds[id] = *rewind
		case !seen:
			rewinds[id] = time.Time{}
		}
		if absent && id != 0 && !seen {
			gone = append(gone, id)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("take changes: %w", err)
	}
	return rewinds, gone, nil
}

// changed loads campaigns, and the cursors of those that have one.
func (p *PlanTx) changed(ctx context.Context, ids []int64) (map[int64]*Campaign, map[int64]*Cursor, error) {
	rows, _ := p.tx.Query(ctx, `
		SELECT `+campaignColumns+`, k.revision, k.active, k.next_due_at
		  FROM scheduler.campaigns c LEFT JOIN scheduler.campaign_cursors k ON k.campaign_id = c.id WHERE c.id = ANY($1)`, ids)
	campaigns, cursors := make(map[int64]*Campaign, len(ids)), make(map[int64]*Cursor)
	var c Campaign
	var revision *int32
	var active *bool
	var next *time.Time
	_, err := pgx.ForEachRow(rows, append(c.columns(), &revision, &active, &next), func() error {
		campaign := c
		campaigns[c.ID] = &campaign
		if revision != nil {
			cursors[c.ID] = &Cursor{CampaignID: c.ID, Revision: *revision, Active: *active, NextDueAt: orZero(next)}
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("load changed campaigns: %w", err)
	}
	return campaigns, cursors, nil
}

// addGone adds the cursors of campaigns that are gone.
func (p *PlanTx) addGone(ctx context.Context, gone []int64, cursors map[int64]*Cursor) error {
	if len(gone) == 0 {
		return nil
	}
	rows, _ := p.tx.Query(ctx, `SELECT campaign_id, revision, active, next_due_at FROM scheduler.campaign_cursors WHERE campaign_id = ANY($1)`, gone)
	var c Cursor
	var next *time.Time
	_, err := pgx.ForEachRow(rows, []any{&c.CampaignID, &c.Revision, &c.Active, &next}, func() error {
		cursor := c
		cursor.NextDueAt = orZero(next)
		cursors[c.CampaignID] = &cursor
		return nil
	})
	if err != nil {
		return fmt.Errorf("load cursors: %w", err)
	}
	return nil
}

// history returns, for campaigns whose revision moved since they were last
// planned, the versions in between, oldest first.
func (p *PlanTx) history(ctx context.Context, campaigns map[int64]*Campaign, cursors map[int64]*Cursor, gone []int64) (map[int64][]Superseded, error) {
	var ids []int64
	var from []int32
	ask := func(id int64) {
		ids = append(ids, id)
		rev := int32(0)
		if k := cursors[id]; k != nil {
			rev = k.Revision
		}
		from = append(from, rev)
	}
	for id, c := range campaigns {
		if k := cursors[id]; c.Revision > 1 && (k == nil || k.Revision != c.Revision) {
			ask(id)
		}
	}
	for _, id := range gone {
		ask(id)
	}
	out := make(map[int64][]Superseded)
	if len(ids) == 0 {
		return out, nil
	}
	rows, err := p.tx.Query(ctx, `
		SELECT h.campaign_id, h.action, h.strategy_ended, h.changed_at, h.before, (h.before ->> 'catch_up_window')::interval
		  FROM unnest($1::bigint[], $2::integer[]) AS u (id, from_revision)
		  JOIN scheduler.campaign_history h ON h.campaign_id = u.id AND h.revision >= u.from_revision
		 ORDER BY h.campaign_id, h.id`, ids, from)
	if err != nil {
		return nil, fmt.Errorf("load history: %w", err)
	}
	var id int64
	var window interval
	var h Superseded
	var before []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &h.Action, &h.StrategyEnded, &h.ChangedAt, &before, &window}, func() error {
		c, err := campaignFromJSON(before)
		if err != nil {
			return err
		}
		c.CatchUpWindow = time.Duration(window)
		h.Before = c
		out[id] = append(out[id], h)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load history: %w", err)
	}
	return out, nil
}

// campaignFromJSON reads the strategy of a row that to_jsonb wrote.
func campaignFromJSON(row []byte) (Campaign, error) {
	var j struct {
		ID               int64           `json:"id"`
		AppNo            int32           `json:"app_no"`
		Revision         int32           `json:"revision"`
		Status           string          `json:"status"`
		Channel          string          `json:"channel"`
		StrategyType     int16           `json:"strategy_type"`
		StrategyContent  json.RawMessage `json:"strategy_content"`
		TimeZone         string          `json:"time_zone"`
		ShortMonthPolicy string          `json:"short_month_policy"`
		DSTGapPolicy     string          `json:"dst_gap_policy"`
		WrittenAt        time.Time       `json:"written_at"`
	}
	if err := json.Unmarshal(row, &j); err != nil {
		return Campaign{}, err
	}
	return Campaign{
		ID: j.ID, AppNo: j.AppNo, Revision: j.Revision, Status: j.Status, Channel: j.Channel,
		StrategyType: j.StrategyType, StrategyContent: j.StrategyContent, TimeZone: j.TimeZone,
		ShortMonthPolicy: j.ShortMonthPolicy, DSTGapPolicy: j.DSTGapPolicy, WrittenAt: j.WrittenAt,
	}, nil
}

// ChangedApps returns up to limit apps with campaigns the planner has still to
// look at. It hops through the index from app to app, so that many changes of
// one app cost no more than one.
func (s *Store) ChangedApps(ctx context.Context, limit int) ([]int32, error) {
	rows, _ := s.pool.Query(ctx, `
		WITH RECURSIVE app AS (
			(SELECT app_no FROM scheduler.campaign_changes ORDER BY app_no LIMIT 1)
			UNION ALL
			SELECT (SELECT x.app_no FROM scheduler.campaign_changes x WHERE x.app_no > app.app_no ORDER BY x.app_no LIMIT 1)
			  FROM app WHERE app.app_no IS NOT NULL
		)
		SELECT app_no FROM app WHERE app_no IS NOT NULL LIMIT $1`, limit)
	out, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return nil, fmt.Errorf("list changed apps: %w", err)
	}
	return out, nil
}

// RevisitPaused asks the planner to look at paused and rejected campaigns with
// an occurrence that has left its catch-up window, and says how many there are.
func (s *Store) RevisitPaused(ctx context.Context, now time.Time, limit int) (int64, error) {
	tag, err := s.pool.Exec(ctx, `
		INSERT INTO scheduler.campaign_changes (app_no, campaign_id)
		SELECT k.app_no, k.campaign_id
		  FROM scheduler.campaign_cursors k JOIN scheduler.campaigns c ON c.id = k.campaign_id
		 WHERE NOT k.active AND k.next_due_at IS NOT NULL AND k.next_due_at < coalesce($1, clock_timestamp())
		   AND scheduler.window_end(k.next_due_at, c.catch_up_window) < coalesce($1, clock_timestamp())
		   AND NOT EXISTS (SELECT FROM scheduler.campaign_changes x WHERE x.app_no = k.app_no AND x.campaign_id = k.campaign_id)
		 LIMIT $2`, at(now), limit)
	if err != nil {
		return 0, fmt.Errorf("revisit paused campaigns: %w", err)
	}
	return tag.RowsAffected(), nil
}
