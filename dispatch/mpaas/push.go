package mpaas

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	stdhash "hash"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

const (
	version       = "2020-10-28"
	contentType   = "application/x-www-form-urlencoded"
	defaultRegion = "cn-hangzhou"
)

// A pusher calls the API for one app.
type pusher struct {
	client   *httpcall.Client
	endpoint *url.URL // with the path "/"
	// appID and workspaceID are escaped for the form.
	appID, workspaceID string
	signer             signer
	token              string
	redact             httpcall.Redactor
	now                func() time.Time
}

// New makes the Pusher of one app. Without an endpoint in the settings, the
// region's is used.
func (Adapter) New(s dispatch.Settings) (dispatch.Pusher, error) {
	if err := checkSettings(s); err != nil {
		return nil, err
	}
	endpoint, err := httpcall.ParseEndpoint(endpointOf(s))
	if err != nil {
		return nil, err
	}
	endpoint.Path = "/"
	client, err := httpcall.NewClientFor(endpoint, httpcall.Way{Transport: s.Transport, Proxy: s.Proxy, Authorities: s.Authorities})
	if err != nil {
		return nil, err
	}
	now := s.Now
	if now == nil {
		now = time.Now
	}
	return &pusher{
		client:      client,
		endpoint:    endpoint,
		appID:       string(appendEscaped(nil, s.AppID)),
		workspaceID: string(appendEscaped(nil, s.WorkspaceID)),
		signer:      newSigner(s.Options[optionKeyID], s.Options[optionSecret]),
		token:       s.Options[optionToken],
		redact:      httpcall.NewRedactor(s.Options[optionSecret], s.Options[optionToken]),
		now:         now,
	}, nil
}

func checkSettings(s dispatch.Settings) error {
	var errs []error
	if s.AppID == "" {
		errs = append(errs, errors.New("app_id is missing"))
	}
	if s.WorkspaceID == "" {
		errs = append(errs, errors.New("workspace_id is missing: every mPaaS app has one"))
	}
	for _, o := range (Adapter{}).Options() {
		v := s.Options[o.Name]
		if o.Required && v == "" {
			errs = append(errs, fmt.Errorf("%s is missing", o.Name))
		}
		if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
			errs = append(errs, fmt.Errorf("%s holds a space or a character that no key has", o.Name))
		}
	}
	return errors.Join(errs...)
}

// endpointOf returns the endpoint of an app: cn-hangzhou has one of its own [sdk].
func endpointOf(s dispatch.Settings) string {
	region := s.Options[optionRegion]
	switch {
	case s.Endpoint != "":
		return s.Endpoint
	case region == "" || region == defaultRegion:
		return "https://mpaas.cn-hangzhou.aliyuncs.com"
	default:
		return "https://mpaas.aliyuncs.com"
	}
}

// String keeps credentials out of logs.
func (p *pusher) String() string { return "mpaas pusher for " + p.appID }

// CloseIdleConnections closes the connections that carry no call.
func (p *pusher) CloseIdleConnections() { p.client.CloseIdleConnections() }

// Push makes one call.
func (p *pusher) Push(ctx context.Context, push *dispatch.Push) dispatch.Outcome {
	return p.redact.Outcome(p.push(ctx, push))
}

func (p *pusher) push(ctx context.Context, push *dispatch.Push) dispatch.Outcome {
	f, err := formOf(push)
	if err != nil {
		return invalid(err)
	}
	body, err := f.appendBody(make([]byte, 0, bodySize(push)), p.appID, p.workspaceID, push)
	if err != nil {
		return invalid(err)
	}
	return p.post(ctx, f.action.String(), body)
}

// post makes one signed call.
func (p *pusher) post(ctx context.Context, action string, body []byte) dispatch.Outcome {
	answer, failure := p.client.Post(ctx, &httpcall.Request{URL: p.endpoint, Header: p.header(action, body), Body: body})
	if failure != nil {
		return failure.Outcome()
	}
	return classify(answer)
}

// bodySize returns the capacity to allocate for a body. Few bodies are longer.
func bodySize(push *dispatch.Push) int { return 1<<10 + 256*len(push.Targets) }

var errForeign = errors.New("the message was not compiled by this adapter")

// formOf returns the form of a push, and an error where its message does not
// allow the push.
func formOf(push *dispatch.Push) (*form, error) {
	if push.Message == nil {
		return nil, errForeign
	}
	f, ok := push.Message.Encoded.(*form)
	if !ok {
		return nil, errForeign
	}
	limit := push.Message.Channel.MaxTargets
	switch n := len(push.Targets); {
	case n > limit:
		return nil, fmt.Errorf("%d targets in a call that takes at most %d", n, limit)
	case n == 0 && limit > 0:
		return nil, errors.New("no targets")
	}
	return f, nil
}

func invalid(err error) dispatch.Outcome {
	return dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: err.Error()}
}

// header signs a call of an action and returns its headers.
func (p *pusher) header(action string, body []byte) []httpcall.Field {
	bodyHash := hash(body)
	signed := append(make([]httpcall.Field, 0, 10),
		httpcall.Field{Name: "content-type", Value: contentType},
		httpcall.Field{Name: "host", Value: p.endpoint.Host})
	if p.token != "" {
		signed = append(signed, httpcall.Field{Name: "x-acs-accesskey-id", Value: p.signer.keyID})
	}
	signed = append(signed,
		httpcall.Field{Name: "x-acs-action", Value: action},
		httpcall.Field{Name: "x-acs-content-sha256", Value: bodyHash},
		httpcall.Field{Name: "x-acs-date", Value: p.now().UTC().Format("2006-01-02T15:04:05Z")})
	if p.token != "" {
		signed = append(signed, httpcall.Field{Name: "x-acs-security-token", Value: p.token})
	}
	signed = append(signed,
		httpcall.Field{Name: "x-acs-signature-nonce", Value: nonce()},
		httpcall.Field{Name: "x-acs-version", Value: version})
	authorization := p.signer.authorization(signed, bodyHash)
	return append(slices.Delete(signed, 1, 2), // package httpcall sends the host
		httpcall.Field{Name: "accept", Value: "application/json"},
		httpcall.Field{Name: "authorization", Value: authorization})
}

// nonce returns a text that no other call has. The delivery's id cannot serve,
// since all attempts of a delivery share it.
func nonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// algorithm is ACS3-HMAC-SHA256 [tested]: a request is signed by its headers, the
// body's hash among them.
const algorithm = "ACS3-HMAC-SHA256"

// A signer signs requests with one access key. The action and the body are in
// the headers, so that it serves every call of the API.
type signer struct {
	keyID string
	// macs holds HMACs for reuse: preparing one for the key costs more than
	// signing with it.
	macs *sync.Pool
}

func newSigner(keyID, secret string) signer {
	return signer{keyID, &sync.Pool{New: func() any { return hmac.New(sha256.New, []byte(secret)) }}}
}

// authorization returns the Authorization header of a POST to / without a query.
// Headers are sorted by name and bodyHash is the hex SHA-256 of the body.
func (s signer) authorization(headers []httpcall.Field, bodyHash string) string {
	b := make([]byte, 0, 1024)
	b = append(b, "POST\n/\n\n"...)
	for _, h := range headers {
		b = append(append(append(append(b, h.Name...), ':'), h.Value...), '\n')
	}
	b = append(b, '\n')
	names := len(b)
	for i, h := range headers {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, h.Name...)
	}
	signed := string(b[names:])
	b = append(append(b, '\n'), bodyHash...)
	return algorithm + " Credential=" + s.keyID + ",SignedHeaders=" + signed + ",Signature=" + s.signature(b)
}

func (s signer) signature(canonical []byte) string {
	mac := s.macs.Get().(stdhash.Hash)
	defer s.macs.Put(mac)
	mac.Reset()
	text := make([]byte, 0, len(algorithm)+1+2*sha256.Size)
	text = append(append(text, algorithm...), '\n')
	sum := sha256.Sum256(canonical)
	mac.Write(hex.AppendEncode(text, sum[:]))
	return hex.EncodeToString(mac.Sum(sum[:0]))
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

var _ dispatch.Revoker = (*pusher)(nil)

var errNoMessageID = errors.New("mPaaS gave no id of the message, and takes nothing back without one")

// Revoke calls RevokePushTask, or RevokePushMessage for one target [sdk]. That the
// id in a push's answer serves both as TaskId and as MessageId is [inferred].
func (p *pusher) Revoke(ctx context.Context, r *dispatch.Revocation) dispatch.Outcome {
	if r.MessageID == "" {
		return invalid(errNoMessageID)
	}
	action, pairs := "RevokePushTask", []string{"TaskId", r.MessageID}
	if r.Target != "" {
		action, pairs = "RevokePushMessage", []string{"MessageId", r.MessageID, "TargetId", r.Target}
	}
	body := append([]byte("AppId="), p.appID...)
	for i := 0; i < len(pairs); i += 2 {
		body = append(append(append(body, '&'), pairs[i]...), '=')
		body = appendEscaped(body, pairs[i+1])
	}
	body = append(append(body, "&WorkspaceId="...), p.workspaceID...)
	return p.redact.Outcome(p.post(ctx, action, body))
}
