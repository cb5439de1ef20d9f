package engine

import (
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// A verdict is what an attempt's outcome means for its delivery.
type verdict struct {
	status string    // succeeded, failed, missed, unknown; empty: try again
	again  time.Time // then when
	reason string
}

// A RetryPolicy says when a delivery is tried again: after Initial, then longer
// and longer, to at most Max.
type RetryPolicy struct {
	Initial, Max time.Duration
}

// rule turns an outcome into a verdict. Only what was certainly not sent is
// tried again by itself, and what may have been sent only where the author
// chose so; nothing begins after expires, where that is not zero.
func (r RetryPolicy) rule(o dispatch.Outcome, attempts int, resendUnknown bool, now, expires time.Time) verdict {
	reason := outcomeText(o)
	switch {
	case o.Class == dispatch.Accepted:
		return verdict{status: "succeeded", reason: reason}
	case o.Class == dispatch.Permanent:
		return verdict{status: "failed", reason: reason}
	case o.Class == dispatch.Unknown && !resendUnknown:
		return verdict{status: "unknown", reason: reason}
	}
	again := now.Add(max(r.wait(attempts), o.RetryAfter))
	switch {
	case expires.IsZero() || again.Before(expires):
		return verdict{again: again, reason: reason}
	case o.Class == dispatch.Unknown:
		return verdict{status: "unknown", reason: reason}
	default:
		return verdict{status: "missed", reason: "not sent within the catch-up window: " + reason}
	}
}

// wait is the pause after the given number of attempts: exponential, with
// jitter, so that many deliveries refused together do not return together.
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

// outcomeText says in words what a call came to, and which targets it was
// without; "": it was accepted with all of them.
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
