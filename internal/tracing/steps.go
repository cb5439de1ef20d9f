package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// The attributes. None holds a secret, a target, or a text that may.
const (
	serviceName     = attribute.Key("service.name")
	serviceVersion  = attribute.Key("service.version")
	serviceInstance = attribute.Key("service.instance.id")

	campaign  = attribute.Key("scheduler.campaign")
	task      = attribute.Key("scheduler.task")
	app       = attribute.Key("scheduler.app_no")
	channel   = attribute.Key("scheduler.channel")
	status    = attribute.Key("scheduler.status")
	reason    = attribute.Key("scheduler.reason")
	lateness  = attribute.Key("scheduler.lateness_ms")
	targets   = attribute.Key("scheduler.targets")
	slice     = attribute.Key("scheduler.slice")
	attempt   = attribute.Key("scheduler.attempt")
	class     = attribute.Key("scheduler.class")
	code      = attribute.Key("scheduler.provider.code")
	requestID = attribute.Key("scheduler.provider.request_id")
	messageID = attribute.Key("scheduler.provider.message_id")
)

var _ engine.Tracer = (*Tracer)(nil)

// Claimed implements engine.Tracer.
func (t *Tracer) Claimed(of engine.TracedTask, s engine.Span) {
	t.begin(of, "claim", s, trace.SpanKindInternal).End(trace.WithTimestamp(s.To))
}

// Recorded implements engine.Tracer.
func (t *Tracer) Recorded(of engine.TracedTask, s engine.Span) {
	t.begin(of, "record", s, trace.SpanKindInternal).End(trace.WithTimestamp(s.To))
}

// Called implements engine.Tracer.
func (t *Tracer) Called(of engine.TracedTask, c engine.TracedCall) {
	span := t.begin(of, "call", c.Span, trace.SpanKindClient)
	defer span.End(trace.WithTimestamp(c.To))
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(channel.String(of.Channel), slice.Int64(int64(c.Slice)), attempt.Int64(int64(c.Attempt)), targets.Int(c.Targets),
		class.String(c.Class.String()))
	if c.Class != dispatch.Accepted {
		span.SetStatus(codes.Error, string(c.Reason))
		span.SetAttributes(reason.String(string(c.Reason)))
	}
	setText(span, code, c.Code)
	setText(span, requestID, c.RequestID)
	setText(span, messageID, c.MessageID)
}

// Decided implements engine.Tracer. It makes the root span, whose id the other
// steps' spans named as their parent before it was there.
func (t *Tracer) Decided(of engine.TracedTask, d engine.TracedDecision) {
	ctx := context.WithValue(context.Background(), taskKey{}, of)
	_, span := t.tracer.Start(ctx, "task", trace.WithNewRoot(), trace.WithTimestamp(of.DueAt))
	defer span.End(trace.WithTimestamp(d.At))
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(campaign.Int64(of.Campaign), task.Int64(of.ID), app.Int64(int64(of.App)), channel.String(of.Channel),
		status.String(d.Status), reason.String(d.Reason), targets.Int64(d.Targets))
	if !d.Sent.IsZero() {
		span.SetAttributes(lateness.Float64(float64(d.Sent.Sub(of.DueAt).Microseconds()) / 1000))
	}
	switch d.Status {
	case "failed", "missed", "unknown":
		span.SetStatus(codes.Error, d.Reason)
	}
}

// begin begins a span below the task's root.
func (t *Tracer) begin(of engine.TracedTask, name string, s engine.Span, kind trace.SpanKind) trace.Span {
	traceID, spanID := root(of)
	above := trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled, Remote: true})
	_, span := t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), above), name,
		trace.WithTimestamp(s.From), trace.WithSpanKind(kind), trace.WithAttributes(campaign.Int64(of.Campaign), task.Int64(of.ID)))
	return span
}

func setText(span trace.Span, key attribute.Key, text string) {
	if text != "" {
		span.SetAttributes(key.String(text))
	}
}
