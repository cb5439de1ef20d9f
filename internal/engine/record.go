package engine

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// A recorder makes the outcomes of claimed tasks durable, many in one
// transaction. It keeps trying until the database has them, since only this
// daemon knows them. Decisions and further tries are written by turns, so that
// neither waits until the other succeeds.
type recorder struct {
	*loop
	store   *store.Store
	lease   *lease
	log     *slog.Logger
	metrics *Metrics
	traces  *traces
	ledger  *ledger
	wakes   wakes

	wrote     time.Time      // when the last write began; only the running loop touches it
	reporting sync.WaitGroup // of the batch written last, while the next is written

	mu        sync.Mutex
	decisions results
	retries   results
	open      map[int64]*openClaim
	idle      chan struct{} // closed when nothing is open
}

// results hold the results that wait, and how many of them are written at once.
type results struct {
	batch // only the running loop touches it
	queue []*result
}

// openClaim counts the tasks of a claim that are not recorded yet.
type openClaim struct {
	daemon int64
	left   int
}

// A result says how one claimed task went on: with a decision, or with another try.
type result struct {
	decision store.Decision
	retry    *store.Retry
	stored   bool   // the retry is stored already
	told     bool   // it was recorded and reported before, and the database lost the record
	last     bool   // the campaign has no later occurrence
	cause    string // what the task waited for
}

func newRecorder(s *store.Store, log *slog.Logger, m *Metrics, t *traces, own *lease, w wakes) *recorder {
	r := &recorder{
		store: s, log: log, metrics: m, traces: t, lease: own, ledger: own.ledger, wakes: w, open: make(map[int64]*openClaim),
	}
	r.decisions.batch = batch{doing: "record decisions", rows: recordAtOnce, most: recordAtOnce}
	r.retries.batch = batch{doing: "record further tries", rows: recordAtOnce, most: recordAtOnce}
	r.loop = newLoop("recorder", log, 0, own.answers, r.record)
	return r
}

// recordAtOnce is how many results are written in one transaction.
// recordTimeout is how long one transaction may take.
const (
	recordAtOnce  = 4000
	recordTimeout = 15 * time.Second
)

// opened notes a new claim and how many tasks it has.
func (r *recorder) opened(daemon, claim int64, tasks int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[claim] = &openClaim{daemon, tasks}
}

// put queues a result; it is durable some time later.
func (r *recorder) put(res *result) {
	r.mu.Lock()
	l := &r.decisions
	if res.retry != nil {
		l = &r.retries
	}
	l.queue = append(l.queue, res)
	r.mu.Unlock()
	r.Wake()
}

// backlog returns how many results wait.
func (r *recorder) backlog() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.decisions.queue) + len(r.retries.queue)
}

// claims lists the claims that are not closed.
func (r *recorder) claims() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]int64, 0, len(r.open))
	for id := range r.open {
		out = append(out, id)
	}
	return out
}

// drained returns a channel that is closed once every claim is closed.
func (r *recorder) drained() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := make(chan struct{})
	if len(r.open) == 0 {
		close(ch)
		return ch
	}
	r.idle = ch
	return ch
}

// record writes all results that wait. A batch that fails stays at the head of
// its line.
func (r *recorder) record(ctx context.Context) error {
	defer r.reporting.Wait()
	for r.backlog() > 0 {
		r.gather(ctx)
		if err := errors.Join(r.writeSome(ctx, &r.decisions), r.writeSome(ctx, &r.retries)); err != nil {
			r.retryLater(ctx)
			return err
		}
	}
	return nil
}

// writeSome writes the first results of a line.
func (r *recorder) writeSome(ctx context.Context, l *results) error {
	batch, done := r.next(l)
	if len(batch) == 0 {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	generation := r.ledger.open()
	var err error
	if l == &r.retries {
		err = r.writeRetries(within, batch, done)
	} else {
		err = r.writeDecisions(within, batch, done)
	}
	l.over(ctx, r.log, err)
	if err != nil {
		return err
	}
	if !r.ledger.note(generation, func(p *page) { p.keep(batch) }) {
		return store.ErrUnrecognised // this write may be among those that were lost, so it is done again
	}
	r.close(l, batch, done)
	return nil
}

// gather waits for more results, so that few large writes are made instead of
// many small ones. It waits at most until gatherResults after the start of the
// last write.
func (r *recorder) gather(ctx context.Context) {
	if wait := gatherResults - time.Since(r.wrote); wait > 0 && r.backlog() < recordAtOnce {
		sleep(ctx, wait)
	}
	r.wrote = time.Now()
}

// gatherResults is the longest wait of gather. It bounds how many outcomes are
// lost when the daemon dies.
const gatherResults = 20 * time.Millisecond

// next returns the first results of a line, and the claims of which these are
// the last tasks.
func (r *recorder) next(l *results) (batch []*result, done []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	batch = r.sameDaemon(l.queue[:min(len(l.queue), l.rows)])
	counts := make(map[int64]int)
	for _, res := range batch {
		counts[res.claim()]++
	}
	for id, n := range counts {
		if c := r.open[id]; c != nil && c.left == n {
			done = append(done, id)
		}
	}
	return batch, done
}

// sameDaemon cuts a batch where the claims are of another identity. The
// identity changes when the daemon has lost its lease and taken another.
func (r *recorder) sameDaemon(batch []*result) []*result {
	for i := range batch {
		first, c := r.open[batch[0].claim()], r.open[batch[i].claim()]
		if first != nil && c != nil && c.daemon != first.daemon {
			return batch[:i]
		}
	}
	return batch
}

func (r *recorder) close(l *results, batch []*result, done []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.queue = l.queue[len(batch):]
	if len(l.queue) == 0 {
		l.queue = nil
	}
	for _, res := range batch {
		if c := r.open[res.claim()]; c != nil {
			c.left--
		}
	}
	for _, id := range done {
		delete(r.open, id)
	}
	if len(r.open) == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

func (r *result) claim() int64 {
	if r.retry != nil {
		return r.retry.ClaimID
	}
	return r.decision.ClaimID
}

// writeDecisions records decisions. A claim is removed with the last of its tasks.
func (r *recorder) writeDecisions(ctx context.Context, batch []*result, done []int64) error {
	decisions := make([]*store.Decision, len(batch))
	for i, res := range batch {
		decisions[i] = &res.decision
	}
	began := r.traces.now()
	failpoint.Hit("record.before")
	recorded, err := r.store.Record(ctx, r.daemonOf(batch[0].claim()), decisions, done)
	if err != nil {
		return err
	}
	failpoint.Hit("record.after")
	r.traces.recorded(batch, recorded, began)
	r.reporting.Wait()
	r.reporting.Go(func() { r.report(context.WithoutCancel(ctx), batch, recorded) })
	return nil
}

// writeRetries stores further tries, except those that are stored already.
func (r *recorder) writeRetries(ctx context.Context, batch []*result, done []int64) error {
	retries := make([]*store.Retry, 0, len(batch))
	for _, res := range batch {
		if !res.stored {
			retries = append(retries, res.retry)
		}
	}
	began := r.traces.now()
	failpoint.Hit("record.before")
	stored, err := r.store.RetryClaimed(ctx, r.daemonOf(batch[0].claim()), retries, done)
	if err != nil {
		return err
	}
	failpoint.Hit("record.middle")
	r.traces.recorded(batch, nil, began)
	for _, t := range retries {
		if !stored[t.TaskID] {
			r.fenced(ctx, t.TaskID, t.CampaignID)
		}
	}
	return nil
}

// daemonOf returns the identity under which a claim was made. A daemon that has
// lost its lease since has another.
func (r *recorder) daemonOf(claim int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.open[claim]; c != nil {
		return c.daemon
	}
	return r.lease.id()
}

// report logs the decisions, and tells the finisher which campaigns may be finished.
func (r *recorder) report(ctx context.Context, batch []*result, recorded map[int64]bool) {
	var ended []int64
	for _, res := range batch {
		if res.told {
			continue
		}
		d := &res.decision
		if !recorded[d.TaskID] {
			r.fenced(ctx, d.TaskID, d.CampaignID)
			continue
		}
		logDecided(ctx, r.log, r.metrics, r.traces, d, res.cause)
		if res.last {
			ended = append(ended, d.CampaignID)
		}
	}
	if len(ended) > 0 {
		r.wakes.tasksDecided(ended)
	}
}

func (r *recorder) fenced(ctx context.Context, task, campaign int64) {
	r.metrics.Fenced.Inc()
	r.log.WarnContext(ctx, "outcome came too late, the task was ruled on already", "task", task, "campaign", campaign)
}

// A verdict says what becomes of a delivery after an attempt.
type verdict struct {
	status string    // succeeded, failed, unknown; empty: try again
	again  time.Time // when, if it is tried again
	reason string
}

// A RetryPolicy says when a delivery is tried again: after Initial, then longer
// and longer, to at most Max.
type RetryPolicy struct {
	Initial, Max time.Duration
}

// rule turns an outcome into a verdict. A call that was certainly not sent is
// tried again by itself. A call that may have been sent is tried again only
// where the author chose so. Whether the window closes before the next try is
// decided where the delivery waits, by its campaign as it stands then.
func (r RetryPolicy) rule(o dispatch.Outcome, attempts int, resendUnknown bool, now time.Time) verdict {
	reason := outcomeText(o)
	switch {
	case o.Class == dispatch.Accepted:
		return verdict{status: "succeeded", reason: reason}
	case o.Class == dispatch.Permanent:
		return verdict{status: "failed", reason: reason}
	case o.Class == dispatch.Unknown && !resendUnknown:
		return verdict{status: "unknown", reason: reason}
	}
	return verdict{again: now.Add(max(r.wait(attempts), o.RetryAfter)), reason: reason}
}

// wait returns the pause after the given number of attempts. It grows
// exponentially, with jitter, so that many deliveries that were refused
// together are not tried again together.
func (r RetryPolicy) wait(attempts int) time.Duration {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = r.Initial, r.Max
	b.Reset()
	d := b.NextBackOff()
	for range min(attempts, 30) - 1 {
		d = b.NextBackOff()
	}
	return d
}

// outcomeText returns the outcome of a call in words, and which targets were
// left out; "": the call was accepted with all its targets.
func outcomeText(o dispatch.Outcome) string {
	if o.Class == dispatch.Accepted {
		return o.LeftOut
	}
	parts := []string{strings.ReplaceAll(string(o.Reason), "_", " ")}
	if o.Code != "" {
		parts = append(parts, o.Code)
	}
	if o.Message != "" {
		parts = append(parts, o.Message)
	}
	text := strings.Join(parts, ": ")
	if o.LeftOut != "" {
		text += "; " + o.LeftOut
	}
	return text
}

// logDecided reports a recorded decision, once: it logs one line, counts the
// decision and ends the task's trace. cause is what the task waited for; it is empty
// where no call was made.
func logDecided(ctx context.Context, log *slog.Logger, m *Metrics, t *traces, d *store.Decision, cause string) {
	writeDecision(ctx, log, d)
	m.decided(d, cause)
	t.decided(d)
}

// logDecisions reports decisions that did not come from a call of this daemon.
func logDecisions(ctx context.Context, log *slog.Logger, m *Metrics, t *traces, all []store.Decision) {
	for i := range all {
		logDecided(ctx, log, m, t, &all[i], "")
	}
}

// logRefused reports second decisions on a task, which are a fault of this
// program. The first ones stand.
func logRefused(ctx context.Context, log *slog.Logger, m *Metrics, all []store.Refused) {
	for _, r := range all {
		m.Refused.Inc()
		log.ErrorContext(ctx, "second decision on an occurrence refused, the first one stands",
			"campaign", r.CampaignID, "task", r.TaskID, "due", r.DueAt, "refused", r.Status)
	}
}

// writeDecision writes the one line every decision gets.
func writeDecision(ctx context.Context, log *slog.Logger, d *store.Decision) {
	level := slog.LevelInfo
	if d.Status != "succeeded" {
		level = slog.LevelWarn
	}
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.Int64("campaign", d.CampaignID), slog.Int64("task", d.TaskID), slog.String("channel", d.Channel),
		slog.Time("due", d.DueAt), slog.String("outcome", d.Status))
	if !d.SentAt.IsZero() {
		attrs = append(attrs, slog.Duration("lateness", d.SentAt.Sub(d.DueAt)))
	}
	if d.Reason != "" {
		attrs = append(attrs, slog.String("reason", d.Reason))
	}
	if n := targetCount(d); n > 0 {
		attrs = append(attrs, slog.Int64("targets", n))
	}
	if d.RequestID != "" {
		attrs = append(attrs, slog.String("request_id", d.RequestID))
	}
	if d.MessageID != "" {
		attrs = append(attrs, slog.String("message_id", d.MessageID))
	}
	record := slog.NewRecord(time.Now(), level, "task decided", 0) // looking up the source line would cost a quarter as much as everything else here
	record.AddAttrs(attrs...)
	_ = log.Handler().Handle(ctx, record)
}

func targetCount(d *store.Decision) int64 { return max(d.TargetCount, int64(len(d.Targets))) }
