package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// logDecided reports a recorded decision, once: it logs one line, counts the
// decision and ends the task's trace. cause is what the task waited for; it is empty
// where no call was made.
func logDecided(ctx context.Context, log *slog.Logger, m *Metrics, t *traces, d *store.Decision, cause string) {
	writeDecision(ctx, log, d)
	m.decided(d, cause)
	t.decided(d)
}

// logDecisions reports decisions that no call of this daemon led to.
func logDecisions(ctx context.Context, log *slog.Logger, m *Metrics, t *traces, all []store.Decision) {
	for i := range all {
		logDecided(ctx, log, m, t, &all[i], "")
	}
}

// logRefused reports decisions that came second, which is a fault of this
// program: the first ones stand.
func logRefused(ctx context.Context, log *slog.Logger, m *Metrics, all []store.Refused) {
	for _, r := range all {
		m.Refused.Inc()
		log.ErrorContext(ctx, "second decision on an occurrence refused, the first one stands",
			"campaign", r.CampaignID, "task", r.TaskID, "due", r.DueAt, "refused", r.Status)
	}
}

// writeDecision writes the one line every decision gets.
func writeDecision(ctx context.Context, log *slog.Logger, d *store.Decision) {
	level := slog.LevelInfo
	if d.Status != "succeeded" {
		level = slog.LevelWarn
	}
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.Int64("campaign", d.CampaignID), slog.Int64("task", d.TaskID), slog.String("channel", d.Channel),
		slog.Time("due", d.DueAt), slog.String("outcome", d.Status))
	if !d.SentAt.IsZero() {
		attrs = append(attrs, slog.Duration("lateness", d.SentAt.Sub(d.DueAt)))
	}
	if d.Reason != "" {
		attrs = append(attrs, slog.String("reason", d.Reason))
	}
	if n := targetCount(d); n > 0 {
		attrs = append(attrs, slog.Int64("targets", n))
	}
	if d.RequestID != "" {
		attrs = append(attrs, slog.String("request_id", d.RequestID))
	}
	if d.MessageID != "" {
		attrs = append(attrs, slog.String("message_id", d.MessageID))
	}
	record := slog.NewRecord(time.Now(), level, "task decided", 0) // to look up this line of code costs a quarter of the rest
	record.AddAttrs(attrs...)
	_ = log.Handler().Handle(ctx, record)
}

func targetCount(d *store.Decision) int64 { return max(d.TargetCount, int64(len(d.Targets))) }
