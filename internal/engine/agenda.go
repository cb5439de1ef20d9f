package engine

import (
	"container/heap"
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
type agenda struct {
	mu     sync.Mutex
	queues map[int32]*queue
	order  queueHeap // queues that are not empty, by when they want to be looked at
	ids    map[int64]bool
}

// A queue holds one app's entries by the time they are ready. They are read in
// that order, but for a few.
type queue struct {
	app     int32
	entries []*entry
	held    time.Time // nothing of the app begins before
	index   int       // in agenda.order
}

// at is when the queue wants to be looked at.
func (q *queue) at() time.Time {
	first := q.entries[0].task.ReadyAt
	if q.held.After(first) {
		return q.held
	}
	return first
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
	a := &agenda{}
	a.clear()
	return a
}

// clear forgets everything; the next read-ahead finds it again.
func (a *agenda) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queues, a.order, a.ids = make(map[int32]*queue), nil, make(map[int64]bool)
}

// add takes in tasks that are not there yet.
func (a *agenda) add(entries []*entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range entries {
		if a.ids[e.task.ID] {
			continue
		}
		a.ids[e.task.ID] = true
		q := a.queues[e.task.AppNo]
		if q == nil {
			q = &queue{app: e.task.AppNo}
			a.queues[q.app] = q
		}
		q.add(e)
		switch {
		case len(q.entries) == 1:
			heap.Push(&a.order, q)
		case q.entries[0] == e:
			heap.Fix(&a.order, q.index)
		}
	}
}

// has says whether the task is there.
func (a *agenda) has(id int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ids[id]
}

// take removes and returns up to n entries whose time has come. allow may hold
// an entry's app back until a time it returns.
func (a *agenda) take(now time.Time, n int, allow func(*entry) (ok bool, until time.Time)) []*entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*entry
	for len(out) < n && len(a.order) > 0 && !a.order[0].at().After(now) {
		q := a.order[0]
		ok, until := allow(q.entries[0])
		if !ok {
			q.held = until
			heap.Fix(&a.order, 0)
			continue
		}
		e := q.pop()
		delete(a.ids, e.task.ID)
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

// next returns when the earliest queue wants to be looked at.
func (a *agenda) next() (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.order) == 0 {
		return time.Time{}, false
	}
	return a.order[0].at(), true
}

func (a *agenda) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ids)
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
