package engine

import (
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A ledger keeps in memory what this daemon began and recorded lately. A
// failover to a standby that lagged may lose committed transactions. Then the
// daemon writes again what the ledger holds. The ledger has a page for each
// heartbeat.
type ledger struct {
	mu         sync.Mutex
	generation int
	pages      []*page // oldest first; the last is being written
	since      int64   // the heartbeat since which the ledger holds everything; 0: since the first
	size       int
}

// A page holds what became known as committed between the answers to two
// heartbeats.
type page struct {
	ended    int64 // the heartbeat whose answer ended it
	intents  []store.Intent
	results  []*result
	attempts []store.Attempt
	outcomes []ended
	targets  int // that the results name
}

// weigh returns the size of a page, in entries.
func (p *page) weigh() int {
	return len(p.intents) + len(p.results) + len(p.attempts) + len(p.outcomes) + p.targets/8
}

func (p *page) keep(results []*result) {
	p.results = append(p.results, results...)
	for _, r := range results {
		if r.retry != nil {
			p.targets += len(r.retry.Targets)
		} else {
			p.targets += len(r.decision.Targets)
		}
	}
}

// keepOutcomes keeps outcomes without the names of their targets, which would take
// ten times the memory. The names are stored with the delivery, and no outcome
// changes them.
func (p *page) keepOutcomes(outcomes []store.DeliveryOutcome) {
	var last *alike
	if n := len(p.outcomes); n > 0 {
		last = p.outcomes[n-1].alike
	}
	for i := range outcomes {
		o := &outcomes[i]
		if a := alikeOf(o); last == nil || *last != a {
			shared := a // a copy, so that only the shared ones are allocated
			last = &shared
		}
		p.outcomes = append(p.outcomes, ended{last, o.Delivery.ID, o.Delivery.SliceNo, o.RequestID, o.MessageID})
	}
}

// An ended is an outcome as the ledger keeps it. Successive outcomes of one task
// differ in few fields and share the rest, which makes them a quarter as large.
type ended struct {
	*alike
	id        int64
	sliceNo   int32
	requestID string
	messageID string
}

// An alike holds the fields that successive outcomes share.
type alike struct {
	taskID, campaignID, daemonID            int64
	appNo, attempts, revision, taskRev      int32
	maybeBefore, maybeSent, sent, keepQuota bool // maybeBefore: an earlier attempt may have been taken
	dueAt, readyAt                          time.Time
	status, reason, code, message           string
}

func alikeOf(o *store.DeliveryOutcome) alike {
	d := &o.Delivery
	return alike{
		taskID: d.TaskID, campaignID: d.CampaignID, daemonID: o.DaemonID,
		appNo: d.AppNo, attempts: d.Attempts, revision: d.Revision, taskRev: d.TaskRevision,
		maybeBefore: d.MaybeSent, maybeSent: o.MaybeSent, sent: o.Sent, keepQuota: o.KeepQuota,
		dueAt: d.DueAt, readyAt: o.ReadyAt,
		status: o.Status, reason: o.Reason, code: o.Code, message: o.Message,
	}
}

// outcome returns the outcome that was kept, without the names of its targets.
func (e *ended) outcome() store.DeliveryOutcome {
	return store.DeliveryOutcome{
		Delivery: store.Delivery{
			ID: e.id, TaskID: e.taskID, SliceNo: e.sliceNo, AppNo: e.appNo, CampaignID: e.campaignID, Attempts: e.attempts,
			MaybeSent: e.maybeBefore, DueAt: e.dueAt, Revision: e.revision, TaskRevision: e.taskRev,
		},
		DaemonID: e.daemonID, Status: e.status, ReadyAt: e.readyAt, Reason: e.reason, Code: e.code, Message: e.message,
		RequestID: e.requestID, MessageID: e.messageID, MaybeSent: e.maybeSent, Sent: e.sent, KeepQuota: e.keepQuota,
	}
}

// The ledger is bounded. If a loss reaches further back than the ledger,
// everything is held for an operator.
const (
	ledgerPages = 20
	ledgerSize  = 40_000
)

func newLedger() *ledger { return &ledger{pages: []*page{{}}} }

// open returns the generation, which the caller hands to note once a statement
// has been answered. When the database was looked through in between, note
// refuses: nobody knows whether the look found the statement's rows.
func (l *ledger) open() (generation int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generation
}

// note writes on the current page, and returns false without writing when the
// generation is over.
func (l *ledger) note(generation int, write func(*page)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.generation != generation {
		return false
	}
	p := l.pages[len(l.pages)-1]
	before := p.weigh()
	write(p)
	l.size += p.weigh() - before
	return true
}

// turn begins a new page with the answer to a heartbeat, and forgets the oldest.
// Everything on a page that a heartbeat ended was committed before the next
// heartbeat was sent. So a database that has the next heartbeat has everything
// on the page.
func (l *ledger) turn(beats int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pages[len(l.pages)-1].ended = beats
	l.pages = append(l.pages, &page{})
	for len(l.pages) > ledgerPages || l.size > ledgerSize && len(l.pages) > 2 {
		l.since = l.pages[0].ended + 2 // one more than the next, since the network may hold a heartbeat back
		l.size -= l.pages[0].weigh()
		l.pages = l.pages[1:]
	}
}

// A ledgerCopy holds what the ledger held when the database was looked through.
type ledgerCopy struct {
	since    int64
	intents  []store.Intent
	results  map[int64]*result // by task, the latest
	attempts []store.Attempt
	outcomes map[int64]store.DeliveryOutcome // by delivery, that of its latest attempt
}

// copy ends the generation and returns what the ledger holds.
func (l *ledger) copy() ledgerCopy {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation++
	c := ledgerCopy{since: l.since, results: make(map[int64]*result), outcomes: make(map[int64]store.DeliveryOutcome)}
	intents := make(map[int64]store.Intent)
	latest := make(map[int64]store.Attempt)
	for _, p := range l.pages {
		for _, t := range p.intents {
			intents[t.TaskID] = t
		}
		for _, r := range p.results {
			t := r.intent()
			intents[t.TaskID], c.results[t.TaskID] = t, r
		}
		for _, a := range p.attempts {
			latest[a.SliceID] = a
		}
		for i := range p.outcomes {
			o := p.outcomes[i].outcome()
			if a := attemptOf(&o.Delivery); latest[a.SliceID].Number <= a.Number {
				a.Unsent = !o.Sent
				latest[a.SliceID], c.outcomes[a.SliceID] = a, o
			}
		}
	}
	for _, t := range intents {
		c.intents = append(c.intents, t)
	}
	for id, a := range latest {
		if o, ok := c.outcomes[id]; ok && o.Delivery.Attempts < a.Number {
			delete(c.outcomes, id)
		}
		c.attempts = append(c.attempts, a)
	}
	return c
}

// recorded lists the claims of which some task is recorded. Such claims are
// never given back.
func (l *ledger) recorded() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []int64
	for _, p := range l.pages {
		for _, r := range p.results {
			out = append(out, r.claim())
		}
	}
	return out
}

// renumber notes that the daemon has a new identity, whose heartbeats are
// counted from one.
func (l *ledger) renumber() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = min(l.since, 1)
	for _, p := range l.pages {
		p.ended = 0
	}
}

// clear forgets everything.
func (l *ledger) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation++
	l.pages, l.since, l.size = []*page{{}}, 0, 0
}

func (r *result) intent() store.Intent {
	if t := r.retry; t != nil {
		return store.Intent{
			ClaimID: t.ClaimID, TaskID: t.TaskID, AppNo: t.AppNo, CampaignID: t.CampaignID, Revision: t.Revision, Origin: t.Origin, DueAt: t.DueAt,
		}
	}
	d := &r.decision
	return store.Intent{
		ClaimID: d.ClaimID, TaskID: d.TaskID, AppNo: d.AppNo, CampaignID: d.CampaignID, Revision: d.Revision, Origin: d.Origin, DueAt: d.DueAt,
	}
}

func attemptOf(sl *store.Delivery) store.Attempt {
	return store.Attempt{
		SliceID: sl.ID, TaskID: sl.TaskID, SliceNo: sl.SliceNo, AppNo: sl.AppNo, CampaignID: sl.CampaignID, DueAt: sl.DueAt, Number: sl.Attempts,
	}
}
