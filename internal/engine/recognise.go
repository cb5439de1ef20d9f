package engine

import (
	"context"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// recognise makes sure, before the daemon does anything else with the database,
// that this is the database it knows. The database must have lost nothing since,
// or the lost records must be written again. recognise runs at every heartbeat.
// Between heartbeats, another database refuses the statements that meet it.
func (l *lease) recognise(ctx context.Context) error {
	if l.knownSeal() == "" {
		return nil // enlist looks at this database
	}
	seal, complete, err := l.store.Seal(ctx)
	switch {
	case err != nil:
		return err
	case seal != l.knownSeal():
		complete, err = l.lookThrough(ctx)
	case !complete:
		complete, err = l.store.CompleteRecognition(ctx, seal)
	}
	if err != nil {
		return err
	}
	l.setRecognised(complete)
	return nil
}

// lookThrough compares the database with the ledger, and has lost records
// written again.
func (l *lease) lookThrough(ctx context.Context) (complete bool, err error) {
	l.setRecognised(false)
	book := l.ledger.copy()
	known := l.known(book)
	found, err := l.store.Recognise(ctx, known)
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	l.seal, l.origin = found.Seal, found.Origin
	l.mu.Unlock()
	l.store.Adopt(found.Seal)
	if found.Foreign { // the ledger is of another database
		l.ledger.clear()
		l.mu.Lock()
		l.seal = ""
		l.mu.Unlock()
		l.lost(ctx)
		return false, nil
	}
	records := l.rewrite(&known, book, &found)
	l.tellRecognised(ctx, &found, records)
	return found.Complete, nil
}

// known returns what the daemon knows of the database.
func (l *lease) known(book ledgerCopy) store.Known {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return store.Known{
		Daemon: l.last, Name: l.name, Version: l.version, Lease: l.length, Run: l.guard.Run,
		Mark:  store.Mark{Installation: l.installation, Address: l.store.Address(), Daemon: l.last, Beats: l.beats, SeenAt: l.beatAt},
		Since: book.since, Peers: l.daemons, Origin: l.origin, Intents: book.intents, Attempts: book.attempts,
	}
}

func (l *lease) tellRecognised(ctx context.Context, found *store.Recognition, records int) {
	switch {
	case found.GuardReason != "" && l.guard.Run:
		l.log.WarnContext(ctx, "the database may be restored or cloned; going on, as restore_guard.policy is run", "reason", found.GuardReason)
	case len(found.Lost) > 0 || records > 0 || found.Unknown > 0 || found.SetBack > 0:
		l.log.WarnContext(ctx, "the database lost what was committed last; what this daemon had begun and recorded is written again",
			"heartbeats", found.SetBack, "begun", len(found.Lost), "recorded", records, "unknown", found.Unknown)
	default:
		l.log.InfoContext(ctx, "the database crashed or failed over, and lost nothing that this daemon knows of")
	}
}

// knownSeal returns the seal of the database that this daemon knows; empty: it
// knows none.
func (l *lease) knownSeal() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.seal
}

// recognitionPoll is how often a daemon asks whether the other daemons have
// looked through the database.
const recognitionPoll = 100 * time.Millisecond

func (l *lease) setRecognised(yes bool) {
	l.mu.Lock()
	was := l.recognised
	l.recognised = yes
	l.mu.Unlock()
	switch {
	case !yes:
		time.AfterFunc(recognitionPoll, l.Wake)
	case !was:
		l.wakes.shareChanged() // nothing began meanwhile
	}
}

// lostAgain has lost records written again. A record is lost where by the
// database the claim still stands, or the attempt is still under way. It
// returns how many records it queued.
func (e *Engine) lostAgain(known *store.Known, book ledgerCopy, found *store.Recognition) int {
	var results []*result
	for task, r := range book.results {
		if found.Open[task] {
			results = append(results, r)
		}
	}
	var outcomes []store.DeliveryOutcome
	for id, o := range book.outcomes {
		if found.Running[id] {
			outcomes = append(outcomes, o)
		}
	}
	lost := make(map[int64]bool, len(found.Lost))
	for _, task := range found.Lost {
		lost[task] = true
	}
	for _, t := range known.Intents {
		if lost[t.TaskID] {
			e.recorder.holds(t.ClaimID, known.Daemon)
		}
	}
	e.recorder.again(known.Daemon, results)
	e.deliveries.again(outcomes)
	return len(results) + len(outcomes)
}

// holds notes that a claim was written again, under the daemon's current identity.
func (r *recorder) holds(claim, daemon int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.open[claim]; c != nil {
		c.daemon = daemon
	}
}

// again queues results whose record was lost.
func (r *recorder) again(daemon int64, results []*result) {
	if len(results) == 0 {
		return
	}
	r.mu.Lock()
	for _, res := range results {
		id := res.claim()
		if r.open[id] == nil {
			r.open[id] = &openClaim{daemon: daemon}
		}
		r.open[id].left++
		again := *res
		again.stored, again.told = false, true
		l := &r.decisions
		if again.retry != nil {
			l = &r.retries
		}
		l.queue = append(l.queue, &again)
	}
	r.mu.Unlock()
	r.Wake()
}

// again queues outcomes whose record was lost.
func (s *deliveries) again(outcomes []store.DeliveryOutcome) {
	if len(outcomes) == 0 {
		return
	}
	s.mu.Lock()
	for _, o := range outcomes {
		s.running[o.Delivery.ID] = o.Delivery.Attempts
		s.outcomes = append(s.outcomes, attemptEnd{o, nil})
	}
	s.mu.Unlock()
	s.writer.Wake()
}
