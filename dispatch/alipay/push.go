package alipay

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

// A pusher calls Alipay for one app.
type pusher struct {
	client   *httpcall.Client
	endpoint *url.URL
	signer   signer
	redactor httpcall.Redactor
	alipay   *rsa.PublicKey // verifies answers
	alipaySN string         // of the certificate that alipay is from; certificate mode only
	rootSN   string         // certificate mode only
	cipher   *bodyCipher    // nil: AES mode is off
	now      func() time.Time
	nonce    func() string // unique for each call
}

// String names the app. Without this method, a printed pusher would show keys.
func (p *pusher) String() string { return "alipay app " + p.signer.appID }

// CloseIdleConnections closes the connections that carry no call.
func (p *pusher) CloseIdleConnections() { p.client.CloseIdleConnections() }

// Push makes one call.
func (p *pusher) Push(ctx context.Context, push *dispatch.Push) dispatch.Outcome {
	request, err := p.request(push)
	if err != nil {
		return p.redactor.Outcome(invalid(err))
	}
	answer, failure := p.client.Post(ctx, request)
	if failure != nil {
		return p.redactor.Outcome(failure.Outcome())
	}
	outcome := p.judge(answer)
	outcome.RequestID = answer.Header.Get(headerTraceID)
	return p.redactor.Outcome(outcome)
}

func invalid(err error) dispatch.Outcome {
	return dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: err.Error()}
}

// request builds and signs one call. In AES mode the body is encrypted first,
// since the signature covers the bytes that are sent.
func (p *pusher) request(push *dispatch.Push) (*httpcall.Request, error) {
	message, err := payloadOf(push)
	if err != nil {
		return nil, err
	}
	body, err := message.body(push.Targets)
	if err != nil {
		return nil, err
	}
	if p.cipher != nil {
		body = p.cipher.encrypt(body)
	}
	auth, err := p.signer.authorization(http.MethodPost, message.path, body, p.nonce(), p.now())
	if err != nil {
		return nil, err
	}
	return &httpcall.Request{
		URL:    &url.URL{Scheme: p.endpoint.Scheme, Host: p.endpoint.Host, Path: message.path},
		Header: p.header(auth, push.DeliveryID),
		Body:   body,
	}, nil
}

// header returns the headers of one call. The request id only serves tracing.
func (p *pusher) header(auth, requestID string) []httpcall.Field {
	h := []httpcall.Field{
		{Name: "Authorization", Value: auth},
		{Name: "Accept", Value: "application/json"},
		{Name: "Alipay-Request-Id", Value: requestID},
	}
	contentType := "application/json"
	if p.cipher != nil {
		contentType = "text/plain"
		// The second is not in the documents, but the official SDK sends it.
		h = append(h, httpcall.Field{Name: "Alipay-Encrypt-Type", Value: "AES"}, httpcall.Field{Name: "Alipay-Encryption-Algm", Value: "AES"})
	}
	if p.rootSN != "" {
		h = append(h, httpcall.Field{Name: "Alipay-Root-Cert-Sn", Value: p.rootSN})
	}
	if p.signer.authToken != "" {
		h = append(h, httpcall.Field{Name: "Alipay-App-Auth-Token", Value: p.signer.authToken})
	}
	return append(h, httpcall.Field{Name: "Content-Type", Value: contentType})
}

// Codes that decide an outcome. The list of all codes is not closed.
const (
	codeAppLimited    = "app-call-limited"
	codeMethodLimited = "method-call-limited"
	codeSystemError   = "SYSTEM_ERROR"
	codeUnknownError  = "unknow-error" // their spelling
	codeBatchOver     = "MSG_BATCH_SD_OVER"
	codeSingleOver    = "MSG_SINGLE_SD_OVER"
)

// answerBody has the members that an answer may hold, of a success or of an error.
type answerBody struct {
	Code      httpcall.Word   `json:"code"`
	Message   httpcall.Word   `json:"message"`
	Links     json.RawMessage `json:"links"` // a string or a list
	MessageID httpcall.Word   `json:"message_id"`
}

// judge classes an answer. It checks the signature first: an answer that is not
// from Alipay proves nothing about the call.
func (p *pusher) judge(a *httpcall.Answer) dispatch.Outcome {
	if isSigned := signed(a.Header); isSigned || success(a.Status) {
		if a.TooLong {
			return a.BadAnswer()
		}
		if !isSigned || !verify(p.alipay, a.Header, a.Body) {
			return p.badSignature(a, isSigned)
		}
	}
	body, readable := p.read(a)
	if success(a.Status) {
		return accepted(a, body, readable)
	}
	return refused(a, body, signed(a.Header))
}

// success reports whether an answer says that the message was taken. A 202 says
// that the call was not processed.
func success(status int) bool {
	return status/100 == 2 && status != http.StatusAccepted
}

func (p *pusher) badSignature(a *httpcall.Answer, isSigned bool) dispatch.Outcome {
	message := "the answer's signature is wrong"
	if !isSigned {
		message = "the answer is not signed"
	}
	if sn := a.Header.Get(headerSN); p.alipaySN != "" && sn != "" && sn != p.alipaySN {
		message += ": it names certificate " + sn + ", but alipay_cert is " + p.alipaySN
	}
	return dispatch.Outcome{
		Class: dispatch.Unknown, Reason: dispatch.ReasonBadSignature,
		Code: strconv.Itoa(a.Status), Message: message + "; " + a.Describe(),
	}
}

// read decodes the body, decrypting it first in AES mode. Errors may come in the
// clear there as well, and no ciphertext begins with a brace.
func (p *pusher) read(a *httpcall.Answer) (answerBody, bool) {
	text := a.Text()
	if p.cipher != nil && !bytes.HasPrefix(text, []byte("{")) {
		plain, err := p.cipher.decrypt(text)
		if err != nil {
			return answerBody{}, false
		}
		text = (&httpcall.Answer{Body: plain}).Text()
	}
	var body answerBody
	if !bytes.HasPrefix(text, []byte("{")) || json.Unmarshal(text, &body) != nil {
		return answerBody{}, false
	}
	return body, true
}

// accepted classes a verified success. A success that cannot be read, or that
// holds an error's code, contradicts itself and is classed as unknown.
func accepted(a *httpcall.Answer, body answerBody, readable bool) dispatch.Outcome {
	if !readable {
		return a.BadAnswer()
	}
	if body.Code != "" {
		o := a.BadAnswer()
		o.Code, o.Message = string(body.Code), body.words(a)
		return o
	}
	return dispatch.Outcome{Class: dispatch.Accepted, MessageID: string(body.MessageID)}
}

// refused classes all other answers, in the order of the table in the API's
// description: certainly not sent, unknown, permanent. A 4xx that is neither
// signed nor holds a code is not Alipay's: a proxy, gateway or firewall on the
// way made it. It does not say whether the call went further.
func refused(a *httpcall.Answer, body answerBody, isSigned bool) dispatch.Outcome {
	o := dispatch.Outcome{Code: string(body.Code), Message: body.words(a)}
	if o.Code == "" {
		o.Code = strconv.Itoa(a.Status)
	}
	switch code := bareCode(string(body.Code)); {
	case throttled(a.Status, code):
		o.Class, o.Reason, o.RetryAfter = dispatch.NotSent, dispatch.ReasonThrottled, a.RetryAfter()
	case undecided(a.Status, code):
		o.Class, o.Reason = dispatch.Unknown, dispatch.ReasonServerError
	case a.Status/100 == 4 && !isSigned && body.Code == "":
		return a.BadAnswer()
	case a.Status/100 == 4:
		o.Class, o.Reason = dispatch.Permanent, refusal(a.Status, code)
	case a.Status/100 == 3:
		o.Class, o.Reason = dispatch.Unknown, dispatch.ReasonRedirect
	default:
		return a.BadAnswer()
	}
	return o
}

func throttled(status int, code string) bool {
	return status == http.StatusTooManyRequests ||
		status >= 400 && (code == codeAppLimited || code == codeMethodLimited)
}

func undecided(status int, code string) bool {
	return status == http.StatusAccepted || status/100 == 5 ||
		status/100 == 4 && (code == codeSystemError || code == codeUnknownError)
}

func refusal(status int, code string) dispatch.Reason {
	switch {
	case code == codeBatchOver || code == codeSingleOver:
		return dispatch.ReasonQuota
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return dispatch.ReasonAuth
	}
	return dispatch.ReasonRefused
}

// bareCode removes the prefix that the gateway's older codes have before their
// last dot, as in "isp.unknow-error".
func bareCode(code string) string {
	return code[strings.LastIndexByte(code, '.')+1:]
}

// words returns Alipay's message and links, or a description of the answer when
// it has none.
func (b answerBody) words(a *httpcall.Answer) string {
	if b.Message == "" && b.Code == "" {
		return a.Describe()
	}
	switch links := string(b.Links); links {
	case "", "null", "[]", `""`:
		return string(b.Message)
	default:
		return string(b.Message) + " links: " + links
	}
}
