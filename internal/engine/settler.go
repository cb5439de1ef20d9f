package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// A settler decides the tasks whose deliveries have all ended, and brings those
// that wait to where their campaign has them: held, or ended because it was
// cancelled or their window has closed. It works in batches, each committed, so
// that no statement's work grows with what is stored, and in a loop of its own:
// however long it takes, or fails, deliveries begin.
type settler struct {
	Config
	*loop
	heart    *heart
	causes   *causes
	traces   *traces
	onEnd    func([]int64)
	reporter *reporter

	mu     sync.Mutex
	hinted map[int64]bool // tasks that may be over

	swept    time.Time // when the last look at all tasks ended
	rest     time.Duration
	rows     int // deliveries placed at once
	timeouts int // statements in a row that took too long
}

const (
	placeAtOnce  = 5000 // deliveries
	settleAtOnce = 100  // tasks
	// settleTimeout is longer than that of statements on the way to a push: a task
	// may have a million deliveries to count, and nothing waits for it.
	settleTimeout = time.Minute
)

func newSettler(cfg Config) *settler {
	s := &settler{Config: cfg, hinted: make(map[int64]bool), rows: placeAtOnce}
	s.loop = newLoop("settler", cfg.Log, 0, s.settleAll)
	return s
}

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

// settleAll is one pass. Looks at all running tasks are as far apart as they are
// long, twenty times over, so that they never take more than a small part of the
// database.
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
		n, err := s.place(ctx)
		if err != nil {
			return err
		}
		if n < s.rows {
			break
		}
	}
	return s.settle(ctx, nil)
}

// place brings one batch to its place. A batch that takes too long is made
// smaller, and told of when it is the second in a row.
func (s *settler) place(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, s.StatementTimeout)
	defer cancel()
	failpoint.Hit("place.before")
	placed, err := s.Store.PlaceDeliveries(ctx, time.Time{}, s.rows)
	if err != nil {
		s.tooLong(ctx, err)
		return 0, err
	}
	s.timeouts = 0
	n := placed.Rows
	if n == s.rows {
		s.rows = min(2*s.rows, placeAtOnce)
		n = s.rows // there may be more
	}
	return n, s.settle(ctx, placed.Ended)
}

// tooLong makes batches smaller when a statement took too long.
func (s *settler) tooLong(ctx context.Context, err error) {
	if !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	s.timeouts++
	if s.timeouts == 2 {
		s.Log.WarnContext(ctx, "statement took too long twice in a row, will try with fewer rows",
			"doing", "end or hold waiting deliveries", "rows", s.rows, "timeout", s.StatementTimeout)
	}
	s.rows = max(s.rows/2, 50)
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
		settled, err := s.Store.Settle(ctx, s.heart.id(), tasks, settleAtOnce)
		if err != nil {
			return err
		}
		s.tell(ctx, settled, began)
		if len(settled) < settleAtOnce {
			return nil
		}
	}
}

// tell logs and counts decisions and passes on which campaigns may be over.
func (s *settler) tell(ctx context.Context, settled []store.Decision, began time.Time) {
	ended := make([]int64, 0, len(settled))
	for i := range settled {
		d := &settled[i]
		s.traces.settled(d, began)
		tell(ctx, s.Log, s.Metrics, s.traces, d, s.causes.take(d.TaskID))
		ended = append(ended, d.CampaignID)
	}
	if len(ended) > 0 {
		s.onEnd(ended)
	}
}
