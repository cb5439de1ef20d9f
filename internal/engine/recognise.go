package engine

import (
	"context"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// recognise makes sure, before anything else is done with the database, that it
// is the one this daemon knows and has lost nothing since; or that what it lost
// is written again. It is asked at every heartbeat; statements that meet another
// database in between are refused by it.
func (h *heart) recognise(ctx context.Context) error {
	if h.knownSeal() == "" {
		return nil // enlist meets it
	}
	seal, complete, err := h.store.Seal(ctx)
	switch {
	case err != nil:
		return err
	case seal != h.knownSeal():
		complete, err = h.lookThrough(ctx)
	case !complete:
		complete, err = h.store.CompleteRecognition(ctx, seal)
	}
	if err != nil {
		return err
	}
	h.setRecognised(complete)
	return nil
}

// lookThrough compares the database with the ledger, and has what is lost
// written again.
func (h *heart) lookThrough(ctx context.Context) (complete bool, err error) {
	h.setRecognised(false)
	book := h.ledger.copy()
	known := h.known(book)
	found, err := h.store.Recognise(ctx, known)
	if err != nil {
		return false, err
	}
	h.mu.Lock()
	h.seal, h.origin = found.Seal, found.Origin
	h.mu.Unlock()
	h.store.Adopt(found.Seal)
	if found.Foreign { // nothing that is known of the other is true of it
		h.ledger.clear()
		h.mu.Lock()
		h.seal = ""
		h.mu.Unlock()
		h.lost(ctx)
		return false, nil
	}
	records := h.onLost(&known, book, &found)
	h.tellRecognised(ctx, &found, records)
	return found.Complete, nil
}

// known is what the daemon knows of the database.
func (h *heart) known(book ledgerCopy) store.Known {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return store.Known{
		Daemon: h.last, Name: h.name, Version: h.version, Lease: h.lease, Run: h.guard.Run,
		Mark:  store.Mark{Installation: h.installation, Address: h.store.Address(), Daemon: h.last, Beats: h.beats, SeenAt: h.beatAt},
		Since: book.since, Peers: h.daemons, Origin: h.origin, Intents: book.intents, Attempts: book.attempts,
	}
}

func (h *heart) tellRecognised(ctx context.Context, found *store.Recognition, records int) {
	switch {
	case found.Doubt != "" && h.guard.Run:
		h.log.WarnContext(ctx, "the database may be restored or cloned; going on, as restore_guard.policy is run", "reason", found.Doubt)
	case len(found.Lost) > 0 || records > 0 || found.Unknown > 0 || found.SetBack > 0:
		h.log.WarnContext(ctx, "the database lost what was committed last; what this daemon had begun and recorded is written again",
			"heartbeats", found.SetBack, "begun", len(found.Lost), "recorded", records, "unknown", found.Unknown)
	default:
		h.log.InfoContext(ctx, "the database crashed or failed over, and lost nothing that this daemon knows of")
	}
}

// knownSeal is the seal of the database this daemon knows; empty: of none.
func (h *heart) knownSeal() string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.seal
}

// recognitionPoll is how often a daemon asks whether the others have looked.
const recognitionPoll = 100 * time.Millisecond

func (h *heart) setRecognised(yes bool) {
	h.mu.Lock()
	was := h.recognised
	h.recognised = yes
	h.mu.Unlock()
	switch {
	case !yes:
		time.AfterFunc(recognitionPoll, h.Wake)
	case !was:
		h.onShare() // nothing began meanwhile
	}
}

// lostAgain has the records written again whose loss was found: those of claims
// that stand and of attempts that are under way, by what the database says. It
// returns how many they are.
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

// holds tells of a claim that was written again, by the daemon's identity now.
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
