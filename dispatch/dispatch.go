// Package dispatch is the seam between the engine and the push APIs: what a
// push is, what an adapter must offer, and how the result of a call is classed.
//
// An adapter classifies, the engine retries. Adapters live in the folders below
// this one; they know their provider's API and nothing of the database.
package dispatch

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// A Channel is one push API as a campaign names it, for example
// "mpaas.push_multiple".
type Channel struct {
	Name string
	// MaxTargets is how many targets one call may carry. Zero: the call names
	// its audience itself (a broadcast, a label) and takes no targets.
	MaxTargets int
	// WeeklyQuota is the provider's limit of calls in any rolling 7 × 24 h per
	// app. Zero: none.
	WeeklyQuota int
}

// A Request is a campaign's wish as its author wrote it, before it is judged.
type Request struct {
	Channel  string
	TaskName string          // campaigns.name
	Body     json.RawMessage // campaigns.request: a JSON object
	// StrategyType is 0 now, 1 fixed time, 2 loop. Our calls always carry 0;
	// it is here because some audiences may not be scheduled.
	StrategyType int
	// StoredTargets says that campaign_targets (or an audience view) holds the
	// campaign's targets, so that Body must not name any.
	StoredTargets bool
	// AllowAudienceSchedules is the app's configuration of that name.
	AllowAudienceSchedules bool
	// Region is the app's option of that name, where its provider has one.
	Region string
}

// A Problem is one thing wrong with a Request. Text reaches the author in
// campaigns.status_reason: it names the rule and the fix.
type Problem struct {
	Field string // as the author spelled it; "request" for the whole
	Text  string
}

// A Message is a judged Request, encoded as far as it can be once for all of
// its deliveries. It is immutable and safe for concurrent use.
type Message struct {
	Channel Channel
	// Inline holds the targets the request itself names, in order; their MsgKey
	// is the author's own, not yet bound to an occurrence.
	Inline []Target
	// Judge returns what is wrong with one target, or "". The rules are the same
	// for targets of the request, of campaign_targets and of an audience view. The
	// engine leaves a target with a fault out of its call. Judge is not nil where
	// the channel takes targets.
	Judge func(*Target) string
	// Encoded belongs to the adapter that made the Message.
	Encoded any
}

// A Target is one receiver of a push.
type Target struct {
	Target           string
	MsgKey           string
	TemplateKeyValue json.RawMessage // a JSON object, or nil
	ExtendedParams   json.RawMessage // a JSON object, or nil
}

// A Push is one call to a push API.
type Push struct {
	Message *Message
	// DeliveryID is the same for every attempt of one delivery, at most 32
	// characters of [A-Za-z0-9_-].
	DeliveryID string
	// MsgKey identifies the push where the API takes one key for the whole call.
	MsgKey  string
	Targets []Target // at most Message.Channel.MaxTargets
}

// A Pusher sends pushes with one app's credentials. Push blocks until the
// outcome is known or ctx ends, never panics, never retries, and is safe for
// concurrent use. The outcome's texts never hold a secret.
type Pusher interface {
	Push(ctx context.Context, p *Push) Outcome
}

// An Adapter is what one provider's folder offers.
type Adapter interface {
	// Provider is the word in the configuration and in scheduler.apps.
	Provider() string
	Channels() []Channel
	// Options lists the keys an app of this provider may have in the
	// configuration, beyond those every app has.
	Options() []Option
	// Compile judges a request and encodes it. Every problem is reported at
	// once; with none, the Message is not nil.
	Compile(Request) (*Message, []Problem)
	// New makes the Pusher of one app. The error names the option at fault and
	// never holds its value when that is secret.
	New(Settings) (Pusher, error)
}

// An Option is one configuration key of a provider's apps. Every option has a
// twin NAME_file that reads the value from a file.
type Option struct {
	Name     string
	Required bool
	Secret   bool
	Help     string
}

// Settings configure one app's Pusher.
type Settings struct {
	AppID, WorkspaceID string
	Endpoint           string            // scheme and host; of a webhook the whole URL
	Options            map[string]string // by Option.Name; files already read
	Transport          http.RoundTripper // nil: the adapter's own
	// Proxy returns the forward proxy for an endpoint, or nil for none. Nil: calls
	// go directly.
	Proxy func(endpoint *url.URL) (*url.URL, error)
	// Authorities are certificates, PEM, that are trusted beside the system's.
	Authorities string
	// Now is the clock that requests are signed with; nil means time.Now. The
	// daemon passes the database's clock.
	Now func() time.Time
}

// A Reacher is a Pusher that can test the connection to its push API. Reach
// connects exactly as a push does, and sends nothing. The error never holds a
// secret.
type Reacher interface {
	Reach(ctx context.Context) error
}

// A Revocation asks a provider to take back what it accepted in one delivery.
type Revocation struct {
	// DeliveryID is the delivery's, as its Push had it.
	DeliveryID string
	// MessageID and RequestID are what the provider answered then; either may be
	// empty.
	MessageID, RequestID string
	// Target is the one receiver to take it back from; empty: all of them.
	Target string
}

// A Revoker is a Pusher whose provider can take messages back. Where a Pusher is
// no Revoker, the provider cannot.
//
// Revoke makes one call and classes its outcome as Push does. Accepted means that
// the provider took the revocation; devices that have shown the message keep it.
// Revoke may be called again with the same Revocation.
type Revoker interface {
	Revoke(ctx context.Context, r *Revocation) Outcome
}

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
