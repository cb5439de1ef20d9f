package main

import (
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// taskJSON is a task as other programs read it: a promise. Times are RFC 3339 in
// the campaign's zone.
type taskJSON struct {
	ID             int64    `json:"id"`
	CampaignID     int64    `json:"campaign_id"`
	Campaign       string   `json:"campaign"`
	AppID          string   `json:"app_id"`
	WorkspaceID    string   `json:"workspace_id"`
	Channel        string   `json:"channel"`
	Origin         string   `json:"origin"`
	Revision       int32    `json:"revision"`
	DueAt          string   `json:"due_at"`
	Status         string   `json:"status"`
	Reason         string   `json:"reason"`
	Attempts       int32    `json:"attempts"`
	StartedAt      *string  `json:"started_at"`
	SentAt         *string  `json:"sent_at"`
	DecidedAt      *string  `json:"decided_at"`
	Lateness       *float64 `json:"lateness_seconds"` // of the first call; null: none was made
	Deliveries     int32    `json:"deliveries"`
	DeliveriesDone int32    `json:"deliveries_done"`
	Targets        int64    `json:"targets"`
	Code           string   `json:"code"`
	Message        string   `json:"message"`
	RequestID      string   `json:"request_id"`
	MessageID      string   `json:"message_id"`
}

func asTasks(rows []store.TaskRow) []taskJSON {
	out := make([]taskJSON, len(rows))
	for i, r := range rows {
		out[i] = asTask(r)
	}
	return out
}

func asTask(t store.TaskRow) taskJSON {
	out := taskJSON{
		ID: t.ID, CampaignID: t.CampaignID, Campaign: t.Campaign, AppID: t.AppID, WorkspaceID: t.WorkspaceID, Channel: t.Channel,
		Origin: t.Origin, Revision: t.Revision, DueAt: inZone(t.DueAt, t.TimeZone).Format(time.RFC3339Nano), Status: t.Status, Reason: t.Reason,
		Attempts: t.Attempts, StartedAt: timeJSON(t.StartedAt, t.TimeZone), SentAt: timeJSON(t.SentAt, t.TimeZone),
		DecidedAt: timeJSON(t.DecidedAt, t.TimeZone), Deliveries: t.Deliveries, DeliveriesDone: t.DeliveriesDone, Targets: t.Targets,
		Code: t.Code, Message: t.Message, RequestID: t.RequestID, MessageID: t.MessageID,
	}
	if !t.SentAt.IsZero() {
		late := t.SentAt.Sub(t.DueAt).Seconds()
		out.Lateness = &late
	}
	return out
}

// timeJSON is null for no time.
func timeJSON(t time.Time, zone string) *string {
	if t.IsZero() {
		return nil
	}
	text := inZone(t, zone).Format(time.RFC3339Nano)
	return &text
}

// taskDetail is what show says beyond the list.
type taskDetail struct {
	taskJSON

	ByStatus  []deliveryJSON `json:"deliveries_by_status"`
	Rulings   []rulingJSON   `json:"rulings"`
	Triggered *triggerJSON   `json:"triggered"` // null: a task of the strategy
}

type triggerJSON struct {
	At       string `json:"at"`
	By       string `json:"by"`
	Operator string `json:"operator"`
}

type deliveryJSON struct {
	Status     string `json:"status"`
	Deliveries int64  `json:"deliveries"`
	Targets    int64  `json:"targets"`
	Reason     string `json:"reason"` // of the first
}

type rulingJSON struct {
	RuledAt  string `json:"ruled_at"`
	Ruling   string `json:"ruling"`
	Resend   bool   `json:"resend"`
	Note     string `json:"note"`
	RuledBy  string `json:"ruled_by"`
	Operator string `json:"operator"`
}

func asTaskDetail(t store.TaskRow, deliveries []store.DeliveryCount, rulings []store.RulingRow, trigger *store.TriggerRow) taskDetail {
	out := taskDetail{taskJSON: asTask(t), ByStatus: []deliveryJSON{}, Rulings: []rulingJSON{}}
	if trigger != nil {
		out.Triggered = &triggerJSON{inZone(trigger.At, t.TimeZone).Format(time.RFC3339Nano), trigger.By, trigger.Operator}
	}
	for _, d := range deliveries {
		out.ByStatus = append(out.ByStatus, deliveryJSON(d))
	}
	for _, r := range rulings {
		out.Rulings = append(out.Rulings, rulingJSON{
			RuledAt: inZone(r.RuledAt, t.TimeZone).Format(time.RFC3339Nano), Ruling: r.Ruling, Resend: r.Resend, Note: r.Note, RuledBy: r.RuledBy, Operator: r.Operator,
		})
	}
	return out
}
