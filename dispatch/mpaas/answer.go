package mpaas

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

// words are the texts of an answer.
type words struct {
	RequestID                 string
	Code, Message             string // of the gateway
	ResultCode, ResultMessage string // of the push service
	PushResult                struct {
		Success, ResultMsg, Data string
	}
}

// read fills in what raw holds and reports whether raw is an answer at all.
// Names come in any case, as dumps have PascalCase and lowerCamel.
func (w *words) read(raw []byte) bool {
	list, err := parseObject(raw)
	if err != nil {
		return false
	}
	for _, m := range list {
		switch {
		case strings.EqualFold(m.name, "RequestId"):
			w.RequestID = word(m.raw)
		case strings.EqualFold(m.name, "Code"):
			w.Code = word(m.raw)
		case strings.EqualFold(m.name, "Message"):
			w.Message = word(m.raw)
		case strings.EqualFold(m.name, "ResultCode"):
			w.ResultCode = word(m.raw)
		case strings.EqualFold(m.name, "ResultMessage"):
			w.ResultMessage = word(m.raw)
		case strings.EqualFold(m.name, "PushResult") && m.raw[0] == '{':
			w.readResult(members(m.raw))
		case strings.EqualFold(m.name, "PushResult") && m.raw[0] != 'n':
			return false
		}
	}
	return true
}

func (w *words) readResult(list []member) {
	for _, m := range list {
		switch {
		case strings.EqualFold(m.name, "Success"):
			w.PushResult.Success = word(m.raw)
		case strings.EqualFold(m.name, "ResultMsg"):
			w.PushResult.ResultMsg = word(m.raw)
		case strings.EqualFold(m.name, "Data"):
			w.PushResult.Data = word(m.raw)
		}
	}
}

// word returns the text of a string, number or boolean, since the documents and
// the SDK disagree about the type. It returns "" for any other value.
func word(raw json.RawMessage) string {
	switch raw[0] {
	case '{', '[', 'n':
		return ""
	case '"':
		s, _ := rawjson.Unquote(raw)
		return s
	default:
		return string(raw)
	}
}

func (w *words) code() string {
	return cmp.Or(w.ResultCode, w.Code)
}

func (w *words) text() string {
	return cmp.Or(w.ResultMessage, w.PushResult.ResultMsg, w.Message)
}

// succeeded reports whether the answer says anywhere that the push succeeded.
func (w *words) succeeded() bool { return w.PushResult.Success == "true" }

// classify turns an answer into an outcome. Codes come before the status, because
// throttled calls have status 400 [doc].
func classify(a *httpcall.Answer) dispatch.Outcome {
	w, readable := read(a)
	o, decided := a.ByStatus()
	switch {
	case readable && isThrottled(w):
		o = dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled, RetryAfter: hint(a)}
	case decided:
		if o.Reason == dispatch.ReasonThrottled {
			o.RetryAfter = hint(a)
		}
	case !readable:
		o = a.BadAnswer()
	case a.Status >= 400:
		o = refusal(w)
	default:
		o = result(w)
	}
	if readable {
		describe(&o, w)
	}
	if o.RequestID == "" {
		o.RequestID = a.Header.Get("X-Acs-Request-Id")
	}
	return o
}

// read decodes an answer. The answer is readable when it holds a code.
func read(a *httpcall.Answer) (*words, bool) {
	w := &words{}
	readable := !a.TooLong && w.read(a.Text())
	return w, readable && w.code() != ""
}

// describe adds the provider's own words.
func describe(o *dispatch.Outcome, w *words) {
	o.Code, o.RequestID = w.code(), w.RequestID
	if text := w.text(); text != "" && o.Message == "" {
		o.Message = text
	}
	if o.Class == dispatch.Accepted {
		o.MessageID = w.PushResult.Data
	}
}

// isThrottled: Throttling, Throttling.User and Throttling.Api [doc]. An answer
// that also says that the push was taken contradicts itself and does not count
// as throttled.
func isThrottled(w *words) bool {
	for _, c := range []string{w.Code, w.ResultCode} {
		if c == "Throttling" || strings.HasPrefix(c, "Throttling.") {
			return !w.succeeded()
		}
	}
	return false
}

// hint returns how long to wait before the next call: the longest TimeLeft of the
// rate headers, in milliseconds [inferred], or else Retry-After.
func hint(a *httpcall.Answer) time.Duration {
	longest := time.Duration(0)
	for _, name := range []string{"X-Ratelimit-User-Api", "X-Ratelimit-User"} {
		for field := range strings.SplitSeq(a.Header.Get(name), ",") {
			key, text, _ := strings.Cut(field, ":")
			ms, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			if err == nil && strings.EqualFold(strings.TrimSpace(key), "TimeLeft") && ms > 0 {
				longest = max(longest, time.Duration(min(ms, maxHint.Milliseconds()))*time.Millisecond)
			}
		}
	}
	if longest == 0 {
		return a.RetryAfter()
	}
	return longest
}

// maxHint bounds a hint, so that a garbled one does not stop an app for good.
const maxHint = 24 * time.Hour

// refusal judges a 4xx with a code. The gateway or the service refused the call,
// unless the code says that the outcome is not known.
func refusal(w *words) dispatch.Outcome {
	code := w.code()
	switch {
	case w.succeeded() || isSuccess(code):
		return contradiction(w)
	case isSystemError(code):
		return dispatch.Outcome{Class: dispatch.Unknown, Reason: dispatch.ReasonServerError}
	case code == "SignatureNonceUsed":
		// Our nonces are random, so a machine on the way sent the request twice. The
		// service may have taken the first one.
		return dispatch.Outcome{Class: dispatch.Unknown, Reason: dispatch.ReasonBadAnswer}
	case isAuth(code):
		return dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonAuth}
	default:
		return dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonRefused}
	}
}

// result judges a 2xx by the result code and, for a success, by PushResult.
func result(w *words) dispatch.Outcome {
	code := w.code()
	switch {
	case isSuccess(w.ResultCode) && w.succeeded():
		return dispatch.Outcome{Class: dispatch.Accepted}
	case w.succeeded() || isSuccess(code):
		return contradiction(w)
	case isRefusal(code):
		return refusal(w)
	case isSystemError(code):
		return dispatch.Outcome{Class: dispatch.Unknown, Reason: dispatch.ReasonServerError}
	default:
		return dispatch.Outcome{Class: dispatch.Unknown, Reason: dispatch.ReasonBadAnswer}
	}
}

// contradiction returns the outcome of an answer that says both yes and no.
func contradiction(w *words) dispatch.Outcome {
	return dispatch.Outcome{
		Class: dispatch.Unknown, Reason: dispatch.ReasonBadAnswer,
		Message: fmt.Sprintf("result code %.32q with PushResult.Success %.8q: %s", w.code(), w.PushResult.Success, w.text()),
	}
}

// isSuccess: OK in the samples, 100 in the table of codes [doc].
func isSuccess(code string) bool { return code == "OK" || code == "100" }

// isRefusal: -1 signature mismatch, 3001 to 3050 parameters, templates and
// targets, 8012 illegal instance [doc].
func isRefusal(code string) bool {
	n, err := strconv.Atoi(code)
	return err == nil && (n == -1 || n == 8012 || n >= 3001 && n <= 3050)
}

// isSystemError: the service itself does not know the outcome. 9000 is
// documented [doc]; the gateway's two are common to all of Alibaba Cloud's APIs
// [inferred].
func isSystemError(code string) bool {
	return slices.Contains([]string{"9000", "SYSTEM_ERROR", "InternalError", "ServiceUnavailable"}, code)
}

// isAuth: codes of the gateway for a wrong key or signature [inferred], and the
// service's own [doc].
func isAuth(code string) bool {
	if code == "-1" {
		return true
	}
	for _, prefix := range []string{
		"InvalidAccessKeyId", "SignatureDoesNotMatch", "IncompleteSignature", "InvalidSecurityToken",
		"MissingSecurityToken", "InvalidTimeStamp", "Forbidden", "NoPermission",
	} {
		if strings.HasPrefix(code, prefix) {
			return true
		}
	}
	return false
}
