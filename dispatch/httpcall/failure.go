package httpcall

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// A Failure is a call that got no whole answer.
type Failure struct {
	Class  dispatch.Class // NotSent, Unknown, or Permanent when the request itself cannot be sent
	Reason dispatch.Reason
	// Head is the answer whose header came and whose body did not come whole: it
	// has a Status, a Header and no Body. Nil: not even the header came.
	Head *Answer
	err  error
}

// Error says what happened. The text may quote bytes that the other side sent,
// so an adapter passes it through its Redactor.
func (f *Failure) Error() string { return f.err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.err }

// Outcome returns the failure as the outcome of a Pusher.
func (f *Failure) Outcome() dispatch.Outcome {
	o := dispatch.Outcome{Class: f.Class, Reason: f.Reason, Message: f.Error()}
	if f.Head != nil {
		o.Code = strconv.Itoa(f.Head.Status)
	}
	return o
}

func invalid(err error) *Failure {
	return &Failure{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, err: err}
}

func notSent(err error) *Failure {
	f := &Failure{Class: dispatch.NotSent, Reason: dispatch.ReasonConnect, err: err}
	if errors.Is(err, context.Canceled) {
		f.Reason = dispatch.ReasonCancelled
	}
	return f
}

// unknown returns the failure of a request that may have been taken.
func unknown(err error) *Failure {
	return &Failure{Class: dispatch.Unknown, Reason: interruption(err), err: err}
}

// cutShort returns the failure where the answer's header came and its body did not
// come whole.
func cutShort(err error, res *http.Response) *Failure {
	f := unknown(err)
	f.Head = &Answer{Status: res.StatusCode, Header: res.Header}
	return f
}

// unreadable returns the failure where the bytes that came are not an HTTP answer.
func unreadable(err error) *Failure {
	f := unknown(err)
	if f.Reason == dispatch.ReasonCut && !isCut(err) {
		f.Reason = dispatch.ReasonBadAnswer
	}
	return f
}

// interruption returns why a call ended early.
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

// isCut reports whether err means that the connection ended, and not that the
// answer cannot be read.
func isCut(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op)
}

// redacted replaces a secret.
const redacted = "[redacted]"

// maxCode bounds the provider's codes and ids, in bytes.
const maxCode = 128

// A Redactor makes the texts of outcomes fit to be stored and shown: it removes
// secrets and control characters, and cuts texts that are too long. The zero
// value knows no secrets.
type Redactor struct{ secrets *strings.Replacer }

// NewRedactor returns a Redactor of secrets. Empty ones are ignored.
func NewRedactor(secrets ...string) Redactor {
	// The longest secret comes first, since one secret may begin with another.
	secrets = slices.SortedFunc(slices.Values(secrets), func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range secrets {
		if s != "" {
			pairs = append(pairs, s, redacted)
		}
	}
	if pairs == nil {
		return Redactor{}
	}
	return Redactor{secrets: strings.NewReplacer(pairs...)}
}

// Outcome returns o with its texts redacted.
func (r Redactor) Outcome(o dispatch.Outcome) dispatch.Outcome {
	o.Code = r.clean(o.Code, maxCode)
	o.Message = r.clean(o.Message, dispatch.MaxMessage)
	o.RequestID = r.clean(o.RequestID, maxCode)
	o.MessageID = r.clean(o.MessageID, maxCode)
	return o
}

// clean removes secrets before it cuts the text, since a cut could leave half
// of a secret.
func (r Redactor) clean(s string, limit int) string {
	if r.secrets != nil {
		s = r.secrets.Replace(s)
	}
	return cut(strings.Map(printable, strings.ToValidUTF8(s, "\uFFFD")), limit)
}

func printable(c rune) rune {
	if unicode.IsControl(c) {
		return ' '
	}
	return c
}

// cut shortens s to at most limit bytes without splitting a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
