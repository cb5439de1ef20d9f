package httpcall

import (
	"context"
	"errors"
	"net"
	"strconv"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// A Failure is a call that got no whole answer.
type Failure struct {
	Class  dispatch.Class // NotSent, Unknown, or Permanent when the request itself was refused by net/http
	Reason dispatch.Reason
	Status int // of an answer that was cut off after its first line; else 0
	err    error
}

// Error says what happened. It may quote bytes the other side sent, so an
// adapter passes it through its Redactor.
func (f *Failure) Error() string { return f.err.Error() }

// Unwrap returns net/http's error.
func (f *Failure) Unwrap() error { return f.err }

// Outcome is the failure as a Pusher returns it.
func (f *Failure) Outcome() dispatch.Outcome {
	o := dispatch.Outcome{Class: f.Class, Reason: f.Reason, Message: f.Error()}
	if f.Status != 0 {
		o.Code = strconv.Itoa(f.Status)
	}
	return o
}

// classify tells what a failed round trip leaves certain.
func (c *Client) classify(t *trace, err error) *Failure {
	seen := t.load()
	switch {
	case seen&sawWrite != 0:
		return unknown(err, seen)
	case seen&(sawGetConn|sawGotConn) != 0:
		return notSent(err)
	case c.traces:
		// net/http looks for a connection as soon as it has found the request
		// well-formed. It has not, so it would refuse the request again.
		return &Failure{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, err: err}
	default:
		return unknown(err, seen)
	}
}

func notSent(err error) *Failure {
	f := &Failure{Class: dispatch.NotSent, Reason: dispatch.ReasonConnect, err: err}
	if errors.Is(err, context.Canceled) {
		f.Reason = dispatch.ReasonCancelled
	}
	return f
}

func unknown(err error, seen uint32) *Failure {
	f := &Failure{Class: dispatch.Unknown, Reason: interruption(err), err: err}
	if f.Reason == dispatch.ReasonCut && seen&sawAnswer != 0 && !isCut(err) {
		f.Reason = dispatch.ReasonBadAnswer
	}
	return f
}

func cutAnswer(err error, status int) *Failure {
	return &Failure{Class: dispatch.Unknown, Reason: interruption(err), Status: status, err: err}
}

// interruption names why a call ended early.
func interruption(err error) dispatch.Reason {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return dispatch.ReasonCancelled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return dispatch.ReasonTimeout
	default:
		return dispatch.ReasonCut
	}
}
