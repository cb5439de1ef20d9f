package main

import (
	"encoding/json"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// campaignJSON is a campaign as other programs read it: a promise. Times are
// RFC 3339 in the campaign's zone.
type campaignJSON struct {
	ID               int64           `json:"id"`
	Name             string          `json:"name"`
	AppID            string          `json:"app_id"`
	WorkspaceID      string          `json:"workspace_id"`
	Channel          string          `json:"channel"`
	Status           string          `json:"status"`
	StatusReason     string          `json:"status_reason"`
	Revision         int32           `json:"revision"`
	StrategyType     int16           `json:"strategy_type"`
	StrategyContent  json.RawMessage `json:"strategy_content"`
	Schedule         string          `json:"schedule"` // in words
	TimeZone         string          `json:"time_zone"`
	MisfirePolicy    string          `json:"misfire_policy"`
	CatchUpSeconds   float64         `json:"catch_up_window_seconds"`
	ShortMonthPolicy string          `json:"short_month_policy"`
	DSTGapPolicy     string          `json:"dst_gap_policy"`
	ResendUnknown    bool            `json:"resend_unknown"`
	CreatedBy        string          `json:"created_by"`
	CreatedAt        string          `json:"created_at"`
	UpdatedBy        string          `json:"updated_by"`
	UpdatedAt        string          `json:"updated_at"`
	NextDueAt        *string         `json:"next_due_at"`
	LastDueAt        *string         `json:"last_due_at"` // of the decided tasks
	LastStatus       string          `json:"last_status"`
}

func asCampaigns(rows []store.CampaignRow) []campaignJSON {
	out := make([]campaignJSON, len(rows))
	for i, c := range rows {
		out[i] = asCampaign(c)
	}
	return out
}

func asCampaign(c store.CampaignRow) campaignJSON {
	return campaignJSON{
		ID: c.ID, Name: c.Name, AppID: c.AppID, WorkspaceID: c.WorkspaceID, Channel: c.Channel, Status: c.Status, StatusReason: c.StatusReason,
		Revision: c.Revision, StrategyType: c.StrategyType, StrategyContent: c.StrategyContent, Schedule: describe(c), TimeZone: c.TimeZone,
		MisfirePolicy: c.MisfirePolicy, CatchUpSeconds: c.CatchUpWindow.Seconds(), ShortMonthPolicy: c.ShortMonthPolicy, DSTGapPolicy: c.DSTGapPolicy,
		ResendUnknown: c.ResendUnknown, CreatedBy: c.CreatedBy, CreatedAt: inZone(c.CreatedAt, c.TimeZone).Format(time.RFC3339Nano),
		UpdatedBy: c.UpdatedBy, UpdatedAt: inZone(c.UpdatedAt, c.TimeZone).Format(time.RFC3339Nano),
		NextDueAt: timeJSON(c.NextDueAt, c.TimeZone), LastDueAt: timeJSON(c.LastDueAt, c.TimeZone), LastStatus: c.LastStatus,
	}
}

// campaignDetailJSON is what show says beyond the list.
type campaignDetailJSON struct {
	campaignJSON

	Targets     int64            `json:"targets"` // in campaign_targets
	Tasks       map[string]int64 `json:"tasks"`   // by status
	Occurrences []occurrence     `json:"occurrences"`
	Warnings    []string         `json:"warnings"`
	Problems    []problem        `json:"problems"`
	Changes     []changeJSON     `json:"changes"` // the newest first
}

type changeJSON struct {
	ChangedAt string `json:"changed_at"`
	ChangedBy string `json:"changed_by"`
	Action    string `json:"action"`
	Revision  int32  `json:"revision"` // the one that ended
}

func (d campaignDetail) json() campaignDetailJSON {
	out := campaignDetailJSON{
		campaignJSON: asCampaign(d.row), Targets: d.targets, Tasks: d.counts, Occurrences: d.plan.Occurrences, Warnings: d.plan.Warnings,
		Problems: append([]problem{}, d.problems...), Changes: []changeJSON{},
	}
	for _, h := range d.history {
		out.Changes = append(out.Changes, changeJSON{inZone(h.ChangedAt, d.row.TimeZone).Format(time.RFC3339Nano), h.ChangedBy, h.Action, h.Revision})
	}
	return out
}
