package engine

import (
	"context"
	"time"
)

// atOnce is how many items of early work are done between two rests.
const atOnce = 50

// pace sleeps as long as the work since began took, at most 20 ms, so that early
// work uses half a core at most and leaves room for what is due.
func pace(ctx context.Context, began time.Time) {
	sleep(ctx, min(time.Since(began), 20*time.Millisecond))
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
