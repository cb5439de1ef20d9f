// Package tracing sends one OpenTelemetry trace per task to a collector, over
// OTLP/HTTP, in the background. What it cannot send it drops: a push never waits
// for a trace.
//
// A trace's id and its root span's come from the task alone, so that several
// daemons add to the same trace without a word between them, and so that all of
// them agree on which tasks are sampled.
package tracing

import (
	"context"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config configures a Tracer. Endpoint and Log are required. What it does not
// say (batches, timeouts, compression, certificates, the resource) the SDK takes
// from the OTEL_ variables.
type Config struct {
	Endpoint    string            // the receiver's whole URL
	Headers     map[string]string // of each export; nil: those of OTEL_EXPORTER_OTLP_HEADERS
	SampleRatio float64           // the part of the tasks that are traced, 0 to 1
	Name        string            // of this daemon
	Version     string
	Log         *slog.Logger
}

// A Tracer turns the engine's steps into spans. Its methods are safe for
// concurrent use and never wait.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// New makes a Tracer. The collector need not be there.
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

// describe says who sends the spans. OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES come last and win.
func describe(ctx context.Context, c Config) (*resource.Resource, error) {
	return resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(serviceName.String("scheduler"), serviceVersion.String(c.Version), serviceInstance.String(c.Name)),
		resource.WithFromEnv(),
	)
}

// Stop sends what waits and ends the Tracer, at the latest when ctx ends. Steps
// that come later are dropped.
func (t *Tracer) Stop(ctx context.Context) error {
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	return nil
}
