package tracing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"

	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// root returns the ids of a task's trace and of the span at its root. A task's
// number alone would do within one database; with its campaign and due time,
// those of two databases hardly ever meet in one collector.
func root(t engine.TracedTask) (trace.TraceID, trace.SpanID) {
	var key [24]byte
	binary.BigEndian.PutUint64(key[0:], uint64(t.ID))
	binary.BigEndian.PutUint64(key[8:], uint64(t.Campaign))
	binary.BigEndian.PutUint64(key[16:], uint64(t.DueAt.UnixMicro())) // the database keeps no more
	sum := sha256.Sum256(key[:])
	return trace.TraceID(sum[:16]), trace.SpanID(sum[16:24])
}

// taskKey carries the task whose root span is about to begin.
type taskKey struct{}

// ids gives root spans the ids of their task, and others random ones.
type ids struct{}

// NewIDs implements sdk.IDGenerator.
func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	t, _ := ctx.Value(taskKey{}).(engine.TracedTask)
	return root(t)
}

// NewSpanID implements sdk.IDGenerator.
func (ids) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	var id trace.SpanID
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1) // zero is none
	return id
}
