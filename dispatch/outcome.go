package dispatch

import "time"

// Class says what is known of a call after it ended.
type Class uint8

const (
	// Accepted: the provider took the push.
	Accepted Class = iota + 1
	// NotSent: the push was certainly not taken and may be sent again.
	NotSent
	// Permanent: the provider refused it, and would again.
	Permanent
	// Unknown: the request may have been taken. It is never resent by itself.
	Unknown
)

// String returns the word used in logs and metrics.
func (c Class) String() string {
	switch c {
	case Accepted:
		return "accepted"
	case NotSent:
		return "not_sent"
	case Permanent:
		return "permanent"
	case Unknown:
		return "unknown"
	}
	return "invalid"
}

// Reason is why a call was not accepted, from a closed list, so that it can
// label a metric.
type Reason string

const (
	ReasonNone         Reason = ""              // accepted
	ReasonConnect      Reason = "connect"       // no connection was obtained
	ReasonThrottled    Reason = "throttled"     // the provider limits our rate
	ReasonQuota        Reason = "quota"         // the provider says the quota is used up
	ReasonRefused      Reason = "refused"       // a business error
	ReasonAuth         Reason = "auth"          // signature or credentials refused
	ReasonInvalid      Reason = "invalid"       // the call could not be built from the request
	ReasonTimeout      Reason = "timeout"       // no answer in time
	ReasonCut          Reason = "cut"           // the connection ended early
	ReasonCancelled    Reason = "cancelled"     // the caller gave up
	ReasonServerError  Reason = "server_error"  // 5xx, or the provider's own system error
	ReasonRedirect     Reason = "redirect"      // 3xx: never followed
	ReasonBadAnswer    Reason = "bad_answer"    // an answer that cannot be read
	ReasonBadSignature Reason = "bad_signature" // an answer whose signature is missing or wrong
)

// Reasons lists every Reason but ReasonNone.
func Reasons() []Reason {
	return []Reason{
		ReasonConnect, ReasonThrottled, ReasonQuota, ReasonRefused, ReasonAuth, ReasonInvalid, ReasonTimeout,
		ReasonCut, ReasonCancelled, ReasonServerError, ReasonRedirect, ReasonBadAnswer, ReasonBadSignature,
	}
}

// An Outcome is the result of one call to a push API.
type Outcome struct {
	Class  Class
	Reason Reason
	// Code and Message are the provider's own words, or ours where it said
	// nothing. Message is cut to MaxMessage bytes and holds no secret.
	Code, Message string
	RequestID     string // the provider's id or trace of the call
	MessageID     string // the provider's id of the message, where it has one
	// LeftOut says how many of the call's targets the engine left out, and why; ""
	// for none. The engine sets it.
	LeftOut string
	// RetryAfter is the provider's hint for a throttled call; zero means none.
	RetryAfter time.Duration
}

// MaxMessage bounds Outcome.Message, in bytes.
const MaxMessage = 500
