package engine

import (
	"cmp"
	"container/heap"
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// An entry is a pending task this daemon means to begin.
type entry struct {
	task     store.ReadyTask
	compiled *compiled
	seen     time.Time // when this daemon first saw the task, by the database's clock
	leave    *leave    // to make its call; nil: its app was not asked
}

// A dueQueue holds in memory the tasks that are ready soon, so that beginning one
// needs no search. The claim decides whether a task may begin; the queue is a plan.
// Each app has a queue of its own, so that an app that is held back costs nothing
// until its pause ends.
//
// A read that started before a task was claimed may still return the task. The id
// is kept until a read that starts afterwards, or the task would be queued twice.
//
// The ready time of a task is an instant of the database's clock. The pause of an
// app is a length, counted by this machine's monotonic clock.
//
// A dueQueue is safe for concurrent use.
type dueQueue struct {
	mu      sync.Mutex
	now     func() time.Time // this machine's clock
	queues  map[int32]*queue
	order   timeHeap[*queue] // queues that are not empty and not held back, by their first task's time
	held    timeHeap[*queue] // queues that are held back, by until when
	known   map[int64]stage
	waiting int     // tasks in the queues
	bytes   int64   // of memory that their compiled campaigns take, each counted for every task
	over    []int64 // tasks that are forgotten with the next reading
}

// A stage is how far a task in a dueQueue has come.
type stage uint8

const (
	waits stage = iota // in its app's queue
	begun              // taken by the dispatcher, which is beginning it
	over               // the try to begin it has ended, whatever its result
)

// A queue holds one app's entries by the time they are ready. Most are read in
// that order already.
type queue struct {
	app     int32
	entries []*entry
	bytes   int64     // of memory that the entries' compiled campaigns take, each counted for every task
	held    time.Time // nothing of the app begins before; by this machine's clock, zero: it is not held back
	index   int       // in dueQueue.order or dueQueue.held
}

// at returns the time by which heaps order the queue: when its first task is ready
// or, if it is held back, until when.
func (q *queue) at() time.Time {
	if q.held.IsZero() {
		return q.entries[0].task.ReadyAt
	}
	return q.held
}

func (q *queue) setIndex(i int) { q.index = i }

func (q *queue) add(e *entry) {
	q.bytes += e.bytes()
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
	q.bytes -= e.bytes()
	return e
}

// before says whether e begins before f; both are of one app.
func (e *entry) before(f *entry) bool {
	if c := e.task.ReadyAt.Compare(f.task.ReadyAt); c != 0 {
		return c < 0
	}
	return e.task.ID < f.task.ID
}

func newDueQueue() *dueQueue {
	return &dueQueue{now: time.Now, queues: make(map[int32]*queue), known: make(map[int64]stage)}
}

// clear forgets the tasks that wait; the next read-ahead finds them again.
func (d *dueQueue) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queues, d.order, d.held, d.waiting, d.bytes = make(map[int32]*queue), nil, nil, 0, 0
	maps.DeleteFunc(d.known, func(_ int64, s stage) bool { return s == waits })
}

// drop forgets the waiting tasks of apps that other daemons begin.
func (d *dueQueue) drop(apps []int32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, app := range apps {
		q := d.queues[app]
		if q == nil {
			continue
		}
		for _, e := range q.entries {
			delete(d.known, e.task.ID)
			d.waiting--
			d.bytes -= e.bytes()
		}
		if q.held.IsZero() {
			heap.Remove(&d.order, q.index)
		} else {
			heap.Remove(&d.held, q.index)
		}
		delete(d.queues, app)
	}
}

// reading notes that the database is about to be read.
func (d *dueQueue) reading() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range d.over {
		if d.known[id] == over {
			delete(d.known, id)
		}
	}
	d.over = d.over[:0]
}

// add takes in tasks that are not known yet, unless the entries of their app take as
// many bytes as they may.
func (d *dueQueue) add(entries []*entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range entries {
		if _, known := d.known[e.task.ID]; !known && !d.isHeavy(e.task.AppNo) {
			d.put(e)
		}
	}
}

// outdated forgets waiting tasks whose campaigns were changed after the tasks were
// read, for apps that are held back. tasks are those that were read just now. The
// others need no such look: their tasks begin soon, and the claim knows the
// revision.
func (d *dueQueue) outdated(tasks []store.ReadyTask) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := make(map[int32]map[int64]bool)
	for i := range tasks {
		t := &tasks[i]
		q := d.queues[t.AppNo]
		if s, known := d.known[t.ID]; !known || s != waits || q.held.IsZero() || q.has(t) {
			continue
		}
		if changed[t.AppNo] == nil {
			changed[t.AppNo] = make(map[int64]bool)
		}
		changed[t.AppNo][t.ID] = true
	}
	for app, ids := range changed {
		d.forget(app, ids)
	}
}

// has says whether the queue holds the task as it was read.
func (q *queue) has(t *store.ReadyTask) bool {
	i, found := slices.BinarySearchFunc(q.entries, t, func(e *entry, t *store.ReadyTask) int {
		return cmp.Or(e.task.ReadyAt.Compare(t.ReadyAt), cmp.Compare(e.task.ID, t.ID))
	})
	return found && q.entries[i].task.Revision == t.Revision && q.entries[i].task.WaitsFor == t.WaitsFor
}

// forget takes tasks of an app out of its queue. d.mu is held.
func (d *dueQueue) forget(app int32, ids map[int64]bool) {
	q := d.queues[app]
	of := &d.order
	if !q.held.IsZero() {
		of = &d.held
	}
	q.entries = slices.DeleteFunc(q.entries, func(e *entry) bool {
		if !ids[e.task.ID] {
			return false
		}
		delete(d.known, e.task.ID)
		d.waiting--
		d.bytes -= e.bytes()
		q.bytes -= e.bytes()
		return true
	})
	if len(q.entries) > 0 {
		heap.Fix(of, q.index)
		return
	}
	heap.Remove(of, q.index)
	delete(d.queues, app)
}

// putBack takes in tasks that could not be begun.
func (d *dueQueue) putBack(entries []*entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range entries {
		d.put(e)
	}
}

func (d *dueQueue) put(e *entry) {
	d.known[e.task.ID] = waits
	d.waiting++
	d.bytes += e.bytes()
	q := d.queues[e.task.AppNo]
	if q == nil {
		q = &queue{app: e.task.AppNo}
		d.queues[q.app] = q
	}
	q.add(e)
	switch {
	case len(q.entries) == 1:
		heap.Push(&d.order, q)
	case q.entries[0] != e:
	case q.held.IsZero():
		heap.Fix(&d.order, q.index)
	default: // it was held back for another; this one may be missed and need no leave
		heap.Remove(&d.held, q.index)
		q.held = time.Time{}
		heap.Push(&d.order, q)
	}
}

// done notes that the try to begin the tasks has ended.
func (d *dueQueue) done(entries ...*entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range entries {
		d.known[e.task.ID] = over
		d.over = append(d.over, e.task.ID)
	}
}

// unknown returns the tasks that add would not leave out as known.
func (d *dueQueue) unknown(tasks []store.ReadyTask) []store.ReadyTask {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(tasks, func(t store.ReadyTask) bool {
		_, known := d.known[t.ID]
		return known
	})
}

// take removes and returns up to n entries to begin, whose time has come by the
// database's clock. allow may hold an entry's app back until a time by this
// machine's clock.
func (d *dueQueue) take(now time.Time, n int, allow func(*entry) (ok bool, until time.Time)) []*entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.goOn()
	var out []*entry
	for len(out) < n && len(d.order) > 0 && !d.order[0].at().After(now) {
		q := d.order[0]
		ok, until := allow(q.entries[0])
		if !ok {
			heap.Pop(&d.order)
			q.held = until
			heap.Push(&d.held, q)
			continue
		}
		e := q.pop()
		d.known[e.task.ID] = begun
		d.waiting--
		d.bytes -= e.bytes()
		out = append(out, e)
		if len(q.entries) > 0 {
			heap.Fix(&d.order, 0)
			continue
		}
		heap.Pop(&d.order)
		delete(d.queues, q.app)
	}
	return out
}

// goOn ends the pauses that are over.
func (d *dueQueue) goOn() {
	for now := d.now(); len(d.held) > 0 && !d.held[0].held.After(now); {
		q := heap.Pop(&d.held).(*queue)
		q.held = time.Time{}
		heap.Push(&d.order, q)
	}
}

// next returns how long it is until the next entry has to begin; false: there is
// none. now is by the database's clock.
func (d *dueQueue) next(now time.Time) (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.order)+len(d.held) == 0 {
		return 0, false
	}
	wait := time.Duration(math.MaxInt64)
	if len(d.order) > 0 {
		wait = d.order[0].at().Sub(now)
	}
	if len(d.held) > 0 {
		wait = min(wait, d.held[0].held.Sub(d.now()))
	}
	return max(wait, 0), true
}

// bytes is how much memory the entry's compiled campaign takes.
func (e *entry) bytes() int64 {
	if e.compiled == nil {
		return 0
	}
	return e.compiled.bytes
}

// size is how much memory the compiled campaigns of the queued tasks take at most.
// A campaign counts once for each of its tasks.
func (d *dueQueue) size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes
}

func (d *dueQueue) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting
}

// crowded lists the apps with at least n entries.
func (d *dueQueue) crowded(n int) []int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []int32
	for app, q := range d.queues {
		if len(q.entries) >= n {
			out = append(out, app)
		}
	}
	return out
}

// heavy lists the apps whose entries take as many bytes as they may, and says
// whether one of them is not held back.
func (d *dueQueue) heavy() (apps []int32, moves bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for app, q := range d.queues {
		if q.bytes >= d.bytesOfApp() {
			apps, moves = append(apps, app), moves || q.held.IsZero()
		}
	}
	return apps, moves
}

// bytesOfApp is how many bytes one app's entries may take, so that large campaigns
// of some apps do not keep others out. d.mu is held.
func (d *dueQueue) bytesOfApp() int64 { return dueQueueBytes / int64(max(8, len(d.queues)+1)) }

// isHeavy says whether the app's entries take as many bytes as they may. d.mu is
// held.
func (d *dueQueue) isHeavy(app int32) bool {
	q := d.queues[app]
	return q != nil && q.bytes >= d.bytesOfApp()
}

// trim forgets the last entries of apps whose entries take more bytes than they may.
// That bound falls with each new app.
func (d *dueQueue) trim() {
	d.mu.Lock()
	defer d.mu.Unlock()
	most := d.bytesOfApp()
	for app, q := range d.queues {
		if q.bytes < most {
			continue
		}
		bytes, ids := q.bytes, make(map[int64]bool)
		for i := len(q.entries) - 1; i > 0 && bytes-q.entries[i].bytes() >= most; i-- {
			bytes -= q.entries[i].bytes()
			ids[q.entries[i].task.ID] = true
		}
		if len(ids) > 0 {
			d.forget(app, ids)
		}
	}
}

// dueQueueBytes bounds the memory that the compiled campaigns of queued tasks take.
const dueQueueBytes = 64 << 20

// readAhead fills the dueQueue with the tasks that are ready within the horizon.
// It begins with the earliest task each time, so that it also finds what no hint
// told of. Of each app it reads no more than there is room for.
func (d *dispatcher) readAhead(ctx context.Context) error {
	if err := d.quiet.refresh(ctx); err != nil {
		return err
	}
	if d.reloaded.Swap(false) {
		d.due.clear() // the tasks in it were read with the old configuration
	}
	share, shares, ok := d.lease.share()
	if !ok {
		return nil // no lease: nothing could be claimed
	}
	d.due.trim()
	if d.full() {
		d.unread.Store(true)
		return nil
	}
	crowded := d.crowded()
	heavy, _ := d.due.heavy()
	mine, others := d.lease.exceptions()
	d.due.drop(others)
	d.due.reading()
	tasks, more, err := d.store.Upcoming(ctx, d.clock.Now().Add(d.horizon), slices.Concat(others, crowded, heavy), mine, share, shares, d.capacity/8, d.capacity)
	if err != nil {
		return err
	}
	if err := d.enter(ctx, tasks); err != nil {
		return err
	}
	_, moves := d.due.heavy()
	d.unread.Store(moves || len(crowded) > 0 || more || d.full())
	return nil
}

// full says whether the dueQueue holds as much as it may.
func (d *dispatcher) full() bool {
	return d.due.len() >= d.capacity || d.due.size() >= dueQueueBytes
}

// crowded lists apps that already hold more of the dueQueue than they can begin
// soon, so that a slow app does not keep others out.
func (d *dispatcher) crowded() []int32 {
	return d.due.crowded(d.capacity / 8)
}

// enter takes in tasks that are new, or that were changed after they were taken in:
// a task that waits for its app's leave may be missed by its campaign's new window
// or policy. Early tasks are taken in some at a time, with rests in between, since
// one reading returns whole seconds of tasks and calls are due all the time. A
// reading each second finds tasks that are due from half the horizon on. Early
// means well before that.
func (d *dispatcher) enter(ctx context.Context, tasks []store.ReadyTask) error {
	d.due.outdated(tasks)
	fresh := d.due.unknown(tasks)
	for len(fresh) > 0 && !d.full() {
		began := time.Now()
		if heavy, _ := d.due.heavy(); len(heavy) > 0 {
			fresh = slices.DeleteFunc(fresh, func(t store.ReadyTask) bool { return slices.Contains(heavy, t.AppNo) })
		}
		n := min(len(fresh), readAtOnce)
		if n == 0 {
			break
		}
		early := fresh[0].ReadyAt.Sub(d.clock.Now()) > d.horizon/4 && !d.reader.wanted()
		if early {
			n = min(n, atOnce)
		}
		if err := d.enterSome(ctx, fresh[:n]); err != nil {
			return err
		}
		if fresh = fresh[n:]; early {
			pace(ctx, began)
		}
	}
	return nil
}

// readAtOnce bounds the campaigns that are loaded between two looks at how full
// the dueQueue is.
const readAtOnce = 256

func (d *dispatcher) enterSome(ctx context.Context, tasks []store.ReadyTask) error {
	wants := make([]want, len(tasks))
	for i, t := range tasks {
		wants[i] = want{id: t.CampaignID, revision: t.Revision}
	}
	if err := d.cache.ensure(ctx, wants); err != nil {
		return err
	}
	entries := make([]*entry, 0, len(tasks))
	for _, t := range tasks {
		if v := d.cache.get(t.CampaignID); v != nil && v.campaign.Unreadable == "" { // an unreadable campaign is the planner's to reject
			entries = append(entries, &entry{task: t, compiled: v, seen: d.clock.Now()})
		}
	}
	d.due.add(entries)
	signal(d.poke)
	return nil
}
