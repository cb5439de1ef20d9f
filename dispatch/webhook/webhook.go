// Package webhook sends pushes to a receiver that its users write: a signed
// POST to the URL in the app's configuration. Through a receiver any other push
// service can be reached.
//
// The receiver checks the signature, handles the push, and answers with a
// status. 2xx: the push was taken. 429: it was not taken, and the receiver wants
// to be called again. Any other 4xx: it is refused for good. After anything else
// it is unknown whether the push was taken. The example shows a receiver.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

// Adapter is the dispatch.Adapter of provider "webhook". The zero value is ready
// for use.
type Adapter struct{}

var _ dispatch.Adapter = Adapter{}

// maxTargets is how many targets one call carries: as many as the largest of
// the other push APIs takes.
const maxTargets = 100

const name = "webhook"

// Provider returns "webhook".
func (Adapter) Provider() string { return name }

// Channels returns the one channel.
func (Adapter) Channels() []dispatch.Channel {
	return []dispatch.Channel{{Name: name, MaxTargets: maxTargets}}
}

// content is a request as Compile has encoded it. It is never changed.
type content struct {
	taskName string
	request  json.RawMessage
}

// Compile accepts any JSON object, whose meaning is the receiver's affair. A
// campaign with stored targets is sent in slices of targets. One without is a
// single call without targets: its Message has a Channel that takes none.
func (Adapter) Compile(r dispatch.Request) (*dispatch.Message, []dispatch.Problem) {
	if r.Channel != name {
		return nil, []dispatch.Problem{{Field: "channel", Text: "is not a channel of webhook"}}
	}
	var compact bytes.Buffer
	if json.Compact(&compact, r.Body) != nil || compact.Bytes()[0] != '{' {
		return nil, []dispatch.Problem{{Field: "request", Text: "must be a JSON object"}}
	}
	channel := dispatch.Channel{Name: name}
	if r.StoredTargets {
		channel.MaxTargets = maxTargets
	}
	return &dispatch.Message{
		Channel: channel,
		Judge:   dispatch.TargetJudge((*dispatch.Target).Judge),
		Encoded: &content{taskName: r.TaskName, request: compact.Bytes()},
	}, nil
}

// Reach implements dispatch.Reacher.
func (p *pusher) Reach(ctx context.Context) error { return p.client.Reach(ctx, p.endpoint) }

var _ dispatch.Revoker = (*pusher)(nil)

// revocation is the JSON of a call that takes a delivery back.
type revocation struct {
	Kind        string `json:"kind"` // revoke
	DeliveryID  string `json:"delivery_id"`
	AppID       string `json:"app_id"`
	WorkspaceID string `json:"workspace_id"`
	MessageID   string `json:"message_id,omitempty"`
	RequestID   string `json:"request_id,omitempty"`
	Target      string `json:"target,omitempty"`
}

// Revoke makes a signed call of kind revoke, and classes its answer like that of a
// push.
func (p *pusher) Revoke(ctx context.Context, r *dispatch.Revocation) dispatch.Outcome {
	body, err := json.Marshal(revocation{
		Kind: "revoke", DeliveryID: r.DeliveryID, AppID: p.appID, WorkspaceID: p.workspaceID,
		MessageID: r.MessageID, RequestID: r.RequestID, Target: r.Target,
	})
	if err != nil {
		return dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: err.Error()}
	}
	return p.redactor.Outcome(p.post(ctx, "revoke-"+r.DeliveryID, body))
}

const (
	optSecret       = "secret"
	optAllowPrivate = "allow_private_addresses"
)

// Options lists the configuration keys of a webhook's app.
func (Adapter) Options() []dispatch.Option {
	return []dispatch.Option{
		{Name: optSecret, Required: true, Secret: true, Help: "signs the calls; the receiver knows it too"},
		{Name: optAllowPrivate, Help: `"true" lets the endpoint be a private, loopback or link-local address`},
	}
}

// New makes the Pusher of one app. Its endpoint is the receiver's whole URL.
func (Adapter) New(s dispatch.Settings) (dispatch.Pusher, error) {
	allowPrivate, errAllow := parseSwitch(s.Options[optAllowPrivate])
	endpoint, errEndpoint := parseURL(s.Endpoint, allowPrivate)
	var errSecret error
	if s.Options[optSecret] == "" {
		errSecret = errors.New(optSecret + " is missing")
	}
	if err := errors.Join(errEndpoint, errSecret, errAllow); err != nil {
		return nil, err
	}
	p := &pusher{
		endpoint: endpoint, appID: s.AppID, workspaceID: s.WorkspaceID, secret: []byte(s.Options[optSecret]),
		redactor: httpcall.NewRedactor(append(tokens(endpoint), s.Options[optSecret])...), now: s.Now,
	}
	if p.now == nil {
		p.now = time.Now
	}
	way := httpcall.Way{Transport: s.Transport, Proxy: s.Proxy, Authorities: s.Authorities}
	if !allowPrivate {
		way.Control = refuseInternal
	}
	var err error
	if p.client, err = httpcall.NewClientFor(endpoint, way); err != nil {
		return nil, err
	}
	return p, nil
}

func parseSwitch(value string) (bool, error) {
	switch value {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	}
	return false, fmt.Errorf("%s must be %q or %q", optAllowPrivate, "true", "false")
}

// parseURL reads the receiver's URL. Errors do not quote it: its query may hold
// a token.
func parseURL(text string, allowPrivate bool) (*url.URL, error) {
	u, err := httpcall.ParseURL(text)
	switch {
	case err != nil:
		return nil, err
	case u.Fragment != "":
		return nil, errors.New("endpoint must not have a fragment")
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && !allowPrivate && !public(addr) {
		return nil, fmt.Errorf("endpoint %w", &refusedAddress{addr})
	}
	return u, nil
}

// The lengths from which parts of a URL count as tokens, in bytes. Shorter
// parts are words.
const (
	minPathToken  = 16
	minQueryToken = 8
)

// tokens returns the parts of a receiver's URL that may be secrets, since many
// services have tokens in the path or the query.
func tokens(u *url.URL) []string {
	var found []string
	for part := range strings.SplitSeq(u.Path, "/") {
		if len(part) >= minPathToken {
			found = append(found, part)
		}
	}
	for _, values := range u.Query() {
		for _, v := range values {
			if len(v) >= minQueryToken {
				found = append(found, v, url.QueryEscape(v), url.PathEscape(v))
			}
		}
	}
	return found
}
