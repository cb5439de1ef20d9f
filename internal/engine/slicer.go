package engine

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// A slicer runs stored deliveries: the slices of large audiences, calls that
// count against a quota, and further attempts. Any daemon runs any of them, but
// those of apps with a bounded rate, which keep to one daemon.
type slicer struct {
	Config
	*loop
	clock    *Clock
	heart    *heart
	contents *contents
	caller   *caller
	slots    *slots
	causes   *causes
	traces   *traces
	onEnd    func([]int64)
	reporter *reporter
	unheard  *unheard
	limited  func() []int32 // apps another daemon serves, since their rate is bounded

	pushing context.Context //nolint:containedctx // it bounds calls, not this struct's methods
	calls   *crew
	writer  *loop

	mu       sync.Mutex
	outcomes []store.SliceOutcome
	running  map[int64]int32 // the attempt under way of each delivery
	idle     chan struct{}   // closed when nothing is under way; nil: nobody waits
}

func newSlicer(cfg Config) *slicer {
	s := &slicer{Config: cfg, running: make(map[int64]int32)}
	s.loop = newLoop("slicer", cfg.Log, 0, s.run)
	s.writer = newLoop("slice recorder", cfg.Log, 0, s.record)
	return s
}

// Start runs the slicer until ctx ends; calls under way go on until pushing
// ends, and their outcomes are recorded until recording ends.
func (s *slicer) Start(ctx, pushing, recording context.Context, wg, late *sync.WaitGroup) {
	s.pushing = pushing
	s.loop.Start(ctx, wg)
	s.writer.Start(recording, late)
}

// run takes deliveries while there are slots and deliveries.
func (s *slicer) run(ctx context.Context) error {
	if err := s.settle(ctx); err != nil {
		return err
	}
	if err := s.reporter.report(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil && s.heart.alive() {
		// Half of the slots at most, so that tasks at their second find room.
		want := min(s.ClaimBatch, s.slots.spare())
		n := s.slots.acquire(want)
		if n == 0 {
			return nil
		}
		got, err := s.claim(ctx, n)
		if err != nil || got == 0 {
			return err
		}
	}
	return nil
}

// claim takes up to n deliveries, each holding a slot, and begins their calls.
func (s *slicer) claim(ctx context.Context, n int) (int, error) {
	daemon := s.heart.id()
	slices, err := s.ask(ctx, daemon, n)
	s.slots.release(n - len(slices))
	if err != nil {
		return 0, err
	}
	// What was claimed goes on, though the daemon stops.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.StatementTimeout)
	defer cancel()
	wants := make([]want, len(slices))
	for i, sl := range slices {
		wants[i] = want{id: sl.CampaignID, revision: sl.Revision, targets: len(sl.Targets) > 0}
	}
	if err := s.contents.ensure(ctx, wants); err != nil {
		for _, sl := range slices {
			s.putOff(sl, s.clock.Now().Add(time.Second), "the campaign could not be read")
		}
		return 0, err
	}
	for _, sl := range slices {
		s.begin(ctx, daemon, sl)
	}
	return len(slices), nil
}

// ask makes the intent of up to n attempts durable.
func (s *slicer) ask(ctx context.Context, daemon int64, n int) ([]store.Slice, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.StatementTimeout)
	defer cancel()
	s.unheard.asking.RLock()
	defer s.unheard.asking.RUnlock()
	failpoint.Hit("slice.claim.before")
	slices, err := s.Store.ClaimSlices(ctx, daemon, time.Time{}, s.limited(), n)
	if err != nil {
		s.unheard.note()
		return nil, err
	}
	failpoint.Hit("slice.claim.after")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range slices {
		s.running[sl.ID] = sl.Attempts
	}
	return slices, nil
}

// begin lets one delivery's call begin, or puts it off when its app is held
// back.
func (s *slicer) begin(ctx context.Context, daemon int64, sl store.Slice) {
	v := s.contents.get(sl.CampaignID)
	now := s.clock.Now()
	switch {
	case v == nil || v.app == nil:
		s.putOff(sl, now.Add(time.Second), "no credentials for the app here")
		return
	case v.message == nil:
		s.finish(sl, v, dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: v.problem}, false)
		return
	case now.After(sl.ExpiresAt): // for settle, which keeps the reason it was not sent before
		s.putOff(sl, now.Add(100*time.Millisecond), "")
		return
	}
	if ok, retry := v.app.begin(now); !ok {
		if retry.IsZero() {
			retry = now.Add(50 * time.Millisecond)
		}
		if sl.Attempts == 1 {
			s.causes.note(sl.TaskID, causeThrottle)
		}
		s.putOff(sl, retry, "")
		return
	}
	targets, err := s.targets(ctx, sl, v)
	if err != nil {
		v.app.undo()
		s.putOff(sl, now.Add(time.Second), "the targets could not be read")
		return
	}
	if v.needsTargets() && len(targets) == 0 { // all were deleted since
		v.app.undo()
		s.finishEmpty(ctx, sl, v)
		return
	}
	s.calls.Go(func() {
		p := v.push(sl.TaskID, sl.SliceNo, sl.DueAt, targets)
		o, sent := s.caller.call(s.pushing, daemon, v.app, p)
		s.traces.called(tracedSlice(&sl, v), sl.SliceNo, sl.Attempts, p, o, sent)
		v.app.end(time.Now(), o)
		s.finish(sl, v, o, !sent.IsZero())
	})
}

// finishEmpty ends a delivery that has no targets left: there is nothing to do for
// it, unless they went with their campaign, which ends what waits.
func (s *slicer) finishEmpty(ctx context.Context, sl store.Slice, v *content) {
	stands, err := s.Store.Campaigns(ctx, []int64{sl.CampaignID})
	switch {
	case err != nil:
		s.putOff(sl, s.clock.Now().Add(time.Second), "the campaign could not be read")
	case len(stands) == 0:
		s.putOff(sl, s.clock.Now(), "")
	default:
		s.finish(sl, v, dispatch.Outcome{Class: dispatch.Accepted}, false)
	}
}

// targets are the delivery's targets with their parameters as they stand now,
// or, for an audience view, as they stood when the task began.
func (s *slicer) targets(ctx context.Context, sl store.Slice, v *content) ([]dispatch.Target, error) {
	switch {
	case !v.needsTargets():
		return nil, nil
	case len(v.message.Inline) > 0:
		return pick(v.inlineTargets(sl.DueAt), sl.Targets), nil
	case len(sl.Details) > 0:
		return v.detailed(sl)
	case len(sl.Targets) == 0: // the daemon that knew them is gone
		rows, err := s.Store.StoredTargets(ctx, []int64{sl.CampaignID}, v.message.Channel.MaxTargets)
		return v.storedTargets(sl.DueAt, rows[sl.CampaignID]), err
	}
	rows, err := s.Store.NamedTargets(ctx, sl.CampaignID, sl.Targets)
	return v.storedTargets(sl.DueAt, rows), err
}

// pick returns those of the targets that are named; all when none is.
func pick(targets []dispatch.Target, named []string) []dispatch.Target {
	if len(named) == 0 {
		return targets
	}
	set := make(map[string]bool, len(named))
	for _, n := range named {
		set[n] = true
	}
	var out []dispatch.Target
	for _, t := range targets {
		if set[t.Target] {
			out = append(out, t)
		}
	}
	return out
}

// detailed reads the targets of an audience view from the delivery itself.
func (v *content) detailed(sl store.Slice) ([]dispatch.Target, error) {
	var details map[string]struct {
		K, X json.RawMessage
	}
	if err := json.Unmarshal(sl.Details, &details); err != nil {
		return nil, err
	}
	out := make([]dispatch.Target, len(sl.Targets))
	for i, name := range sl.Targets {
		d := details[name]
		out[i] = dispatch.Target{
			Target: name, MsgKey: v.msgKey(sl.DueAt, name, ""), TemplateKeyValue: object(d.K), ExtendedParams: object(d.X),
		}
	}
	return out, nil
}

// object drops a JSON null.
func object(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}

// earlierAttempt is why the end of a delivery is unknown though its last attempt
// is known.
const earlierAttempt = "an earlier attempt may have been taken"

// finish turns an outcome into what is recorded of the attempt.
func (s *slicer) finish(sl store.Slice, v *content, o dispatch.Outcome, sent bool) {
	r := s.Retry.rule(o, int(sl.Attempts), v.campaign.ResendUnknown, s.clock.Now(), sl.ExpiresAt)
	out := store.SliceOutcome{
		Slice: sl, Status: r.status, ReadyAt: r.again, Reason: r.reason, Code: o.Code, Message: o.Message,
		RequestID: o.RequestID, MessageID: o.MessageID, Sent: sent,
		MaybeSent: o.Class == dispatch.Unknown, KeepQuota: o.Class != dispatch.NotSent,
	}
	switch r.status {
	case "":
		out.Status = "waiting"
	case "succeeded":
		out.Status = "accepted"
	case "missed", "failed":
		if sl.MaybeSent { // the refusal is certain of this attempt alone
			out.Status, out.Reason = "unknown", r.reason+"; "+earlierAttempt
		}
	}
	s.put(out)
}

// putOff gives a delivery back without an attempt.
func (s *slicer) putOff(sl store.Slice, until time.Time, reason string) {
	s.put(store.SliceOutcome{Slice: sl, Status: "waiting", ReadyAt: until, Reason: reason})
}

func (s *slicer) put(o store.SliceOutcome) {
	s.slots.release(1)
	s.mu.Lock()
	s.outcomes = append(s.outcomes, o)
	s.mu.Unlock()
	s.writer.Wake()
}

// record makes outcomes durable and settles the tasks they may complete.
func (s *slicer) record(ctx context.Context) error {
	for {
		s.mu.Lock()
		batch := s.outcomes[:min(len(s.outcomes), 200)]
		s.mu.Unlock()
		if len(batch) == 0 {
			break
		}
		if err := s.write(ctx, batch); err != nil {
			t := time.AfterFunc(200*time.Millisecond, s.writer.Wake)
			context.AfterFunc(ctx, func() { t.Stop() })
			return err
		}
	}
	s.Wake() // slots are free, and tasks may be complete
	return nil
}

func (s *slicer) write(ctx context.Context, batch []store.SliceOutcome) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	failpoint.Hit("slice.record.before")
	recorded, err := s.Store.RecordSlices(ctx, s.heart.id(), batch)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	failpoint.Hit("slice.record.after")
	s.outcomes = s.outcomes[len(batch):]
	if len(s.outcomes) == 0 {
		s.outcomes = nil
	}
	for _, o := range batch {
		if s.running[o.Slice.ID] == o.Slice.Attempts { // not a later one, which began when this one was fenced
			delete(s.running, o.Slice.ID)
		}
		if !recorded[o.Slice.ID] {
			s.Metrics.Fenced.Inc()
			s.Log.WarnContext(ctx, "outcome came too late, the delivery was ruled on already", "task", o.Slice.TaskID, "slice", o.Slice.SliceNo)
		}
	}
	s.tellIdle()
	return nil
}

// settle decides the tasks whose deliveries have all ended.
func (s *slicer) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.StatementTimeout)
	defer cancel()
	began := s.traces.now()
	failpoint.Hit("settle.before")
	settled, err := s.Store.Settle(ctx, s.heart.id(), time.Time{}, 100)
	if err != nil {
		return err
	}
	var ended []int64
	for _, t := range settled {
		var sent time.Time
		if t.SentAt != nil {
			sent = *t.SentAt
		}
		is := decided{
			campaign: t.CampaignID, task: t.TaskID, channel: t.Channel, due: t.DueAt, sent: sent, status: t.Status, reason: t.Reason, targets: t.Targets,
		}
		logDecision(ctx, s.Log, is)
		s.traces.settled(&t, is, began)
		s.Metrics.decided(decision{t.Channel, t.Status, t.Reason}, s.causes.take(t.TaskID), sent.Sub(t.DueAt), !sent.IsZero())
		ended = append(ended, t.CampaignID)
	}
	if len(ended) > 0 {
		s.onEnd(ended)
	}
	return nil
}

// drained returns a channel that is closed once no attempt is under way and
// every outcome is recorded.
func (s *slicer) drained() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := make(chan struct{})
	s.idle = ch
	s.tellIdle()
	return ch
}

// tellIdle closes idle when there is nothing to wait for. s.mu is held.
func (s *slicer) tellIdle() {
	if s.idle != nil && len(s.running) == 0 {
		close(s.idle)
		s.idle = nil
	}
}

// ids lists the attempts under way.
func (s *slicer) ids() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]int64, 0, len(s.running))
	for id := range s.running {
		out = append(out, id)
	}
	return out
}
