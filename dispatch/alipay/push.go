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
