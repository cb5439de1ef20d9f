// Package tracing sends one OpenTelemetry trace for each task to a collector, over
// OTLP/HTTP and in the background. Spans that cannot be sent are dropped: a push
// never waits for a trace.
//
// The id of a trace and the id of its root span are computed from the task. So
// several daemons add spans to the same trace without exchanging messages, and all
// daemons sample the same tasks.
package tracing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// Config configures a Tracer. Endpoint and Log are required. The SDK takes all other
// settings (batches, timeouts, compression, certificates, the resource) from the
// OTEL_ variables.
type Config struct {
	Endpoint    string            // the receiver's whole URL
	Headers     map[string]string // sent with each export; nil: the headers of OTEL_EXPORTER_OTLP_HEADERS
	SampleRatio float64           // the part of the tasks that are traced, from 0 to 1
	Name        string            // the name of this daemon
	Version     string
	Log         *slog.Logger
}

// A Tracer turns the engine's steps into spans. Its methods are safe for
// concurrent use and never wait.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// New makes a Tracer. It does not connect to the collector, which may be down.
func New(ctx context.Context, c Config) (*Tracer, error) {
	options := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(c.Endpoint)}
	if c.Headers != nil {
		options = append(options, otlptracehttp.WithHeaders(c.Headers))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	of, err := describe(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	return newTracer(c, sdk.WithBatcher(&reporter{SpanExporter: exporter, log: c.Log}), sdk.WithResource(of)), nil
}

func newTracer(c Config, options ...sdk.TracerProviderOption) *Tracer {
	options = append(options, sdk.WithIDGenerator(ids{}), sdk.WithSampler(sdk.TraceIDRatioBased(c.SampleRatio)))
	p := sdk.NewTracerProvider(options...)
	return &Tracer{provider: p, tracer: p.Tracer("github.com/campaign-scheduler/scheduler", trace.WithInstrumentationVersion(c.Version))}
}

// describe returns the attributes of this daemon. OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES come last, so they override the others.
func describe(ctx context.Context, c Config) (*resource.Resource, error) {
	return resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(serviceName.String("scheduler"), serviceVersion.String(c.Version), serviceInstance.String(c.Name)),
		resource.WithFromEnv(),
	)
}

// Stop sends the waiting spans and ends the Tracer. It returns at the latest when
// ctx ends. Later steps are dropped.
func (t *Tracer) Stop(ctx context.Context) error {
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	return nil
}

// A reporter logs when a collector stops taking spans, and when it takes them
// again. Failures in between are not logged, since they would fill the log.
type reporter struct {
	sdk.SpanExporter
	log    *slog.Logger
	silent atomic.Bool
}

// ExportSpans implements sdk.SpanExporter. The spans of a failed export are lost.
func (r *reporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := r.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && !r.silent.Swap(true):
		r.log.WarnContext(ctx, "traces cannot be sent and are dropped until they can", "error", err)
	case err == nil && r.silent.Swap(false):
		r.log.InfoContext(ctx, "traces are sent again")
	}
	return nil // the SDK would print it to standard error
}

// root returns the id of a task's trace and the id of its root span. The task's id
// is unique within one database. The campaign and the due time are added so that
// tasks of two databases that share a collector have different traces.
func root(t engine.TracedTask) (trace.TraceID, trace.SpanID) {
	var key [24]byte
	binary.BigEndian.PutUint64(key[0:], uint64(t.ID))
	binary.BigEndian.PutUint64(key[8:], uint64(t.Campaign))
	binary.BigEndian.PutUint64(key[16:], uint64(t.DueAt.UnixMicro())) // the database keeps no more
	sum := sha256.Sum256(key[:])
	return trace.TraceID(sum[:16]), trace.SpanID(sum[16:24])
}

// taskKey is the key of a context that holds the task whose root span starts.
type taskKey struct{}

// ids gives a root span the ids of its task, and other spans random ids.
type ids struct{}

// NewIDs implements sdk.IDGenerator.
func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	t, _ := ctx.Value(taskKey{}).(engine.TracedTask)
	return root(t)
}

// NewSpanID implements sdk.IDGenerator.
func (ids) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	var id trace.SpanID
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1) // zero is not a valid id
	return id
}

// The attributes of spans. None holds a secret or a target, or a text that may
// contain one.
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

// Decided implements engine.Tracer. It makes the root span. The spans of the other
// steps have named its id as their parent before.
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

// begin starts a span below the root span of the task.
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
