package httpcall

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// ByStatus classes an answer by its status alone where that is enough, whatever
// the body says: 429 was not taken; 5xx, 3xx and anything that is no answer at
// all leave the outcome unknown. It reports false for 2xx and every other 4xx,
// which the provider's own words decide.
func (a *Answer) ByStatus() (dispatch.Outcome, bool) {
	o := dispatch.Outcome{Code: strconv.Itoa(a.Status), Message: a.Describe()}
	switch {
	case a.Status == http.StatusTooManyRequests:
		o.Class, o.Reason = dispatch.NotSent, dispatch.ReasonThrottled
		o.RetryAfter = a.RetryAfter()
	case a.Status >= 500 && a.Status <= 599:
		o.Class, o.Reason = dispatch.Unknown, dispatch.ReasonServerError
	case a.Status >= 300 && a.Status <= 399:
		o.Class, o.Reason = dispatch.Unknown, dispatch.ReasonRedirect
	case a.Status < 200 || a.Status > 599:
		o.Class, o.Reason = dispatch.Unknown, dispatch.ReasonBadAnswer
	default:
		return dispatch.Outcome{}, false
	}
	return o, true
}

// BadAnswer is the outcome of an answer that cannot be read.
func (a *Answer) BadAnswer() dispatch.Outcome {
	return dispatch.Outcome{
		Class: dispatch.Unknown, Reason: dispatch.ReasonBadAnswer,
		Code: strconv.Itoa(a.Status), Message: a.Describe(),
	}
}

// Describe says what the answer is without quoting it: a body that is not the
// provider's own may hold anything.
func (a *Answer) Describe() string {
	size := strconv.Itoa(len(a.Body)) + " bytes"
	switch {
	case a.TooLong:
		size = "more than " + size
	case len(a.Body) == 0:
		size = "no body"
	}
	if kind, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";"); kind != "" && len(kind) < 40 {
		size += " of " + kind
	}
	return "HTTP " + strconv.Itoa(a.Status) + ", " + size
}

// RetryAfter is the Retry-After header in its form of seconds, at most a day;
// zero when there is none. The form with a date is not read, because the clocks
// may differ.
func (a *Answer) RetryAfter() time.Duration {
	n, err := strconv.Atoi(strings.TrimSpace(a.Header.Get("Retry-After")))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, 86400)) * time.Second
}
