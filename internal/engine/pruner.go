package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A Retention says how long decided tasks are kept, and where they go then.
type Retention struct {
	Age    time.Duration // zero: they are kept for ever
	Dir    string        // where they are written before they are removed; empty: nowhere
	Format string        // of the files: ndjson or csv
}

// The pruner's pace. A table of a million tasks is walked through in minutes,
// one of a hundred million in hours, and no step holds anything up.
const (
	pagesPerStep = 64               // of 8 KiB: some 2500 tasks, in one transaction
	pagesPerPass = 10_000           // a pass is a minute's
	betweenWalks = 10 * time.Minute // from the end of a walk to the next
	betweenBooks = time.Hour        // between looks at what only the engine needed
)

// A pruner removes decided tasks that are older than their retention, and what
// only the engine needed. It walks through the table page by page.
type pruner struct {
	*loop
	store     *store.Store
	log       *slog.Logger
	metrics   *Metrics
	clock     *Clock
	retention Retention

	page   int64     // where the walk goes on
	booked time.Time // when the books were last looked at
	walked time.Time // when a walk last came to the end
}

func newPruner(s *store.Store, log *slog.Logger, m *Metrics, clock *Clock, answers func() bool, r Retention) *pruner {
	p := &pruner{store: s, log: log, metrics: m, clock: clock, retention: r}
	p.loop = newLoop("pruner", log, 10*time.Minute, answers, p.prune)
	return p
}

func (p *pruner) prune(ctx context.Context) error {
	if p.booked.IsZero() || time.Since(p.booked) >= betweenBooks {
		if err := p.books(ctx); err != nil {
			return err
		}
		p.booked = time.Now()
	}
	if p.retention.Age <= 0 || (!p.walked.IsZero() && time.Since(p.walked) < betweenWalks) {
		return nil
	}
	var file *exportFile
	if p.retention.Dir != "" {
		file = newExportFile(p.retention.Dir, p.retention.Format, p.clock.Now())
	}
	total, err := p.walk(ctx, file)
	if total > 0 {
		p.metrics.Pruned.Add(float64(total))
		p.log.InfoContext(ctx, "old tasks removed", "tasks", total, "exported_to", file.name())
	}
	if cerr := file.close(); err == nil {
		err = cerr
	}
	return err
}

func (p *pruner) books(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return p.store.PruneBooks(ctx)
}

// walk goes through a pass's pages and returns how many tasks it removed.
func (p *pruner) walk(ctx context.Context, file *exportFile) (total int64, err error) {
	pages, err := p.pages(ctx)
	if err != nil {
		return 0, err
	}
	end := min(pages, p.page+pagesPerPass)
	before := p.clock.Now().Add(-p.retention.Age)
	for p.page < end {
		n, err := p.step(ctx, before, file)
		total += n
		if err != nil {
			return total, err
		}
		p.page += pagesPerStep
	}
	if p.page >= pages {
		p.page, p.walked = 0, time.Now()
	}
	return total, nil
}

func (p *pruner) pages(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return p.store.Pages(ctx)
}

func (p *pruner) step(ctx context.Context, before time.Time, file *exportFile) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var keep func([]store.Pruned) error
	if file != nil {
		keep = file.write
	}
	return p.store.Prune(ctx, before, p.page, p.page+pagesPerStep, keep)
}
