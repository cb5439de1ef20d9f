package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// A recorder makes the outcomes of claimed tasks durable, many in one
// transaction, and keeps trying until the database has them: an outcome is the
// only thing this daemon knows that nobody else does.
type recorder struct {
	*loop
	store   *store.Store
	daemon  func() int64
	log     *slog.Logger
	metrics *Metrics
	traces  *traces
	ledger  *ledger
	onEnd   func(campaignIDs []int64) // campaigns that may be finished
	batch   int                       // results in one transaction

	wrote   time.Time      // when the last write began; only the running loop touches it
	telling sync.WaitGroup // of the batch written last, while the next is written

	mu    sync.Mutex
	queue []*result
	open  map[int64]*openClaim
	idle  chan struct{} // closed when nothing is open
}

// openClaim counts the tasks of a claim that are not recorded yet.
type openClaim struct {
	daemon int64
	left   int
}

// A result is what became of one claimed task: a decision, or another try.
type result struct {
	decision store.Decision
	retry    *store.Retry
	stored   bool   // the retry is stored already
	told     bool   // it was recorded before, and lost
	last     bool   // the campaign has no later occurrence
	cause    string // what the task waited for
}

func newRecorder(s *store.Store, log *slog.Logger, m *Metrics, daemon func() int64, onEnd func([]int64)) *recorder {
	r := &recorder{store: s, daemon: daemon, log: log, metrics: m, onEnd: onEnd, batch: 4000, open: make(map[int64]*openClaim)}
	r.loop = newLoop("recorder", log, 0, r.record)
	return r
}

// opened tells of a new claim and how many tasks it has.
func (r *recorder) opened(daemon, claim int64, tasks int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[claim] = &openClaim{daemon, tasks}
}

// put queues a result; it is durable some time later.
func (r *recorder) put(res *result) {
	r.mu.Lock()
	r.queue = append(r.queue, res)
	r.mu.Unlock()
	r.Wake()
}

// backlog is how many results wait.
func (r *recorder) backlog() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
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

// record writes everything that waits. A batch that fails stays first in line.
func (r *recorder) record(ctx context.Context) error {
	defer r.telling.Wait()
	for r.backlog() > 0 {
		r.gather(ctx)
		batch, done := r.next()
		generation := r.ledger.open()
		if err := r.write(ctx, batch, done); err != nil {
			r.retryLater(ctx)
			return err
		}
		if !r.ledger.note(generation, func(p *page) { p.keep(batch) }) {
			continue // written again: it may be among what is lost
		}
		r.close(batch, done)
	}
	return nil
}

// gather waits for more results, so that the writes are not many and small: at
// most until gatherResults after the last one began.
func (r *recorder) gather(ctx context.Context) {
	if wait := gatherResults - time.Since(r.wrote); wait > 0 && r.backlog() < r.batch {
		sleep(ctx, wait)
	}
	r.wrote = time.Now()
}

// gatherResults bounds how much of what is known would be lost with the daemon.
const gatherResults = 20 * time.Millisecond

// retryLater wakes the loop again after a pause that spares a database in
// trouble.
func (r *recorder) retryLater(ctx context.Context) {
	t := time.AfterFunc(200*time.Millisecond, r.Wake)
	context.AfterFunc(ctx, func() { t.Stop() })
}

// next returns the first results and the claims that are closed with them.
func (r *recorder) next() (batch []*result, done []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	batch = r.sameDaemon(r.queue[:min(len(r.queue), r.batch)])
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

// sameDaemon cuts a batch where the identity of its claims changes, which it
// does when the daemon has lost its lease and taken another.
func (r *recorder) sameDaemon(batch []*result) []*result {
	for i := range batch {
		first, c := r.open[batch[0].claim()], r.open[batch[i].claim()]
		if first != nil && c != nil && c.daemon != first.daemon {
			return batch[:i]
		}
	}
	return batch
}

func (r *recorder) close(batch []*result, done []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = r.queue[len(batch):]
	if len(r.queue) == 0 {
		r.queue = nil
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

// write records the batch's decisions and retries; the claims go with the last
// of them.
func (r *recorder) write(ctx context.Context, batch []*result, done []int64) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	decisions := make([]*store.Decision, 0, len(batch))
	var retries []store.Retry
	for _, res := range batch {
		if res.stored {
			continue
		}
		if res.retry != nil {
			retries = append(retries, *res.retry)
		} else {
			decisions = append(decisions, &res.decision)
		}
	}
	daemon, began := r.daemonOf(batch[0].claim()), r.traces.now()
	failpoint.Hit("record.before")
	if len(retries) > 0 {
		stored, err := r.store.RetryClaimed(ctx, daemon, retries, nil)
		if err != nil {
			return err
		}
		for _, t := range retries {
			if !stored[t.TaskID] {
				r.fenced(ctx, t.TaskID, t.CampaignID)
			}
		}
	}
	failpoint.Hit("record.middle")
	recorded, err := r.store.Record(ctx, daemon, decisions, done)
	if err != nil {
		return err
	}
	failpoint.Hit("record.after")
	r.traces.recorded(batch, recorded, began)
	r.telling.Wait()
	r.telling.Go(func() { r.tell(context.WithoutCancel(ctx), batch, recorded) })
	return nil
}

// daemonOf returns the identity a claim was made with, which a daemon that lost
// its lease no longer has.
func (r *recorder) daemonOf(claim int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.open[claim]; c != nil {
		return c.daemon
	}
	return r.daemon()
}

// tell logs the decisions and passes on which campaigns may be over.
func (r *recorder) tell(ctx context.Context, batch []*result, recorded map[int64]bool) {
	var ended []int64
	for _, res := range batch {
		if res.retry != nil || res.told {
			continue
		}
		d := &res.decision
		if !recorded[d.TaskID] {
			r.fenced(ctx, d.TaskID, d.CampaignID)
			continue
		}
		is := decided{
			campaign: d.CampaignID, task: d.TaskID, channel: d.Channel, due: d.DueAt, sent: d.SentAt, status: d.Status,
			reason: d.Reason, targets: int64(len(d.Targets)), requestID: d.RequestID, messageID: d.MessageID,
		}
		logDecision(ctx, r.log, is)
		r.traces.decided(res.traced(), is)
		r.metrics.decided(decision{d.Channel, d.Status, d.Reason}, res.cause, d.SentAt.Sub(d.DueAt), !d.SentAt.IsZero())
		if res.last {
			ended = append(ended, d.CampaignID)
		}
	}
	if len(ended) > 0 {
		r.onEnd(ended)
	}
}

func (r *recorder) fenced(ctx context.Context, task, campaign int64) {
	r.metrics.Fenced.Inc()
	r.log.WarnContext(ctx, "outcome came too late, the task was ruled on already", "task", task, "campaign", campaign)
}

// decided is what the log says of a decision.
type decided struct {
	campaign, task       int64
	channel              string
	due, sent            time.Time
	status, reason       string
	targets              int64
	requestID, messageID string
}

// logDecision writes the one line every decision gets.
func logDecision(ctx context.Context, log *slog.Logger, d decided) {
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.Int64("campaign", d.campaign), slog.Int64("task", d.task), slog.String("channel", d.channel),
		slog.Time("due", d.due), slog.String("outcome", d.status))
	if !d.sent.IsZero() {
		attrs = append(attrs, slog.Duration("lateness", d.sent.Sub(d.due)))
	}
	if d.reason != "" {
		attrs = append(attrs, slog.String("reason", d.reason))
	}
	if d.targets > 0 {
		attrs = append(attrs, slog.Int64("targets", d.targets))
	}
	if d.requestID != "" {
		attrs = append(attrs, slog.String("request_id", d.requestID))
	}
	if d.messageID != "" {
		attrs = append(attrs, slog.String("message_id", d.messageID))
	}
	level := slog.LevelInfo
	if d.status != "succeeded" {
		level = slog.LevelWarn
	}
	if log.Enabled(ctx, level) {
		record := slog.NewRecord(time.Now(), level, "task decided", 0) // to look up this line of code costs a quarter of the rest
		record.AddAttrs(attrs...)
		_ = log.Handler().Handle(ctx, record)
	}
}
