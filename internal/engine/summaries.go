package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A summariser keeps looks for what was decided lately short: it has the index by time
// summarise the pages that have become full. Any number of daemons may do it at once.
type summariser struct {
	*loop
	store *store.Store
	next  int64 // the range to go on with
}

// A pass takes some milliseconds. 500 tasks a second fill a range of pages in nine
// seconds. What many more fill in a pass's time is summarised by later passes, or by
// autovacuum.
const (
	betweenSummaries = 5 * time.Second
	rangesPerPass    = 4
)

func newSummariser(s *store.Store, log *slog.Logger, answers func() bool) *summariser {
	m := &summariser{store: s}
	m.loop = newLoop("summariser", log, 3*time.Second, answers, m.summarise)
	return m
}

func (m *summariser) summarise(ctx context.Context) (err error) {
	if m.next, err = m.store.SummariseDecided(ctx, m.next, rangesPerPass); store.IsBlocked(err) {
		return nil // vacuum is at it
	}
	return err
}
