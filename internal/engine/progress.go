package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A reporter says in the log, now and then, how far tasks of many deliveries
// are. Each daemon speaks of the apps that are its share, so that a task is
// spoken of once.
type reporter struct {
	store *store.Store
	log   *slog.Logger
	share func() (share, shares int, ok bool)
	every time.Duration

	said time.Time
	done map[int64]int32 // what was said of each task
}

func newReporter(s *store.Store, log *slog.Logger, share func() (int, int, bool)) *reporter {
	return &reporter{store: s, log: log, share: share, every: 10 * time.Second, done: make(map[int64]int32)}
}

// report speaks when it is time to. Only one goroutine may call it.
func (r *reporter) report(ctx context.Context) error {
	if time.Since(r.said) < r.every {
		return nil
	}
	r.said = time.Now()
	share, shares, ok := r.share()
	if !ok {
		return nil
	}
	tasks, err := r.store.Progress(ctx, 100)
	if err != nil {
		return err
	}
	said := make(map[int64]int32, len(tasks))
	for _, t := range tasks {
		before, known := r.done[t.TaskID]
		if known && before != t.Done && int(t.AppNo)%shares == share {
			r.log.InfoContext(ctx, "task under way", "campaign", t.CampaignID, "task", t.TaskID, "deliveries_done", t.Done, "deliveries", t.Total, "targets", t.Targets)
		}
		said[t.TaskID] = t.Done
	}
	r.done = said
	return nil
}
