package tracing

import sdk "go.opentelemetry.io/otel/sdk/trace"

// NewRecording makes a Tracer whose spans go to the exporter at once.
func NewRecording(ratio float64, to sdk.SpanExporter) *Tracer {
	return newTracer(Config{SampleRatio: ratio}, sdk.WithSyncer(to))
}
