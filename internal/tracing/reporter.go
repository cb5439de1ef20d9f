package tracing

import (
	"context"
	"log/slog"
	"sync/atomic"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// A reporter logs that a collector takes no spans, once until it does again:
// traces are for people in trouble, who have no use for a log full of them.
type reporter struct {
	sdk.SpanExporter
	log    *slog.Logger
	silent atomic.Bool
}

// ExportSpans implements sdk.SpanExporter. The spans of an export that failed
// are gone.
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
