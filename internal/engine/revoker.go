package engine

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/failpoint"
	"github.com/campaign-scheduler/scheduler/store"
)

// The revoker's pace: revocations are few, and nobody's pushes wait for them. A
// provider that does not answer keeps the other apps waiting for one call's time.
const (
	revokeAtOnce  = 16
	revokeOfApp   = 4
	revokeTries   = 10
	revokeForeign = 5 * time.Second // until another look at apps for which this daemon has no credentials
)

// A revoker has providers take back messages that they accepted, as revoke_task
// asked. Each call is taken under a lease and may be made twice: a message that
// was taken back stays taken back. So two revokers, or one that was killed, do no
// harm. No decision changes by a revocation.
type revoker struct {
	*loop
	store   *store.Store
	log     *slog.Logger
	faults  *faults
	app     func(appNo int32) *App
	keys    func() Keys // of messages and deliveries
	timeout time.Duration
	retry   RetryPolicy
}

func newRevoker(s *store.Store, log *slog.Logger, f *faults, app func(int32) *App, keys func() Keys, timeout time.Duration, retry RetryPolicy) *revoker {
	r := &revoker{store: s, log: log, faults: f, app: app, keys: keys, timeout: timeout, retry: retry}
	r.loop = newLoop("revoker", log, 0, nil, r.revoke)
	return r
}

// revoke is one pass: it makes all waiting calls for which this daemon has credentials.
func (r *revoker) revoke(ctx context.Context) error {
	for {
		calls, err := r.store.TakeRevocations(ctx, 2*r.timeout, revokeOfApp, revokeAtOnce)
		if err != nil || len(calls) == 0 {
			return err
		}
		failpoint.Hit("revoke.taken")
		var g errgroup.Group
		for _, c := range calls {
			g.Go(func() error {
				o := r.call(ctx, c)
				failpoint.Hit("revoke.called")
				return r.store.RecordRevocation(ctx, c, o)
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
}

func (r *revoker) call(ctx context.Context, c store.RevocationCall) (out store.RevocationOutcome) {
	defer func() {
		if p := recover(); p != nil {
			r.faults.caught(ctx, faultCall, p, "task", c.TaskID, "delivery", c.SliceNo)
			out = store.RevocationOutcome{Status: "unknown", Reason: "a fault of this program during the call"}
		}
	}()
	app := r.app(c.AppNo)
	if app == nil {
		return store.RevocationOutcome{RetryAfter: revokeForeign, Reason: "no daemon with the app's credentials has come by", Untried: true}
	}
	provider, ok := app.pusher().(dispatch.Revoker)
	if !ok {
		return store.RevocationOutcome{Status: "unsupported", Reason: "the provider takes no push back"}
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	o := provider.Revoke(ctx, &dispatch.Revocation{
		DeliveryID: r.keys().Delivery(c.TaskID, c.SliceNo), MessageID: c.MessageID, RequestID: c.RequestID, Target: c.Target,
	})
	out = store.RevocationOutcome{Reason: string(o.Reason), Code: o.Code, Message: o.Message, AnswerID: o.RequestID}
	switch {
	case o.Class == dispatch.Accepted:
		out.Status = "revoked"
	case o.Class == dispatch.Permanent:
		out.Status = "refused"
	case c.Attempts >= revokeTries:
		out.Status = "unknown"
	default: // asking once more is safe, whether the first call arrived or not
		out.RetryAfter = max(o.RetryAfter, min(r.retry.Initial<<min(c.Attempts, 16), r.retry.Max))
	}
	r.log.InfoContext(ctx, "push revoked", "task", c.TaskID, "delivery", c.SliceNo, "outcome", o.Class.String(), "reason", out.Reason, "code", out.Code)
	return out
}
