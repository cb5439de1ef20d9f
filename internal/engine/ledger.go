package engine

import (
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A ledger is what this daemon began and recorded lately, in memory. A database
// may lose what it has committed, by a failover to a standby that lagged; then
// what is in the ledger is written again. It has a page for each heartbeat.
type ledger struct {
	mu         sync.Mutex
	generation int
	pages      []*page // oldest first; the last is being written
	since      int64   // the heartbeat since which everything is in it; 0: since the first
	size       int
}

// A page is what was known to be committed between the answers to two
// heartbeats.
type page struct {
	ended    int64 // the heartbeat whose answer ended it
	intents  []store.Intent
	results  []*result
	attempts []store.Attempt
	outcomes []ended
	targets  int // named by the results
}

// weigh counts what memory a page takes, in entries.
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
// ten times as much: to whom a delivery goes is stored with it, and no outcome
// changes it.
func (p *page) keepOutcomes(outcomes []store.DeliveryOutcome) {
	var last *alike
	if n := len(p.outcomes); n > 0 {
		last = p.outcomes[n-1].alike
	}
	for i := range outcomes {
		o := &outcomes[i]
		if a := alikeOf(o); last == nil || *last != a {
			shared := a // apart, so that only this one is allocated
			last = &shared
		}
		p.outcomes = append(p.outcomes, ended{last, o.Delivery.ID, o.Delivery.SliceNo, o.RequestID, o.MessageID})
	}
}

// An ended attempt is an outcome as the ledger keeps it. Outcomes of one task that
// follow each other differ in little and share the rest, which makes them a quarter
// as large.
type ended struct {
	*alike
	id        int64
	sliceNo   int32
	requestID string
	messageID string
}

// An alike is what outcomes share.
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

// outcome is what was kept.
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

// The ledger is bounded: a loss that reaches further back than it is held for an
// operator.
const (
	ledgerPages = 20
	ledgerSize  = 40_000
)

func newLedger() *ledger { return &ledger{pages: []*page{{}}} }

// open returns what to hand to a note once a statement has been answered: when
// the database was looked through in between, the note is not taken, since
// nobody knows whether the statement is among what was found.
func (l *ledger) open() (generation int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generation
}

// note writes on the current page, unless generation is over.
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
// What is on a page that a heartbeat ended was committed before the next one was
// asked for: a database that has that one has the page.
func (l *ledger) turn(beats int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pages[len(l.pages)-1].ended = beats
	l.pages = append(l.pages, &page{})
	for len(l.pages) > ledgerPages || l.size > ledgerSize && len(l.pages) > 2 {
		l.since = l.pages[0].ended + 2 // and one more, for a heartbeat that the network held back
		l.size -= l.pages[0].weigh()
		l.pages = l.pages[1:]
	}
}

// A ledgerCopy is what the ledger held when the database was looked through.
type ledgerCopy struct {
	since    int64
	intents  []store.Intent
	results  map[int64]*result // by task, the latest
	attempts []store.Attempt
	outcomes map[int64]store.DeliveryOutcome // by delivery, that of its latest attempt
}

// copy ends the generation and returns what is known.
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

// recorded lists the claims of which something is recorded: they are never given
// back.
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

// renumber takes in a new identity, whose heartbeats are counted from one.
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
