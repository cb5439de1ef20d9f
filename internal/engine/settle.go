package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// A settler decides the tasks whose deliveries have all ended. It also gives
// waiting deliveries the state that their campaign wants: held, or ended
// because the campaign was cancelled or the window has closed. It works in
// batches, each committed, so that no statement's work grows with the number of
// stored deliveries. It is a loop of its own, so that deliveries begin however
// long the settler takes, and even when it fails.
type settler struct {
	settlerParts
	loop *loop

	mu     sync.Mutex
	hinted map[int64]bool // tasks that may be over

	swept    time.Time // when the last look at all tasks ended
	rest     time.Duration
	placing  batch
	deciding batch
}

// settlerParts is what a settler is made of. All are required.
type settlerParts struct {
	store            *store.Store
	log              *slog.Logger
	metrics          *Metrics
	traces           *traces
	lease            *lease
	causes           *latenessCauses
	reporter         *reporter
	wakes            wakes
	statementTimeout time.Duration // of one batch of placing
}

// A batch is how many rows a statement takes at once. It is halved after each
// statement that took too long, and grows again when statements are in time.
type batch struct {
	doing      string
	rows, most int
	timeouts   int // in a row
}

// over takes in how a statement ended: err is its error.
func (b *batch) over(ctx context.Context, log *slog.Logger, err error) {
	switch {
	case err == nil:
		b.timeouts, b.rows = 0, min(2*b.rows, b.most)
	case store.IsTimeout(err):
		if b.timeouts++; b.timeouts == 2 {
			log.WarnContext(ctx, "statement took too long twice in a row, will try with fewer rows", "doing", b.doing, "rows", b.rows)
		}
		b.rows = max(b.rows/2, 1)
	}
}

const (
	placeAtOnce  = 5000 // deliveries
	settleAtOnce = 100  // tasks
	// settleTimeout is longer than statementTimeout: a task may have a million
	// deliveries to count, and nothing waits for the statement.
	settleTimeout = time.Minute
)

func newSettler(parts settlerParts) *settler {
	s := &settler{settlerParts: parts, hinted: make(map[int64]bool)}
	s.placing = batch{doing: "hold and end waiting deliveries", rows: placeAtOnce, most: placeAtOnce}
	s.deciding = batch{doing: "decide tasks with stored deliveries", rows: settleAtOnce, most: settleAtOnce}
	s.loop = newLoop("settler", parts.log, 0, nil, s.settleAll)
	return s
}

// Start runs the settler until ctx ends.
func (s *settler) Start(ctx context.Context, wg *sync.WaitGroup) { s.loop.Start(ctx, wg) }

// Wake asks for a pass.
func (s *settler) Wake() { s.loop.Wake() }

// hint says that tasks may be over.
func (s *settler) hint(tasks ...int64) {
	if len(tasks) == 0 {
		return
	}
	s.mu.Lock()
	for _, id := range tasks {
		s.hinted[id] = true
	}
	s.mu.Unlock()
	s.Wake()
}

// settleAll is one pass. After a look at all running tasks it waits twenty times
// as long as the look took, at most 10 seconds, so that looks take only a small
// part of the database's time.
func (s *settler) settleAll(ctx context.Context) error {
	if err := s.settleHinted(ctx); err != nil {
		return err
	}
	if time.Since(s.swept) >= s.rest {
		began := time.Now()
		err := s.sweep(ctx)
		s.swept, s.rest = time.Now(), min(20*time.Since(began), 10*time.Second)
		if err != nil {
			return err
		}
	}
	return s.reporter.report(ctx)
}

func (s *settler) settleHinted(ctx context.Context) error {
	s.mu.Lock()
	ids := make([]int64, 0, len(s.hinted))
	for id := range s.hinted {
		ids = append(ids, id)
	}
	clear(s.hinted)
	s.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	return s.settle(ctx, ids)
}

func (s *settler) sweep(ctx context.Context) error {
	for ctx.Err() == nil {
		full, err := s.place(ctx)
		if err != nil {
			return err
		}
		if !full {
			break
		}
	}
	if err := s.respread(ctx); err != nil {
		return err
	}
	return s.settle(ctx, nil)
}

// respread spreads the deliveries of tasks anew whose campaign now has another
// spread, or a window that ends at another time.
func (s *settler) respread(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, s.statementTimeout)
	defer cancel()
	tasks, err := s.store.SpreadMoved(bounded, settleAtOnce)
	if err != nil {
		return err
	}
	for _, task := range tasks {
		if respread(ctx, s.store, s.lease, s.log, task) {
			s.wakes.deliveriesStored() // some may be ready sooner
		}
	}
	return nil
}

// place gives one batch of waiting deliveries the state that their campaign
// wants. It says whether there may be more.
func (s *settler) place(ctx context.Context) (full bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.statementTimeout)
	defer cancel()
	rows := s.placing.rows
	failpoint.Hit("place.before")
	placed, err := s.store.PlaceDeliveries(ctx, time.Time{}, rows)
	s.placing.over(ctx, s.log, err)
	if err != nil {
		return false, err
	}
	return placed.Rows == rows, s.settle(ctx, placed.Ended)
}

// settle decides those of the tasks whose deliveries have all ended; nil: of all.
func (s *settler) settle(ctx context.Context, tasks []int64) error {
	if tasks != nil && len(tasks) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	for {
		began := s.traces.now()
		failpoint.Hit("settle.before")
		rows := s.deciding.rows
		settled, err := s.store.Settle(ctx, s.lease.id(), tasks, rows)
		s.deciding.over(ctx, s.log, err)
		if err != nil {
			return err
		}
		s.logDecided(ctx, settled, began)
		if len(settled) < rows {
			return nil
		}
	}
}

// logDecided logs and counts decisions, and tells the finisher which campaigns
// may be finished.
func (s *settler) logDecided(ctx context.Context, settled []store.Decision, began time.Time) {
	ended := make([]int64, 0, len(settled))
	for i := range settled {
		d := &settled[i]
		s.traces.settled(d, began)
		logDecided(ctx, s.log, s.metrics, s.traces, d, s.causes.take(d.TaskID))
		ended = append(ended, d.CampaignID)
	}
	if len(ended) > 0 {
		s.wakes.tasksDecided(ended)
	}
}

// A reporter logs now and then how far tasks of many deliveries are. Each
// daemon reports on the apps of its share, so that a task is reported once.
type reporter struct {
	store *store.Store
	log   *slog.Logger
	share func() (share, shares int, ok bool)
	every time.Duration

	said time.Time
	done map[int64]int32 // how many deliveries of each task were last reported as done
}

func newReporter(s *store.Store, log *slog.Logger, share func() (int, int, bool)) *reporter {
	return &reporter{store: s, log: log, share: share, every: 10 * time.Second, done: make(map[int64]int32)}
}

// report logs when it is time to. Only one goroutine may call it.
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
