package engine

import (
	"context"
	"log/slog"

	"github.com/campaign-scheduler/scheduler/store"
)

// tellDecided tells of tasks that were decided without a call of this daemon's,
// as of all others: each has one line in the log, is counted, and ends its trace.
func tellDecided(ctx context.Context, log *slog.Logger, m *Metrics, t *traces, all []store.Decided) {
	for i := range all {
		d := &all[i]
		is := decided{campaign: d.CampaignID, task: d.TaskID, channel: d.Channel, due: d.DueAt, status: d.Status, reason: d.Reason}
		logDecision(ctx, log, is)
		m.decided(decision{d.Channel, d.Status, d.Reason}, "", 0, false)
		t.decided(TracedTask{ID: d.TaskID, Campaign: d.CampaignID, DueAt: d.DueAt, App: d.AppNo, Channel: d.Channel}, is)
	}
}
