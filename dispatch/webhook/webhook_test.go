package webhook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/dispatchtest"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "correct horse battery staple"

func signedAt() time.Time { return time.Unix(1795306431, 0) }

func settings(endpoint string) dispatch.Settings {
	return dispatch.Settings{
		AppID: "coupons", Endpoint: endpoint, Now: signedAt,
		Options: map[string]string{"secret": secret, "allow_private_addresses": "true"},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("targets", func(t *testing.T) {
		t.Parallel()
		s := subject(true)
		s.Targets = []dispatch.Target{{Target: "u1", MsgKey: "k1"}, {Target: "u2", MsgKey: "k2"}}
		dispatchtest.Run(t, s)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s := subject(false)
		s.EveryByte = !testing.Short()
		dispatchtest.Run(t, s)
	})
}

func subject(stored bool) dispatchtest.Subject {
	return dispatchtest.Subject{
		Adapter: webhook.Adapter{},
		Settings: func(endpoint string) dispatch.Settings {
			return settings(endpoint + "/hook/0123456789abcdef?token=t0ken-in-url")
		},
		Request: func(string) dispatch.Request {
			return dispatch.Request{Channel: "webhook", Body: json.RawMessage(`{"text":"hello"}`), StoredTargets: stored}
		},
		AnyParameter: true,
		Secrets:      []string{"t0ken-in-url", "0123456789abcdef"},
		Accepted:     func(dispatchtest.Call) dispatchtest.Answer { return dispatchtest.Answer{Status: http.StatusNoContent} },
		Refused: func(_ dispatchtest.Call, text string) dispatchtest.Answer {
			return say(http.StatusUnprocessableEntity, map[string]string{"message": text})
		},
		Throttled: func(_ dispatchtest.Call, text string) dispatchtest.Answer {
			return say(http.StatusTooManyRequests, map[string]string{"message": text})
		},
		Cases: cases(),
		Bare:  bare,
		// As the page says: the status decides, also when the body is cut.
		StatusDecides: true,
		DeliveryID:    func(c dispatchtest.Call) string { return c.Header.Get("Idempotency-Key") },
	}
}

// bare differs from the rule of most providers: any 2xx is the receiver's yes.
func bare(status int) dispatch.Class {
	if status/100 == 2 {
		return dispatch.Accepted
	}
	return dispatchtest.DefaultBare(status)
}

func say(status int, words map[string]string) dispatchtest.Answer {
	body, _ := json.Marshal(words)
	return dispatchtest.Answer{Status: status, Header: http.Header{"X-Request-Id": {"r-1"}, "Retry-After": {"3"}}, Body: body}
}

func cases() []dispatchtest.Case {
	words := map[string]string{"code": "c", "message": "m", "message_id": "id"}
	always := func(a dispatchtest.Answer) func(dispatchtest.Call) dispatchtest.Answer {
		return func(dispatchtest.Call) dispatchtest.Answer { return a }
	}
	raw := func(status int, body string) func(dispatchtest.Call) dispatchtest.Answer {
		return always(dispatchtest.Answer{Status: status, Body: []byte(body)})
	}
	return []dispatchtest.Case{
		{
			Name: "numbers", Answer: raw(400, `{"code": 40035, "message": "invalid token", "message_id": 18100287007833123, "request_id": "r1"}`),
			Want: dispatch.Outcome{
				Class: dispatch.Permanent, Reason: dispatch.ReasonRefused, Code: "40035", Message: "invalid token", MessageID: "18100287007833123", RequestID: "r1",
			},
		},
		{
			Name: "digits beyond 2^64", Answer: raw(200, `{"message_id": 340282366920938463463374607431768211457.0}`),
			Want: dispatch.Outcome{Class: dispatch.Accepted, MessageID: "340282366920938463463374607431768211457.0"},
		},
		{
			Name: "odd members", Answer: raw(422, `{"code": null, "message": {"text": "no"}, "message_id": ["a"], "request_id": true, "more": 1}`),
			Want: dispatch.Outcome{
				Class: dispatch.Permanent, Reason: dispatch.ReasonRefused, Code: "422", Message: `{"text": "no"}`, MessageID: `["a"]`, RequestID: "true",
			},
		},
		{
			Name: "byte order mark", Answer: raw(200, "\xef\xbb\xbf{\"message_id\": \"m\"}\n"),
			Want: dispatch.Outcome{Class: dispatch.Accepted, MessageID: "m"},
		},
		{
			Name: "words", Answer: always(say(202, words)),
			Want: dispatch.Outcome{Class: dispatch.Accepted, MessageID: "id", RequestID: "r-1", Code: "c", Message: "m"},
		},
		{
			Name: "refusal", Answer: always(say(400, words)),
			Want: dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonRefused, RequestID: "r-1", Code: "c", Message: "m"},
		},
		{
			Name: "request id in words", Answer: always(say(200, map[string]string{"request_id": "w-1"})),
			Want: dispatch.Outcome{Class: dispatch.Accepted, RequestID: "w-1"},
		},
		{
			Name: "signature refused", Answer: always(dispatchtest.Answer{Status: 401}),
			Want: dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonAuth, Code: "401"},
		},
		{
			Name: "again in 3 s", Answer: always(say(429, words)),
			Want: dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled, RetryAfter: 3 * time.Second},
		},
		{
			Name: "busy", Answer: always(say(503, words)),
			Want: dispatch.Outcome{Class: dispatch.Unknown, Reason: dispatch.ReasonServerError, Code: "c"},
		},
	}
}

// A call is whole and signed over what it carries.
func TestCallOnTheWire(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	}))
	t.Cleanup(server.Close)
	m, problems := webhook.Adapter{}.Compile(dispatch.Request{
		Channel: "webhook", TaskName: "Spring <sale>", Body: json.RawMessage(`{"n": 9007199254740993, "html": "<b>"}`), StoredTargets: true,
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	o := newPusher(t, settings(server.URL+"/hook?x=1")).Push(t.Context(), &dispatch.Push{
		Message: m, DeliveryID: "d-1", MsgKey: "k",
		Targets: []dispatch.Target{
			{Target: "u1", MsgKey: "k1", TemplateKeyValue: json.RawMessage(`{"name": "名"}`), ExtendedParams: json.RawMessage(`{"a":1}`)},
			{Target: "u2"},
		},
	})
	if o.Class != dispatch.Accepted {
		t.Fatalf("%+v", o)
	}
	want := `{"delivery_id":"d-1","app_id":"coupons","workspace_id":"","task_name":"Spring <sale>","msg_key":"k",` +
		`"request":{"n":9007199254740993,"html":"<b>"},"targets":[` +
		`{"target":"u1","msg_key":"k1","template_key_value":{"name":"名"},"extended_params":{"a":1}},{"target":"u2"}]}`
	if diff := cmp.Diff(want, string(body)); diff != "" {
		t.Error(diff)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("1795306431." + want))
	wantHeader := http.Header{
		"Accept": {"application/json"}, "Accept-Encoding": {"identity"},
		"Content-Type": {"application/json"}, "Content-Length": got.Header["Content-Length"],
		"User-Agent": {"campaign-scheduler"}, "Idempotency-Key": {"d-1"},
		"X-Scheduler-Timestamp": {"1795306431"}, "X-Scheduler-Signature": {"v1=" + hex.EncodeToString(mac.Sum(nil))},
	}
	for name := range wantHeader {
		if wantHeader[name] == nil {
			delete(wantHeader, name)
		}
	}
	if diff := cmp.Diff(wantHeader, got.Header); diff != "" || got.Method != http.MethodPost || got.RequestURI != "/hook?x=1" {
		t.Errorf("%s %s: %s", got.Method, got.RequestURI, diff)
	}
}

func newPusher(t *testing.T, s dispatch.Settings) dispatch.Pusher {
	t.Helper()
	p, err := webhook.Adapter{}.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.(interface{ CloseIdleConnections() }).CloseIdleConnections)
	return p
}

// A campaign with stored targets is sliced; one without is a single call.
func TestChannelOfMessage(t *testing.T) {
	t.Parallel()
	for stored, want := range map[bool]int{true: 100, false: 0} {
		m, _ := webhook.Adapter{}.Compile(dispatch.Request{Channel: "webhook", Body: json.RawMessage(`{}`), StoredTargets: stored})
		if m == nil || m.Channel.MaxTargets != want || len(m.Inline) != 0 {
			t.Errorf("stored %v: got %+v, want %d targets", stored, m, want)
		}
	}
}

func TestSettingsAreJudged(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, endpoint, secret, private string
		want                            string // in the error; empty: none
	}{
		{"public", "https://hooks.example/a?b=c", "s", "", ""},
		{"a public address", "https://93.184.216.34/a", "s", "false", ""},
		{"a private address allowed", "http://10.0.0.1/a", "s", "true", ""},
		{"a private address", "http://10.0.0.1/a", "s", "", "endpoint has the address 10.0.0.1, which is not public; allow_private_addresses allows it"},
		{"loopback of IPv6", "http://[::1]:80/a", "s", "false", "not public"},
		{"no URL", "http://a\x7fb", "s", "", "endpoint is not a URL"},
		{"no scheme", "hooks.example", "s", "", "endpoint must begin with"},
		{"no host", "https:///a", "s", "", "endpoint names no host"},
		{"a password", "https://u:pass-word@hooks.example", "s", "", "endpoint must not hold a user or password"},
		{"a fragment", "https://hooks.example/#a", "s", "", "endpoint must not have a fragment"},
		{"no secret", "https://hooks.example", "", "", "secret is missing"},
		{"not a switch", "https://hooks.example", "s", "yes", `allow_private_addresses must be "true" or "false"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := webhook.Adapter{}.New(dispatch.Settings{
				Endpoint: tt.endpoint, Options: map[string]string{"secret": tt.secret, "allow_private_addresses": tt.private},
			})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			case err != nil && strings.Contains(err.Error(), "pass-word"):
				t.Errorf("the error quotes the endpoint: %v", err)
			}
		})
	}
}

// A name that resolves to an address of this machine is refused when it is
// dialled, before a byte is sent.
func TestPrivateAddressIsRefusedWhenDialled(t *testing.T) {
	t.Parallel()
	called := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	t.Cleanup(server.Close)
	s := settings(strings.Replace(server.URL, "127.0.0.1", "localhost", 1))
	s.Options["allow_private_addresses"] = ""
	m, _ := webhook.Adapter{}.Compile(dispatch.Request{Channel: "webhook", Body: json.RawMessage(`{}`)})
	o := newPusher(t, s).Push(t.Context(), &dispatch.Push{Message: m, DeliveryID: "d-1"})
	if o.Class != dispatch.NotSent || o.Reason != dispatch.ReasonConnect || !strings.Contains(o.Message, "allow_private_addresses") {
		t.Errorf("got %v %+v", o.Class, o)
	}
	if called {
		t.Error("the receiver was called")
	}
}

// Whatever an author writes, Compile says yes or what is wrong, and never panics.
func FuzzCompile(f *testing.F) {
	f.Add("webhook", []byte(`{"targets": ["u1", {"target": "u2", "msg_key": "k", "template_key_value": {}, "extended_params": null}], "body": {"a": [1, "x"]}}`), 0, false)
	f.Add("webhook", []byte(`{}`), 2, true)
	f.Add("webhook", []byte(`{"targets": {"a": 1}}`), 1, true)
	f.Fuzz(func(t *testing.T, channel string, body []byte, strategy int, stored bool) {
		var object map[string]json.RawMessage
		if json.Unmarshal(body, &object) != nil || object == nil {
			t.Skip("no JSON object: the table takes nothing else")
		}
		m, problems := webhook.Adapter{}.Compile(dispatch.Request{Channel: channel, TaskName: "n", Body: body, StrategyType: strategy % 3, StoredTargets: stored})
		if (m == nil) == (len(problems) == 0) {
			t.Fatalf("message %v, problems %v", m, problems)
		}
		for _, p := range problems {
			if p.Text == "" { // a key may be empty, and then so is the field
				t.Errorf("a problem without a text: %+v", p)
			}
		}
	})
}
