// Package dispatchtest is the conformance suite that every adapter passes: the
// same pushes against the same good, bad, slow and broken servers on loopback,
// whatever the provider. An adapter's own tests cover only the rules of its
// provider.
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
//
//	func TestConformance(t *testing.T) {
//		dispatchtest.Run(t, dispatchtest.Subject{Adapter: New(), …})
//	}
package dispatchtest

import (
	"net/http"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// A Subject is an adapter with the facts about its provider that the suite
// needs. An adapter with channels of different kinds runs the suite once for
// each kind.
type Subject struct {
	Adapter dispatch.Adapter
	// Settings returns an app's settings whose calls go to endpoint, for example
	// "http://127.0.0.1:40123". Transport stays nil, since the suite also tests
	// the adapter's own transport.
	Settings func(endpoint string) dispatch.Settings
	// Request returns a request in which Compile finds no problem. Endpoint is
	// for providers whose requests name the address; others ignore it.
	Request func(endpoint string) dispatch.Request
	// AnyParameter says that requests may hold parameters of any name, since the
	// receiver defines them.
	AnyParameter bool
	// Targets are those of one call; nil for a channel without targets.
	Targets []dispatch.Target
	// Secrets are strings that no text may hold, in addition to the values of
	// secret options.
	Secrets []string

	// Accepted returns the provider's answer to a push that it took.
	Accepted func(Call) Answer
	// Refused returns a refusal that would be repeated, with text as its message.
	Refused func(c Call, text string) Answer
	// Throttled returns the answer "too many calls", with text as its message.
	Throttled func(c Call, text string) Answer
	// Cases are further answers of the provider with their outcomes.
	Cases []Case

	// Bare is the class of an answer with this status and a body that is not the
	// provider's: none, HTML, some other JSON, more than 1 MiB. Nil means
	// DefaultBare.
	Bare func(status int) dispatch.Class

	// StatusDecides says that an answer's status decides even if its body did not
	// come whole. Otherwise such an answer is unknown.
	StatusDecides bool

	// EveryByte has the connection through a proxy cut at every byte of a call,
	// which takes some thousand calls. Otherwise it is cut at every byte until the
	// tunnel stands, and at a sixtieth of the other bytes. The code below the
	// adapters is the same for all, so one adapter with EveryByte is enough.
	EveryByte bool

	// DeliveryID finds the delivery's id in a call. Nil: the API carries none.
	DeliveryID func(Call) string
	// Check returns what is wrong with a call, for example a signature that does
	// not fit the body. Nil: any call is good.
	Check func(Call) error
	// Nonce finds the text that must differ between any two calls. Nil: there is none.
	Nonce func(Call) string
}

// A Call is a request as the provider received it.
type Call struct {
	Method string
	Path   string // with the query
	Host   string
	Header http.Header
	Body   []byte
}

// An Answer is what the provider sends back. A zero Status is 200.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// A Case is one answer and its outcome. Class and Reason of Want must always
// match, the other fields only where they are set.
type Case struct {
	Name   string
	Answer func(Call) Answer
	Want   dispatch.Outcome
}

// DefaultBare is the rule of most providers: 429 was not sent, any other 4xx is
// a refusal, everything else is unknown.
func DefaultBare(status int) dispatch.Class {
	switch {
	case status == http.StatusTooManyRequests:
		return dispatch.NotSent
	case status >= 400 && status <= 499:
		return dispatch.Permanent
	default:
		return dispatch.Unknown
	}
}

// Run runs the whole suite. Its subtests are parallel.
func Run(t *testing.T, s Subject) {
	t.Helper()
	if s.Bare == nil {
		s.Bare = DefaultBare
	}
	t.Run("Adapter", s.testAdapter)
	t.Run("Compile", s.testCompile)
	t.Run("New", s.testNew)
	t.Run("Misuse", s.testMisuse)
	t.Run("Classes", s.testClasses)
	t.Run("Encodings", s.testEncodings)
	t.Run("Statuses", s.testStatuses)
	t.Run("Redirects", s.testRedirects)
	t.Run("HugeBody", s.testHugeBody)
	t.Run("SlowBody", s.testSlowBody)
	t.Run("NoListener", s.testNoListener)
	t.Run("UntrustedTLS", s.testUntrustedTLS)
	t.Run("CutBeforeRequest", s.testCutBeforeRequest)
	t.Run("CutAfterRequest", s.testCutAfterRequest)
	t.Run("CutConnectionsAreNotReused", s.testStaleConnections)
	t.Run("Garbage", s.testGarbage)
	t.Run("CancelledBefore", s.testCancelledBefore)
	t.Run("EndedDuring", s.testEndedDuring)
	t.Run("Texts", s.testTexts)
	t.Run("DeliveryID", s.testDeliveryID)
	t.Run("Concurrency", s.testConcurrency)
	t.Run("Proxy", s.testProxy)
	t.Run("ProxyCuts", s.testProxyCuts)
}
