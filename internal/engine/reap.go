package engine

import (
	"context"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/failpoint"
)

// reap rules on what dead daemons left. After an outage of the database all have
// been silent though nobody died: so a daemon trusts what it sees only when its
// own renewals have not failed for a whole lease.
func (l *lease) reap(ctx context.Context) error {
	l.mu.RLock()
	steady := !l.steady.IsZero() && (l.alone || time.Since(l.steady) >= l.length)
	l.mu.RUnlock()
	if !steady {
		return nil
	}
	failpoint.Hit("reap.before")
	ctx, cancel := context.WithTimeout(ctx, l.length/2) // the next renewal must not wait for it
	defer cancel()
	r, err := l.store.Reap(ctx, l.inline, l.dead...)
	failpoint.Hit("reap.after")
	if err != nil {
		return err
	}
	if len(r.Daemons) > 0 {
		l.wakes.daemonsGone()
		l.metrics.LeasesExpired.Add(float64(len(r.Daemons)))
		l.log.WarnContext(ctx, "daemon found dead", "daemons", r.Daemons)
	}
	if r.Unknown+r.Resent > 0 {
		l.log.WarnContext(ctx, "calls of dead daemons ruled on", "unknown", r.Unknown, "resent", r.Resent)
		l.metrics.Reaped.WithLabelValues("unknown").Add(float64(r.Unknown))
		l.metrics.Reaped.WithLabelValues("resend").Add(float64(r.Resent))
		l.wakes.deliveriesFound()
		l.wakes.daemonsGone() // what they had begun left room
	}
	logDecisions(ctx, l.log, l.metrics, l.traces, r.Decided)
	return nil
}
