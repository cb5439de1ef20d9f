package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// quietHours hold the apps' quiet hours as this daemon last read them, some moments
// ago. They save claims in vain, and say from when a window counts. Whether a push
// may begin is decided by the claim. quietHours are safe for concurrent use.
type quietHours struct {
	store   *store.Store
	changed func()                                        // is called when exemptions have changed, since cached campaigns may be exempt or not any more
	known   atomic.Pointer[map[int32]strategy.QuietHours] // by app

	mu   sync.Mutex
	mark string    // of the exemptions that were known
	read time.Time // by our own clock; zero: never
}

// quietAge is the age at which quiet hours are read anew.
const quietAge = 500 * time.Millisecond

func newQuietHours(s *store.Store, changed func()) *quietHours {
	q := &quietHours{store: s, changed: changed}
	q.known.Store(&map[int32]strategy.QuietHours{})
	return q
}

// refresh reads the quiet hours anew when they are old.
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

// quietOf returns an app's quiet hours as package strategy has them.
func quietOf(h store.QuietHours) strategy.QuietHours {
	return strategy.NewQuietHours(h.From, h.Until, h.Zone)
}

// of returns the quiet hours that hold a campaign, or none for a campaign that
// ignores them.
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

// hold says whether quiet hours hold the campaign now, as far as this daemon knows.
func (q *quietHours) hold(c *store.Campaign, now time.Time) bool {
	return !q.of(c).End(now).IsZero()
}

// began says whether a claimed call of the campaign must not begin now, since quiet
// hours have begun after its claim was asked for. Known hours that held the campaign
// before that are old: the claim found that they do so no more.
func (q *quietHours) began(c *store.Campaign, asked, now time.Time) bool {
	h := q.of(c)
	return !h.End(now).IsZero() && h.End(asked).IsZero()
}

// quietBegan is the reason recorded for a claimed call that does not begin.
const quietBegan = "quiet hours began before the call"

// late returns how late the push of an occurrence is at now, not counting quiet
// hours. from is when the occurrence is due, or when its window begins. held says
// that quiet hours have held it, and hold it no more.
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

// expired returns why an occurrence without a task is not pushed any more: its
// window has closed, or it lies in quiet hours that its campaign skips. Empty: it
// is pushed.
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
