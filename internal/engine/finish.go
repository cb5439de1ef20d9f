package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A finisher marks campaigns as finished whose last task is decided. Decisions
// hint at such campaigns; a slow sweep finds those whose hint was lost.
type finisher struct {
	*loop
	store      *store.Store
	sweep      time.Duration
	onFinished func(campaigns []int64) // drops what is kept of them

	mu     sync.Mutex
	hinted map[int64]bool
	after  int64 // where the sweep goes on
	swept  time.Time
}

func newFinisher(s *store.Store, log *slog.Logger, sweep time.Duration, answers func() bool, finished func([]int64)) *finisher {
	f := &finisher{store: s, sweep: sweep, onFinished: finished, hinted: make(map[int64]bool)}
	f.loop = newLoop("finisher", log, 30*time.Second, answers, f.finish)
	return f
}

// hint says that the campaigns may be over. They are looked at with the next
// heartbeat, many together.
func (f *finisher) hint(ids []int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		f.hinted[id] = true
	}
}

func (f *finisher) finish(ctx context.Context) error {
	if time.Since(f.swept) >= f.sweep {
		ids, err := f.store.EndedCampaigns(ctx, f.after, 500)
		if err != nil {
			return err
		}
		f.after, f.swept = 0, time.Now()
		if len(ids) > 0 {
			f.after = ids[len(ids)-1]
		}
		f.hint(ids)
	}
	for ctx.Err() == nil {
		began, batch := time.Now(), f.take(atOnce)
		if len(batch) == 0 {
			return nil
		}
		finished, err := f.store.FinishCampaigns(ctx, batch)
		if err != nil {
			f.hint(batch)
			return err
		}
		f.onFinished(finished)
		pace(ctx, began)
	}
	return nil // the next pass goes on
}

func (f *finisher) take(n int) []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := make([]int64, 0, min(len(f.hinted), n))
	for id := range f.hinted {
		if len(ids) == n {
			break
		}
		ids = append(ids, id)
		delete(f.hinted, id)
	}
	return ids
}
