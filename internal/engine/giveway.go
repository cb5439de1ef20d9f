package engine

import (
	"context"
	"time"
)

// atOnce is how much work that is early is done before it gives way.
const atOnce = 50

// giveWay rests as long as the work took that began then, within bounds: work that
// is early leaves room for what is due.
func giveWay(ctx context.Context, began time.Time) {
	sleep(ctx, min(time.Since(began), 20*time.Millisecond))
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
