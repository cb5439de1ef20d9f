package alipay_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/dispatchtest"
)

const labelRequest = `{"filter":{"template":"${a}","context":{"a":{"column_name":"label_id_list","op":"=","values":["100509"]}}},
	"material":{"msg_type":"text","text":{"title":"t","content":"c"}}}`

const singleRequest = `{"template":{"template_id":"T1","context":{"first":{"value":"v","color":"#85be53"}}}}`

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("label", func(t *testing.T) {
		t.Parallel()
		dispatchtest.Run(t, subject(t, keyMode(t), dispatch.Request{
			Channel: "alipay.label_send", Body: json.RawMessage(labelRequest),
		}))
	})
	t.Run("single", func(t *testing.T) {
		t.Parallel()
		s := subject(t, certMode(t), dispatch.Request{
			Channel: "alipay.single_send", Body: json.RawMessage(singleRequest), StoredTargets: true,
		})
		s.Targets = []dispatch.Target{{Target: "2088002656718920"}}
		dispatchtest.Run(t, s)
	})
	t.Run("encrypted", func(t *testing.T) {
		t.Parallel()
		settings := keyMode(t)
		settings.Options["aes_key"] = key(t, "aes.key")
		settings.Options["app_auth_token"] = "202212BB_D64b2be8afd4b6c8468cf585bd05E50"
		dispatchtest.Run(t, subject(t, settings, dispatch.Request{
			Channel: "alipay.total_send", Body: json.RawMessage(`{"msg_type":"text","text":{"title":"t","content":"c"}}`),
		}))
	})
}

// subject is an Alipay that signs, for the app of these settings.
func subject(t *testing.T, settings dispatch.Settings, request dispatch.Request) dispatchtest.Subject {
	t.Helper()
	gateway := newGateway(t, settings.Options["aes_key"])
	return dispatchtest.Subject{
		Adapter: alipay.Adapter{},
		Settings: func(endpoint string) dispatch.Settings {
			s := settings
			s.Endpoint = endpoint
			return s
		},
		Request: func(string) dispatch.Request { return request },
		Accepted: func(dispatchtest.Call) dispatchtest.Answer {
			return gateway.signed(http.StatusOK, `{"message_id":"m-1"}`)
		},
		Refused: func(_ dispatchtest.Call, text string) dispatchtest.Answer {
			return gateway.signed(http.StatusBadRequest, problem("ILLEGAL_BIZ_PARAMS", text))
		},
		Throttled: func(_ dispatchtest.Call, text string) dispatchtest.Answer {
			return bare(http.StatusForbidden, problem("app-call-limited", text))
		},
		Cases: gateway.cases(),
		Bare: func(status int) dispatch.Class {
			if status == http.StatusTooManyRequests {
				return dispatch.NotSent
			}
			return dispatch.Unknown
		},
		DeliveryID: func(c dispatchtest.Call) string { return c.Header.Get("alipay-request-id") },
		Nonce: func(c dispatchtest.Call) string {
			_, nonce, _ := strings.Cut(c.Header.Get("Authorization"), ",nonce=")
			nonce, _, _ = strings.Cut(nonce, ",")
			return nonce
		},
	}
}

// A gateway signs and encrypts answers as Alipay does, by code of its own.
type gateway struct {
	t          *testing.T
	key        *rsa.PrivateKey
	aesKey     string
	signatures *sync.Map // by body: most answers are alike, and to sign one takes milliseconds
}

func newGateway(t *testing.T, aesKey string) gateway {
	t.Helper()
	block, _ := pem.Decode([]byte(key(t, "ali_priv.pem")))
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return gateway{t: t, key: parsed.(*rsa.PrivateKey), aesKey: aesKey, signatures: new(sync.Map)}
}

func (g gateway) signed(status int, body string) dispatchtest.Answer {
	if g.aesKey != "" {
		text, err := alipay.Encrypt(g.aesKey, body)
		if err != nil {
			g.t.Error(err)
		}
		body = text
	}
	return g.sign(status, body)
}

// sign signs a body as it is, also in AES mode.
func (g gateway) sign(status int, body string) dispatchtest.Answer {
	const timestamp, nonce = "1795306431018", "4bd5b9bb"
	signature, known := g.signatures.Load(body)
	if !known {
		digest := sha256.Sum256([]byte(timestamp + "\n" + nonce + "\n" + body + "\n"))
		bytes, err := rsa.SignPKCS1v15(nil, g.key, crypto.SHA256, digest[:])
		if err != nil {
			g.t.Error(err)
		}
		signature, _ = g.signatures.LoadOrStore(body, base64.StdEncoding.EncodeToString(bytes))
	}
	a := bare(status, body)
	a.Header.Set("alipay-timestamp", timestamp)
	a.Header.Set("alipay-nonce", nonce)
	a.Header.Set("alipay-signature", signature.(string))
	return a
}

// bare is an answer without a signature, as the gateway makes them itself.
func bare(status int, body string) dispatchtest.Answer {
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("alipay-trace-id", "trace-1")
	return dispatchtest.Answer{Status: status, Header: h, Body: []byte(body)}
}

func problem(code, message string) string {
	b, _ := json.Marshal(map[string]any{"code": code, "message": message, "links": []any{map[string]string{"link": "https://a.example"}}})
	return string(b)
}

func with(a dispatchtest.Answer, header, value string) dispatchtest.Answer {
	a.Header.Set(header, value)
	return a
}

// cases is the table of the API's description, line by line.
func (g gateway) cases() []dispatchtest.Case {
	type outcome = dispatch.Outcome
	unknown := func(r dispatch.Reason, code string) outcome {
		return outcome{Class: dispatch.Unknown, Reason: r, Code: code, RequestID: "trace-1"}
	}
	permanent := func(r dispatch.Reason, code string) outcome {
		return outcome{Class: dispatch.Permanent, Reason: r, Code: code, RequestID: "trace-1"}
	}
	limited := outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled, Code: "method-call-limited", RequestID: "trace-1"}
	cases := []struct {
		name   string
		answer dispatchtest.Answer
		want   outcome
	}{
		{"accepted with an id", g.signed(200, `{"message_id":"m-1"}`), outcome{Class: dispatch.Accepted, MessageID: "m-1", RequestID: "trace-1"}},
		{"accepted without one", g.signed(200, `{}`), outcome{Class: dispatch.Accepted, RequestID: "trace-1"}},
		{"accepted with a numeric id", g.signed(200, `{"message_id":17}`), outcome{Class: dispatch.Accepted, MessageID: "17"}},
		{"accepted in the clear", g.sign(200, `{}`), outcome{Class: dispatch.Accepted}},
		{"accepted after a byte order mark", g.sign(200, "\ufeff{}"), outcome{Class: dispatch.Accepted}},
		{"created", g.signed(201, `{}`), outcome{Class: dispatch.Accepted}},

		{"unsigned success", bare(200, `{}`), unknown(dispatch.ReasonBadSignature, "200")},
		{"success signed null", with(bare(200, `{}`), "alipay-signature", "null"), unknown(dispatch.ReasonBadSignature, "200")},
		{"success signed wrongly", with(g.signed(200, `{}`), "alipay-nonce", "another"), unknown(dispatch.ReasonBadSignature, "200")},
		{"success signed with no base64", with(g.signed(200, `{}`), "alipay-signature", "%"), unknown(dispatch.ReasonBadSignature, "200")},
		{"refusal signed wrongly", with(g.signed(400, problem("X", "m")), "alipay-timestamp", "1"), unknown(dispatch.ReasonBadSignature, "400")},
		{"limit signed wrongly", with(g.signed(429, problem("X", "m")), "alipay-timestamp", "1"), unknown(dispatch.ReasonBadSignature, "429")},
		{"refusal signed null", with(bare(400, problem("X", "m")), "alipay-signature", "null"), permanent(dispatch.ReasonRefused, "X")},
		{"signed success that is no object", g.signed(200, `[]`), unknown(dispatch.ReasonBadAnswer, "200")},
		{"signed success that is empty", g.sign(200, ""), unknown(dispatch.ReasonBadAnswer, "200")},
		{"signed success with an error code", g.signed(200, problem("X", "m")), unknown(dispatch.ReasonBadAnswer, "X")},

		{"429", with(bare(429, problem("any", "m")), "Retry-After", "9"), outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled, RetryAfter: 9 * time.Second}},
		{"method limit", bare(400, problem("method-call-limited", "m")), limited},
		{"method limit, signed", g.signed(403, problem("method-call-limited", "m")), limited},
		{"method limit with a prefix", bare(400, problem("isv.method-call-limited", "m")), outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled}},

		{"202", bare(202, `{}`), unknown(dispatch.ReasonServerError, "202")},
		{"500", g.signed(500, problem("INTERNAL", "m")), unknown(dispatch.ReasonServerError, "INTERNAL")},
		{"502", bare(502, "bad gateway"), unknown(dispatch.ReasonServerError, "502")},
		{"system error", g.signed(400, problem("SYSTEM_ERROR", "m")), unknown(dispatch.ReasonServerError, "SYSTEM_ERROR")},
		{"unknown error", bare(400, problem("unknow-error", "m")), unknown(dispatch.ReasonServerError, "unknow-error")},
		{"302", bare(302, ""), unknown(dispatch.ReasonRedirect, "302")},

		{"business error", g.signed(400, problem("LABEL_GROUP_FILTER_EMPTY", "m")), permanent(dispatch.ReasonRefused, "LABEL_GROUP_FILTER_EMPTY")},
		{"quota", g.signed(400, problem("MSG_BATCH_SD_OVER", "m")), permanent(dispatch.ReasonQuota, "MSG_BATCH_SD_OVER")},
		{"quota of a user", g.signed(400, problem("MSG_SINGLE_SD_OVER", "m")), permanent(dispatch.ReasonQuota, "MSG_SINGLE_SD_OVER")},
		{"does not follow", g.signed(400, problem("MSG_SD_NOFOLLOW", "m")), permanent(dispatch.ReasonRefused, "MSG_SD_NOFOLLOW")},
		{"401", bare(401, problem("invalid-app-auth-token", "m")), permanent(dispatch.ReasonAuth, "invalid-app-auth-token")},
		{"403", bare(403, problem("access-forbidden", "m")), permanent(dispatch.ReasonAuth, "access-forbidden")},
		{"success with a null code", g.signed(200, `{"code":null,"message_id":9007199254740993}`), outcome{Class: dispatch.Accepted, MessageID: "9007199254740993"}},
		{"signed refusal without a code", g.sign(400, ""), permanent(dispatch.ReasonRefused, "400")},
		{
			"no links", bare(400, `{"code":"X","message":"m","links":[]}`),
			outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonRefused, Message: "m"},
		},
		{
			"links as a string", bare(400, `{"code":"X","message":"m","links":"https://a.example"}`),
			outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonRefused, Message: `m links: "https://a.example"`},
		},
		{
			"links as a list", bare(400, `{"code":"X","message":"m","links":[{"link":"https://a.example"}]}`),
			outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonRefused, Message: `m links: [{"link":"https://a.example"}]`},
		},
	}
	// Unsigned and without a code of Alipay's, a refusal is that of a middlebox.
	for _, status := range []int{400, 401, 403, 404, 405, 407, 408, 413, 414, 421, 431, 451, 499} {
		for name, body := range map[string]string{"no body": "", "a page": "<html>no</html>", "other JSON": `{"error":"no"}`, "a list": "[]"} {
			cases = append(cases, struct {
				name   string
				answer dispatchtest.Answer
				want   outcome
			}{fmt.Sprintf("middlebox %d, %s", status, name), bare(status, body), unknown(dispatch.ReasonBadAnswer, strconv.Itoa(status))})
		}
	}
	out := make([]dispatchtest.Case, len(cases))
	for i, c := range cases {
		out[i] = dispatchtest.Case{Name: c.name, Answer: func(dispatchtest.Call) dispatchtest.Answer { return c.answer }, Want: c.want}
	}
	return out
}

// The certificate that an answer names says why its signature does not fit.
func TestAnswerOfAnotherCertificate(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"": "is wrong; HTTP", "0ff1ce": "it names certificate 0ff1ce"} {
		s := certMode(t)
		answer := with(newGateway(t, "").sign(200, `{}`), "alipay-nonce", "another")
		answer.Header.Set("alipay-sn", name)
		s.Transport = answerer(answer)
		m := compile(t, dispatch.Request{Channel: "alipay.label_send", Body: json.RawMessage(labelRequest)})
		o := newPusher(t, s).Push(t.Context(), &dispatch.Push{Message: m, DeliveryID: "d-1"})
		if o.Reason != dispatch.ReasonBadSignature || !strings.Contains(o.Message, want) {
			t.Errorf("got %+v, want %q", o, want)
		}
	}
}

type answerer dispatchtest.Answer

func (a answerer) RoundTrip(r *http.Request) (*http.Response, error) {
	_ = r.Body.Close()
	return &http.Response{
		StatusCode: a.Status, Header: a.Header, Body: io.NopCloser(bytes.NewReader(a.Body)), ContentLength: -1,
	}, nil
}
