package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

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

// The shortest parts of a URL that count as tokens, in bytes. Shorter ones are
// words.
const (
	minPathToken  = 16
	minQueryToken = 8
)

// tokens returns the parts of a receiver's URL that may be secrets of their own,
// as many services have them in the path or the query.
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
