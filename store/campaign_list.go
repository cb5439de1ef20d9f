package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoCampaign says that there is no campaign with the id.
var ErrNoCampaign = errors.New("there is no such campaign")

// A CampaignRow is a row of scheduler.campaigns for people to look at, with its
// next and its last occurrence.
type CampaignRow struct {
	Campaign
	AppID        string
	WorkspaceID  string
	StatusReason string
	CreatedBy    string
	UpdatedBy    string
	CreatedAt    time.Time
	UpdatedAt    time.Time
	NextDueAt    time.Time // zero: none is planned
	LastDueAt    time.Time // of the decided tasks; zero: none
	LastStatus   string
}

const campaignRowSQL = `
	SELECT ` + campaignColumns + `, c.app_id, c.workspace_id, coalesce(c.status_reason, ''), c.created_by, c.updated_by, c.created_at, c.updated_at,
	       (SELECT min(n) FROM (SELECT min(p.due_at) AS n FROM scheduler.pending_tasks p WHERE p.campaign_id = c.id
	                            UNION ALL SELECT k.next_due_at FROM scheduler.campaign_cursors k WHERE k.campaign_id = c.id AND k.active) x),
	       d.due_at, coalesce(d.status::text, '')
	  FROM scheduler.campaigns c
	  LEFT JOIN LATERAL (
		SELECT d.due_at, d.status FROM scheduler.decided_tasks d WHERE d.campaign_id = c.id ORDER BY d.due_at DESC LIMIT 1) d ON true`

func scanCampaignRow(row pgx.CollectableRow) (CampaignRow, error) {
	var c CampaignRow
	var next, last *time.Time
	err := row.Scan(append(c.columns(), &c.AppID, &c.WorkspaceID, &c.StatusReason, &c.CreatedBy, &c.UpdatedBy, &c.CreatedAt, &c.UpdatedAt,
		&next, &last, &c.LastStatus)...)
	c.NextDueAt, c.LastDueAt = orZero(next), orZero(last)
	return c, err
}

// ListCampaigns returns the campaigns that the filter chooses, the newest first.
func (s *Store) ListCampaigns(ctx context.Context, f Filter) ([]CampaignRow, error) {
	where := f.common("c")
	add(where, "c.id = ?", f.Campaign)
	add(where, "c.created_at >= ?", f.Since)
	add(where, "c.created_at < ?", f.Until)
	limit := where.limit(f.Limit)
	rows, err := s.db.Query(ctx, campaignRowSQL+` WHERE `+where.sql()+` ORDER BY c.id DESC LIMIT `+limit, where.args...)
	if err != nil {
		return nil, fmt.Errorf("list campaigns: %w", err)
	}
	out, err := pgx.CollectRows(rows, scanCampaignRow)
	if err != nil {
		return nil, fmt.Errorf("list campaigns: %w", err)
	}
	return out, nil
}

// Campaign returns one campaign, or ErrNoCampaign.
func (s *Store) Campaign(ctx context.Context, id int64) (CampaignRow, error) {
	rows, _ := s.db.Query(ctx, campaignRowSQL+` WHERE c.id = $1`, id)
	c, err := pgx.CollectOneRow(rows, scanCampaignRow)
	if errors.Is(err, pgx.ErrNoRows) {
		return CampaignRow{}, fmt.Errorf("campaign %d: %w", id, ErrNoCampaign)
	}
	if err != nil {
		return CampaignRow{}, fmt.Errorf("read campaign %d: %w", id, err)
	}
	return c, nil
}

// CountTargets counts a campaign's rows in campaign_targets.
func (s *Store) CountTargets(ctx context.Context, id int64) (int64, error) {
	var n int64
	if err := s.db.QueryRow(ctx, `SELECT count(*) FROM scheduler.campaign_targets WHERE campaign_id = $1`, id).Scan(&n); err != nil {
		return 0, fmt.Errorf("count targets of campaign %d: %w", id, err)
	}
	return n, nil
}

// CountTasks counts a campaign's tasks by status.
func (s *Store) CountTasks(ctx context.Context, id int64) (map[string]int64, error) {
	rows, err := s.db.Query(ctx, `SELECT status, count(*) FROM scheduler.tasks WHERE campaign_id = $1 GROUP BY status`, id)
	if err != nil {
		return nil, fmt.Errorf("count tasks of campaign %d: %w", id, err)
	}
	out := make(map[string]int64)
	var status string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&status, &n}, func() error { out[status] = n; return nil }); err != nil {
		return nil, fmt.Errorf("count tasks of campaign %d: %w", id, err)
	}
	return out, nil
}

// A HistoryRow is a change of a campaign.
type HistoryRow struct {
	ChangedAt time.Time
	ChangedBy string
	Action    string
	Revision  int32 // that the change ended
	Before    json.RawMessage
}

// History returns the newest changes of a campaign, newest first; the campaign
// itself may be gone.
func (s *Store) History(ctx context.Context, id int64, limit int) ([]HistoryRow, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT changed_at, changed_by, action, revision, before FROM scheduler.campaign_history WHERE campaign_id = $1 ORDER BY id DESC LIMIT $2`, id, limit)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[HistoryRow])
	if err != nil {
		return nil, fmt.Errorf("list changes of campaign %d: %w", id, err)
	}
	return out, nil
}
