// Package dispatch defines the interface between the engine and the push APIs: a
// push, an adapter, and the classes of a call's outcome.
//
// Adapters classify outcomes; the engine retries. Each adapter is in a folder below
// this one. It knows the API of its provider and does not know the database.
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
	// MaxTargets is the highest number of targets in one call. Zero: the request
	// names the audience (a broadcast, a label) and a call takes no targets.
	MaxTargets int
	// WeeklyQuota is the provider's limit of calls for each app in any rolling
	// 7 × 24 h. Zero: no limit.
	WeeklyQuota int
}

// A Request is a campaign's request as its author wrote it. It has not been judged.
type Request struct {
	Channel  string
	TaskName string          // campaigns.name
	Body     json.RawMessage // campaigns.request: a JSON object
	// StrategyType is 0 (now), 1 (fixed time) or 2 (loop). Some audiences may not be
	// scheduled, so adapters need it. Calls of an adapter always carry 0.
	StrategyType int
	// StoredTargets says that campaign_targets or an audience view holds the
	// campaign's targets. Body must then name none.
	StoredTargets bool
	// AllowAudienceSchedules is the app's setting of that name.
	AllowAudienceSchedules bool
	// Region is the app's option of that name, or "" if its provider has none.
	Region string
}

// A Problem is one fault of a Request. Text names the rule and the fix. The author
// reads it in campaigns.status_reason.
type Problem struct {
	Field string // as the author spelled it; "request" for the whole request
	Text  string
}

// A Message is a judged Request. The part that is the same in all of its deliveries
// is encoded already. A Message is immutable and safe for concurrent use.
type Message struct {
	Channel Channel
	// Inline holds the targets that the request names, in their order. A MsgKey is
	// the author's own; it does not name an occurrence yet.
	Inline []Target
	// Judge returns the fault of one target, or "" if it has none. The rules are the
	// same for targets of the request, of campaign_targets and of an audience view.
	// Compile refuses a request of which a target has a fault; the engine leaves
	// other targets with a fault out of their call. Judge is not nil if the channel
	// takes targets.
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
	// MsgKey identifies the push, for APIs that take one key for the whole call.
	MsgKey  string
	Targets []Target // at most Message.Channel.MaxTargets
}

// A Pusher sends pushes with one app's credentials. Push blocks until the
// outcome is known or ctx ends, never panics, never retries, and is safe for
// concurrent use. The outcome's texts never hold a secret.
type Pusher interface {
	Push(ctx context.Context, p *Push) Outcome
}

// An Adapter makes Messages and Pushers for one provider. Its methods are safe for
// concurrent use.
type Adapter interface {
	// Provider is the word in the configuration and in scheduler.apps.
	Provider() string
	Channels() []Channel
	// Options lists the configuration keys that an app of this provider may have, in
	// addition to those that every app has.
	Options() []Option
	// Compile judges a request and encodes it. It returns all problems at once. If
	// there are none, the Message is not nil.
	Compile(Request) (*Message, []Problem)
	// New makes the Pusher of one app. The error names the faulty option. It never
	// holds a secret value.
	New(Settings) (Pusher, error)
}

// An Option is one configuration key of a provider's apps. For every option NAME
// there is a key NAME_file, which names a file that holds the value.
type Option struct {
	Name     string
	Required bool
	Secret   bool
	Help     string
}

// Settings configure one app's Pusher.
type Settings struct {
	AppID, WorkspaceID string
	Endpoint           string            // scheme and host; for a webhook the whole URL
	Options            map[string]string // values by Option.Name; files have been read
	Transport          http.RoundTripper // nil: the adapter's own
	// Proxy returns the forward proxy for an endpoint, or nil when the call goes
	// directly. If Proxy is nil, all calls go directly.
	Proxy func(endpoint *url.URL) (*url.URL, error)
	// Authorities are certificates, PEM, of authorities that are trusted in addition
	// to the system's.
	Authorities string
	// Now returns the time with which requests are signed. nil: time.Now. The daemon
	// passes the database's clock.
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
	// DeliveryID is the same as in the Push of the delivery.
	DeliveryID string
	// MessageID and RequestID are those of the outcome of the Push. Either may be
	// empty.
	MessageID, RequestID string
	// Target is the receiver from whom the push is taken back. Empty: all receivers
	// of the delivery.
	Target string
}

// A Revoker is a Pusher whose provider can take messages back. If a Pusher is not a
// Revoker, its provider cannot.
//
// Revoke makes one call and classes its outcome as Push does. Accepted means that
// the provider took the revocation; devices that have shown the message keep it.
// Revoke may be called again with the same Revocation.
type Revoker interface {
	Revoke(ctx context.Context, r *Revocation) Outcome
}

// Class says whether a call that has ended was accepted.
type Class uint8

const (
	// Accepted: the provider took the push.
	Accepted Class = iota + 1
	// NotSent: the push was certainly not taken and may be sent again.
	NotSent
	// Permanent: the provider refused the push, and would refuse it again.
	Permanent
	// Unknown: the provider may have taken the push. The engine never sends it again
	// by itself.
	Unknown
)

// String returns the word for the class in logs and metrics.
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

// Reason says why a call was not accepted. The list of reasons is closed, so that a
// Reason can be a label of a metric.
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

// Reasons lists every Reason except ReasonNone.
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
	// Code and Message are the provider's own texts, or the adapter's if the provider
	// gave none. Message is cut to MaxMessage bytes and holds no secret.
	Code, Message string
	RequestID     string // the provider's id or trace of the call
	MessageID     string // the provider's id of the message, where it has one
	// LeftOut says how many targets of the call the engine left out, and why. Empty:
	// none. The engine sets it.
	LeftOut string
	// RetryAfter is how long to wait before the next call, as the provider says in
	// the answer to a throttled call. Zero: the provider does not say.
	RetryAfter time.Duration
}

// MaxMessage bounds Outcome.Message, in bytes.
const MaxMessage = 500

// SecondOfBounds is within how long an app makes the calls of a second, and those to a
// second's targets, while it is at its bound. It is a little more than a second, so that
// no second has more where the calls arrive.
const SecondOfBounds = 1012500 * time.Microsecond
