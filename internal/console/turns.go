package console

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

// turns bound how many pages are worked on at once, so that people who click leave
// half of the processors to the pushes. A page takes its turn before it reads, and
// gives it up before it is written to a browser, which may be slow.
type turns chan struct{}

// turnLasts bounds how long a page keeps others waiting. A page that takes longer
// goes on beside them: nobody waits for the slow page of another.
const turnLasts = 250 * time.Millisecond

// errBusy says that no turn came within pageTimeout.
var errBusy = errors.New("too many people look at pages")

// newTurns makes as many turns as half of the processors, at least one.
func newTurns() turns { return make(turns, max(1, runtime.GOMAXPROCS(0)/2)) }

// take waits for a turn. Requests get theirs in the order in which they came. done
// gives it up, and may be called again.
func (t turns) take(ctx context.Context) (done func(), err error) {
	select {
	case t <- struct{}{}:
	case <-ctx.Done():
		return nil, errBusy
	}
	release := sync.OnceFunc(func() { <-t })
	late := time.AfterFunc(turnLasts, release)
	return func() {
		late.Stop()
		release()
	}, nil
}

// maxRest bounds a rest after one read.
const maxRest = 20 * time.Millisecond

// unhurried runs a read of a page, and then rests for as long as the read took, up to
// maxRest. On a small machine a page without gaps delays the pushes that are due
// meanwhile, more than a page of the same work that takes twice as long.
func unhurried(ctx context.Context) func(read func() error) error {
	return func(read func() error) error {
		began := time.Now()
		err := read()
		select {
		case <-time.After(min(time.Since(began), maxRest)):
		case <-ctx.Done():
		}
		return err
	}
}
