package alipay

import (
	"context"
	"crypto/rsa"
	"net/http"
	"net/url"
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

// String says whose calls they are; a pusher printed otherwise would show keys.
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

// request builds and signs one call. In AES mode the body is encrypted first:
// what is signed is what is sent.
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
func (p *pusher) header(auth, requestID string) http.Header {
	h := http.Header{
		"Authorization":     {auth},
		"Accept":            {"application/json"},
		"Content-Type":      {"application/json"},
		"Alipay-Request-Id": {requestID},
	}
	if p.cipher != nil {
		h["Content-Type"] = []string{"text/plain"}
		h["Alipay-Encrypt-Type"] = []string{"AES"}
		// Not in the documents, but the official SDK sends it.
		h["Alipay-Encryption-Algm"] = []string{"AES"}
	}
	if p.rootSN != "" {
		h["Alipay-Root-Cert-Sn"] = []string{p.rootSN}
	}
	if p.signer.authToken != "" {
		h["Alipay-App-Auth-Token"] = []string{p.signer.authToken}
	}
	return h
}
