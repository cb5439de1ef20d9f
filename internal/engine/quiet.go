package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// quietHours are what this daemon knows of the apps' quiet hours, some moments old.
// They spare claims in vain, and say from when a window counts; whether a push
// begins is the claim's to say. They are safe for concurrent use.
type quietHours struct {
	store   *store.Store
	changed func()                                        // is called when exemptions have changed: what is kept of campaigns no longer says whether they are exempt
	known   atomic.Pointer[map[int32]strategy.QuietHours] // by app

	mu   sync.Mutex
	mark string    // of the exemptions that were known
	read time.Time // by our own clock; zero: never
}

// quietAge is how old they may be before they are read anew.
const quietAge = 500 * time.Millisecond

func newQuietHours(s *store.Store, changed func()) *quietHours {
	q := &quietHours{store: s, changed: changed}
	q.known.Store(&map[int32]strategy.QuietHours{})
	return q
}

// refresh reads them anew when they are old.
func (q *quietHours) refresh(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Since(q.read) < quietAge {
		return nil
	}
	now, err := q.store.Quiet(ctx)
	if err != nil {
		return err
	}
	known := make(map[int32]strategy.QuietHours, len(now.Hours))
	for app, h := range now.Hours {
		known[app] = quietOf(h)
	}
	q.known.Store(&known)
	q.read = time.Now()
	if now.Mark == "" { // no app has quiet hours: nobody asks
		return nil
	}
	if q.mark != "" && q.mark != now.Mark {
		q.changed()
	}
	q.mark = now.Mark
	return nil
}

// quietOf is an app's quiet hours as package strategy has them.
func quietOf(h store.QuietHours) strategy.QuietHours {
	return strategy.NewQuietHours(h.From, h.Until, h.Zone)
}

// of returns the quiet hours that hold a campaign: none of one that ignores them.
func (q *quietHours) of(c *store.Campaign) strategy.QuietHours {
	return heldBy((*q.known.Load())[c.AppNo], c)
}

// heldBy returns which of its app's quiet hours hold a campaign.
func heldBy(h strategy.QuietHours, c *store.Campaign) strategy.QuietHours {
	if c.QuietPolicy == "ignore" {
		return strategy.QuietHours{}
	}
	return h
}

// hold says that a call of the campaign must not begin now, though it was claimed:
// quiet hours have begun since.
func (q *quietHours) hold(c *store.Campaign, now time.Time) bool {
	return !q.of(c).End(now).IsZero()
}

// quietBegan is why a call does not begin that was claimed.
const quietBegan = "quiet hours began before the call"

// late is how late a push of an occurrence is that is due, or whose window counts,
// from an instant: quiet hours do not count. held says that it was held by them, and
// no more is.
func late(q strategy.QuietHours, from time.Time, window time.Duration, now time.Time) (late time.Duration, held bool) {
	began := q.WindowFrom(from, window)
	switch {
	case !began.After(now):
		return now.Sub(began), !began.Equal(from)
	case !q.End(now).IsZero():
		return 0, false
	}
	return now.Sub(from), false
}

// expired says why an occurrence is not pushed any more that is no task: its window
// has closed, or it lies in quiet hours that its campaign skips. Empty: it is.
func expired(c *store.Campaign, app strategy.QuietHours, due, now time.Time) string {
	q := heldBy(app, c)
	if c.QuietPolicy == "skip" && !due.After(now) && !q.End(due).IsZero() {
		return store.QuietReason
	}
	if due.Add(c.CatchUpWindow).Before(now) && q.WindowFrom(due, c.CatchUpWindow).Add(c.CatchUpWindow).Before(now) {
		return windowReason(c)
	}
	return ""
}
