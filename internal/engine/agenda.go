package engine

import (
	"cmp"
	"container/heap"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// An entry is a pending task this daemon means to begin.
type entry struct {
	task    store.ReadyTask
	content *content
	seen    time.Time // when this daemon first saw the task, by the database's clock
}

// An agenda holds the tasks that are ready soon, in memory, so that beginning
// one needs no search. It is only a plan: the claim decides. Tasks stand in one
// queue per app, so that an app that is held back costs nothing until it may go
// on.
//
// What was read while a task was being begun may show it as it was before, so a
// task is known until a reading begins after that is over.
//
// When a task is ready is an instant of the database's clock. How long an app is
// held back is a length, and so counted by this machine's monotonic clock: a pause
// lasts as long as it lasts, whatever is done to the database's clock.
type agenda struct {
	mu      sync.Mutex
	now     func() time.Time // this machine's clock
	queues  map[int32]*queue
	order   queueHeap // queues that are not empty and not held back, by their first task's time
	held    queueHeap // queues that are held back, by until when
	known   map[int64]stage
	waiting int     // tasks in the queues
	bytes   int64   // of memory that their contents take, each counted for every task
	over    []int64 // tasks that are forgotten with the next reading
}

// A stage is how far a task in an agenda has come.
type stage uint8

const (
	waits stage = iota // in its app's queue
	begun              // by the dispatcher, just now
	over               // its beginning, whatever came of it
)

// A queue holds one app's entries by the time they are ready. They are read in
// that order, but for a few.
type queue struct {
	app     int32
	entries []*entry
	held    time.Time // nothing of the app begins before; by this machine's clock, zero: it is not held back
	index   int       // in agenda.order or agenda.held
}

// at is what the queue's heap goes by: when its first task is ready, or until when
// it is held back.
func (q *queue) at() time.Time {
	if q.held.IsZero() {
		return q.entries[0].task.ReadyAt
	}
	return q.held
}

func (q *queue) add(e *entry) {
	i := len(q.entries)
	for i > 0 && e.before(q.entries[i-1]) {
		i--
	}
	q.entries = slices.Insert(q.entries, i, e)
}

func (q *queue) pop() *entry {
	e := q.entries[0]
	q.entries[0] = nil
	q.entries = q.entries[1:]
	return e
}

// before is the order in which an app's tasks begin.
func (e *entry) before(f *entry) bool {
	if c := e.task.ReadyAt.Compare(f.task.ReadyAt); c != 0 {
		return c < 0
	}
	return e.task.ID < f.task.ID
}

func newAgenda() *agenda {
	return &agenda{now: time.Now, queues: make(map[int32]*queue), known: make(map[int64]stage)}
}

// clear forgets what waits; the next read-ahead finds it again.
func (a *agenda) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queues, a.order, a.held, a.waiting, a.bytes = make(map[int32]*queue), nil, nil, 0, 0
	maps.DeleteFunc(a.known, func(_ int64, s stage) bool { return s == waits })
}

// drop forgets what waits of apps that other daemons begin.
func (a *agenda) drop(apps []int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, app := range apps {
		q := a.queues[app]
		if q == nil {
			continue
		}
		for _, e := range q.entries {
			delete(a.known, e.task.ID)
			a.waiting--
			a.bytes -= e.bytes()
		}
		if q.held.IsZero() {
			heap.Remove(&a.order, q.index)
		} else {
			heap.Remove(&a.held, q.index)
		}
		delete(a.queues, app)
	}
}

// reading says that the database is about to be read.
func (a *agenda) reading() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range a.over {
		if a.known[id] == over {
			delete(a.known, id)
		}
	}
	a.over = a.over[:0]
}

// add takes in tasks that are not known yet.
func (a *agenda) add(entries []*entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range entries {
		if _, known := a.known[e.task.ID]; !known {
			a.put(e)
		}
	}
}

// outdated forgets those of the tasks that wait as they were before: their campaigns
// were changed since. tasks are what was read just now.
func (a *agenda) outdated(tasks []store.ReadyTask) {
	a.mu.Lock()
	defer a.mu.Unlock()
	changed := make(map[int32]map[int64]bool)
	for i := range tasks {
		t := &tasks[i]
		if s, known := a.known[t.ID]; !known || s != waits || a.queues[t.AppNo].has(t) {
			continue
		}
		if changed[t.AppNo] == nil {
			changed[t.AppNo] = make(map[int64]bool)
		}
		changed[t.AppNo][t.ID] = true
	}
	for app, ids := range changed {
		a.forget(app, ids)
	}
}

// has says whether the queue holds the task as it was read.
func (q *queue) has(t *store.ReadyTask) bool {
	i, found := slices.BinarySearchFunc(q.entries, t, func(e *entry, t *store.ReadyTask) int {
		return cmp.Or(e.task.ReadyAt.Compare(t.ReadyAt), cmp.Compare(e.task.ID, t.ID))
	})
	return found && q.entries[i].task.Revision == t.Revision && q.entries[i].task.WaitsFor == t.WaitsFor
}

// forget takes tasks of an app out of its queue. a.mu is held.
func (a *agenda) forget(app int32, ids map[int64]bool) {
	q := a.queues[app]
	of := &a.order
	if !q.held.IsZero() {
		of = &a.held
	}
	q.entries = slices.DeleteFunc(q.entries, func(e *entry) bool {
		if !ids[e.task.ID] {
			return false
		}
		delete(a.known, e.task.ID)
		a.waiting--
		a.bytes -= e.bytes()
		return true
	})
	if len(q.entries) > 0 {
		heap.Fix(of, q.index)
		return
	}
	heap.Remove(of, q.index)
	delete(a.queues, app)
}

// putBack takes in tasks that could not be begun.
func (a *agenda) putBack(entries []*entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range entries {
		a.put(e)
	}
}

func (a *agenda) put(e *entry) {
	a.known[e.task.ID] = waits
	a.waiting++
	a.bytes += e.bytes()
	q := a.queues[e.task.AppNo]
	if q == nil {
		q = &queue{app: e.task.AppNo}
		a.queues[q.app] = q
	}
	q.add(e)
	switch {
	case len(q.entries) == 1:
		heap.Push(&a.order, q)
	case q.entries[0] != e:
	case q.held.IsZero():
		heap.Fix(&a.order, q.index)
	default: // it was held back for another; this one may be missed and need no leave
		heap.Remove(&a.held, q.index)
		q.held = time.Time{}
		heap.Push(&a.order, q)
	}
}

// done says that the beginning of tasks is over.
func (a *agenda) done(entries ...*entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range entries {
		a.known[e.task.ID] = over
		a.over = append(a.over, e.task.ID)
	}
}

// knows says whether the task would not be added.
func (a *agenda) knows(id int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, known := a.known[id]
	return known
}

// take removes and returns up to n entries whose time has come, by the database's
// clock, to be begun. allow may hold an entry's app back until a time, by this
// machine's clock.
func (a *agenda) take(now time.Time, n int, allow func(*entry) (ok bool, until time.Time)) []*entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.goOn()
	var out []*entry
	for len(out) < n && len(a.order) > 0 && !a.order[0].at().After(now) {
		q := a.order[0]
		ok, until := allow(q.entries[0])
		if !ok {
			heap.Pop(&a.order)
			q.held = until
			heap.Push(&a.held, q)
			continue
		}
		e := q.pop()
		a.known[e.task.ID] = begun
		a.waiting--
		a.bytes -= e.bytes()
		out = append(out, e)
		if len(q.entries) > 0 {
			heap.Fix(&a.order, 0)
			continue
		}
		heap.Pop(&a.order)
		delete(a.queues, q.app)
	}
	return out
}

// goOn ends the pauses that are over.
func (a *agenda) goOn() {
	for now := a.now(); len(a.held) > 0 && !a.held[0].held.After(now); {
		q := heap.Pop(&a.held).(*queue)
		q.held = time.Time{}
		heap.Push(&a.order, q)
	}
}

// next returns how long nothing has to be begun; now is by the database's clock.
func (a *agenda) next(now time.Time) (time.Duration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.order)+len(a.held) == 0 {
		return 0, false
	}
	wait := time.Duration(math.MaxInt64)
	if len(a.order) > 0 {
		wait = a.order[0].at().Sub(now)
	}
	if len(a.held) > 0 {
		wait = min(wait, a.held[0].held.Sub(a.now()))
	}
	return max(wait, 0), true
}

// bytes is how much memory the entry's content takes.
func (e *entry) bytes() int64 {
	if e.content == nil {
		return 0
	}
	return e.content.bytes
}

// size is how much memory the contents of the tasks in the queues take, at most.
func (a *agenda) size() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bytes
}

func (a *agenda) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.waiting
}

// crowded lists the apps with at least n entries.
func (a *agenda) crowded(n int) []int32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []int32
	for app, q := range a.queues {
		if len(q.entries) >= n {
			out = append(out, app)
		}
	}
	return out
}

type queueHeap []*queue

func (h queueHeap) Len() int           { return len(h) }
func (h queueHeap) Less(i, j int) bool { return h[i].at().Before(h[j].at()) }
func (h queueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *queueHeap) Push(x any) {
	q := x.(*queue)
	q.index = len(*h)
	*h = append(*h, q)
}

func (h *queueHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return x
}
