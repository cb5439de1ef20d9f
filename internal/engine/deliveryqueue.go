package engine

import (
	"container/heap"
	"slices"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A waiting is a stored delivery that this daemon means to begin.
type waiting struct {
	store.WaitingDelivery
	compiled *compiled
	ready    time.Time // by this machine's monotonic clock
	leave    *leave    // to make its call; nil: its app was not asked
}

// A deliveryQueue holds the stored deliveries that are ready soon, in one line
// per app, so that an app that is held back costs nothing until it may go on. It
// is only a plan: the claim decides. Its instants are readings of the monotonic
// clock.
type deliveryQueue struct {
	mu    sync.Mutex
	lines map[int32]*line
	order timeHeap[*line] // lines that are not empty, by when they are due for a look
	known map[int64]bool
	ebb   bool // a line has become short, and there is more to read for it
}

// A line is one app's deliveries in the order in which they begin.
type line struct {
	app     int32
	entries []*waiting
	content map[*compiled]int // how many of the entries are of each compiled campaign
	bytes   int64             // of memory that the compiled campaigns take
	held    time.Time         // nothing of the app begins before
	more    bool              // the last reading left some unread
	index   int               // in the heap; -1: not there
}

// at returns when the line is due for a look.
func (l *line) at() time.Time {
	if first := l.entries[0].ready; first.After(l.held) {
		return first
	}
	return l.held
}

func (l *line) setIndex(i int) { l.index = i }

func newDeliveryQueue() *deliveryQueue {
	return &deliveryQueue{lines: make(map[int32]*line), known: make(map[int64]bool)}
}

// linesBytes bounds the memory that the compiled campaigns in all lines take.
const linesBytes = 32 << 20

// bytesOfLine is how many bytes one line may take. q.mu is held.
func (q *deliveryQueue) bytesOfLine() int64 { return linesBytes / int64(max(8, len(q.order)+1)) }

// ebbs says whether a line has become short. q.mu is held.
func (q *deliveryQueue) ebbs(l *line) bool {
	return len(l.entries) < lineSize/2 && l.bytes <= q.bytesOfLine()/2
}

// room says whether more deliveries of an app should be read.
func (q *deliveryQueue) room(app int32) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[app]
	return l == nil || q.ebbs(l)
}

// full says whether the app's line takes as many bytes as it may.
func (q *deliveryQueue) full(app int32) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[app]
	return l != nil && l.bytes >= q.bytesOfLine()
}

// gone takes an entry that has left the line out of the line's counts.
func (l *line) gone(w *waiting) {
	if l.content[w.compiled]--; l.content[w.compiled] == 0 {
		delete(l.content, w.compiled)
		l.bytes -= w.compiled.bytes
	}
}

// add takes in deliveries that are not in the queue yet, and keeps each app's
// order.
func (q *deliveryQueue) add(list []*waiting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range list {
		if q.known[w.ID] {
			continue
		}
		q.known[w.ID] = true
		l := q.lines[w.AppNo]
		if l == nil {
			l = &line{app: w.AppNo, index: -1, content: make(map[*compiled]int)}
			q.lines[w.AppNo] = l
		}
		if l.content[w.compiled]++; l.content[w.compiled] == 1 {
			l.bytes += w.compiled.bytes
		}
		i := len(l.entries)
		for i > 0 && w.before(l.entries[i-1]) {
			i--
		}
		l.entries = slices.Insert(l.entries, i, w)
		q.fix(l)
	}
}

// before says whether w begins before o; both are of one app.
func (w *waiting) before(o *waiting) bool {
	if c := w.ReadyAt.Compare(o.ReadyAt); c != 0 {
		return c < 0
	}
	return w.ID < o.ID
}

// fix moves a line to its place in the heap. q.mu is held.
func (q *deliveryQueue) fix(l *line) {
	switch {
	case len(l.entries) == 0 && l.index >= 0:
		heap.Remove(&q.order, l.index)
	case len(l.entries) == 0:
	case l.index < 0:
		heap.Push(&q.order, l)
	default:
		heap.Fix(&q.order, l.index)
	}
}

// A headRuling says what becomes of the delivery at the head of its line.
type headRuling int

const (
	takeIt headRuling = iota // it may begin
	dropIt                   // it has to be read again
	holdIt                   // its app is held back
)

// take removes and returns up to n deliveries whose time has come. ask rules on
// each, and with holdIt returns until when its app is held back.
func (q *deliveryQueue) take(now time.Time, n int, ask func(*waiting) (headRuling, time.Time)) []*waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*waiting
	for len(out) < n && len(q.order) > 0 && !q.order[0].at().After(now) {
		l := q.order[0]
		w := l.entries[0]
		ruling, until := ask(w)
		if ruling == holdIt {
			l.held = until
			q.fix(l)
			continue
		}
		l.entries[0] = nil
		l.entries = l.entries[1:]
		l.gone(w)
		if ruling == dropIt {
			delete(q.known, w.ID)
		} else {
			out = append(out, w) // stays in known until done, since a reading may still return the delivery as it was
		}
		if l.more && q.ebbs(l) {
			l.more, q.ebb = false, true
		}
		q.fix(l)
	}
	return out
}

// done forgets deliveries that were taken, so that they may be read anew.
func (q *deliveryQueue) done(taken ...*waiting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range taken {
		delete(q.known, w.ID)
	}
}

// drop forgets the deliveries of a campaign.
func (q *deliveryQueue) drop(app int32, campaign int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[app]
	if l == nil {
		return
	}
	l.entries = slices.DeleteFunc(l.entries, func(w *waiting) bool {
		if w.CampaignID != campaign {
			return false
		}
		delete(q.known, w.ID)
		l.gone(w)
		return true
	})
	q.fix(l)
}

// more notes whether the database has more deliveries of an app than its line holds.
func (q *deliveryQueue) more(app int32, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lines[app]; l != nil {
		l.more = more
	}
}

// low says whether a line has become short and there is more to read for it.
func (q *deliveryQueue) low() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	low := q.ebb
	q.ebb = false
	return low
}

// release ends the pause of an app, which is then asked for leave again.
func (q *deliveryQueue) release(app int32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lines[app]; l != nil {
		l.held = time.Time{}
		q.fix(l)
	}
}

// clear forgets all deliveries; the next reading finds them again.
func (q *deliveryQueue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lines {
		for _, w := range l.entries {
			delete(q.known, w.ID)
		}
	}
	q.lines, q.order = make(map[int32]*line), nil
}

// next returns when the earliest line is due for a look; false: all lines are empty.
func (q *deliveryQueue) next() (time.Time, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		return time.Time{}, false
	}
	return q.order[0].at(), true
}
