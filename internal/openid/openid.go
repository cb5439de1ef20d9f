// Package openid identifies people through an OpenID Connect identity provider:
// authorisation code flow with PKCE, state and nonce. It stores nothing about a
// person and knows no sessions. go-oidc and x/oauth2 do the protocol's signatures
// and encodings. This package decides which provider is called, how, and which
// parts of its answers are believed.
package openid

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/campaign-scheduler/scheduler/internal/config"
)

// Bounds for a provider.
const (
	callTimeout  = 10 * time.Second // for one call to the provider
	maxAnswer    = 1 << 20          // bytes
	maxIDToken   = 64 << 10         // bytes: the token is kept as long as the session
	documentAge  = time.Hour        // after this the discovery document is read again
	failureAge   = 5 * time.Second  // the same after a failed reading
	allowedSkew  = time.Minute      // by which the provider's clock may be behind ours
	maxErrorText = 300              // bytes of the provider's text in an error
)

// Errors of a Client. They hold no secret.
var (
	// ErrUnreachable says that the provider does not answer, or not like an
	// identity provider.
	ErrUnreachable = errors.New("the identity provider does not answer as one")
	// ErrRefused says that the provider refused the person, or that its answer about
	// the person cannot be believed.
	ErrRefused = errors.New("the identity provider's answer does not identify the person")
)

// A Client calls one provider. It is safe for concurrent use.
type Client struct {
	cfg      config.OIDC
	redirect string
	http     *http.Client

	provider atomic.Pointer[provider] // nil: not read yet

	reading sync.Mutex // held while the discovery document is read
	failed  time.Time  // when the document last could not be read, and why
	failure error
}

// A provider holds the content of a discovery document.
type provider struct {
	read     time.Time
	oauth    oauth2.Config
	verifier *oidc.IDTokenVerifier
	keys     string // its jwks_uri
	signOut  string // its end_session_endpoint; empty: none
}

// New makes a Client that asks the provider to send people back to redirect, an
// absolute URL. It does not call the provider yet.
func New(cfg config.OIDC, redirect string) *Client {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: cfg.Authorities, MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: callTimeout, ResponseHeaderTimeout: callTimeout,
		MaxResponseHeaderBytes: maxAnswer, MaxIdleConns: 2, MaxConnsPerHost: 8, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
	}
	return &Client{cfg: cfg, redirect: redirect, http: &http.Client{
		Transport: bounded{transport}, Timeout: callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it redirects, which is not followed") },
	}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// bounded ends an answer that is too long with an error.
type bounded struct{ *http.Transport }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}

// An Attempt is one sign-in that has begun. It is for one browser, once.
type Attempt struct {
	// State comes back in the query of the redirect.
	State string

	nonce, verifier string
	provider        *provider
}

// Begin returns where the browser is to go. The error may be ErrUnreachable.
func (c *Client) Begin(ctx context.Context) (location string, a *Attempt, err error) {
	p, err := c.discover(ctx)
	if err != nil {
		return "", nil, err
	}
	a = &Attempt{State: rand.Text(), nonce: rand.Text(), verifier: oauth2.GenerateVerifier(), provider: p}
	return p.oauth.AuthCodeURL(a.State, oidc.Nonce(a.nonce), oauth2.S256ChallengeOption(a.verifier)), a, nil
}

// A Person is a person as the provider describes him or her.
type Person struct {
	Subject string
	Claims  map[string]any // of the ID token
}

// Finish takes the query of the redirect with which the provider sent the
// browser back. The caller has compared its state. The error may be
// ErrUnreachable or ErrRefused.
func (c *Client) Finish(ctx context.Context, a *Attempt, query url.Values) (*Person, error) {
	if iss := query.Get("iss"); iss != "" && iss != c.cfg.Issuer { // RFC 9207
		return nil, fmt.Errorf("%w: another issuer sent the person back", ErrRefused)
	}
	if code := query.Get("error"); code != "" {
		return nil, fmt.Errorf("%w: it says %s", ErrRefused, clip(code))
	}
	code := query.Get("code")
	if code == "" {
		return nil, fmt.Errorf("%w: there is no code", ErrRefused)
	}
	ctx = oidc.ClientContext(ctx, c.http)
	token, err := a.provider.oauth.Exchange(ctx, code, oauth2.VerifierOption(a.verifier))
	if err != nil {
		return nil, exchangeError(err)
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" || len(raw) > maxIDToken {
		return nil, fmt.Errorf("%w: the token endpoint gave no ID token, or one above %d bytes", ErrRefused, maxIDToken)
	}
	id, err := a.provider.verifier.Verify(ctx, raw)
	switch {
	case err != nil && strings.Contains(err.Error(), "fetching keys"):
		return nil, fmt.Errorf("%w: %s", ErrUnreachable, clip(err.Error()))
	case err != nil:
		return nil, fmt.Errorf("%w: %s", ErrRefused, clip(err.Error()))
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(a.nonce)) != 1:
		return nil, fmt.Errorf("%w: the ID token is of another sign-in", ErrRefused)
	case id.Subject == "":
		return nil, fmt.Errorf("%w: the ID token has no subject", ErrRefused)
	}
	p := &Person{Subject: id.Subject}
	if err := id.Claims(&p.Claims); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrRefused, clip(err.Error()))
	}
	if party, named := p.Claims["azp"]; (named || len(id.Audience) > 1) && party != c.cfg.ClientID {
		return nil, fmt.Errorf("%w: the ID token was made for another client", ErrRefused)
	}
	return p, nil
}

// exchangeError returns an error of the token endpoint without the endpoint's
// answer, which may hold tokens.
func exchangeError(err error) error {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		if refused.Response != nil && refused.Response.StatusCode >= http.StatusInternalServerError {
			return fmt.Errorf("%w: the token endpoint answers %d", ErrUnreachable, refused.Response.StatusCode)
		}
		return fmt.Errorf("%w: the token endpoint says %q", ErrRefused, clip(refused.ErrorCode))
	}
	return fmt.Errorf("%w: %s", ErrUnreachable, clip(withoutURL(err).Error()))
}

// SignOut returns the URL at which the provider signs the person out and then
// leads back to after. Empty: the provider has no such URL, or its discovery
// document is not read yet.
func (c *Client) SignOut(after string) string {
	p := c.provider.Load()
	if p == nil || p.signOut == "" {
		return ""
	}
	u, err := url.Parse(p.signOut)
	if err != nil {
		return ""
	}
	q := u.Query()
	q.Set("client_id", c.cfg.ClientID)
	q.Set("post_logout_redirect_uri", after)
	u.RawQuery = q.Encode()
	return u.String()
}

// Check reads the discovery document and the keys now. Its error is
// ErrUnreachable, with what is wrong with them.
func (c *Client) Check(ctx context.Context) error {
	p, err := c.read(ctx)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.keys, nil)
	if err != nil {
		return fmt.Errorf("%w: its keys: %w", ErrUnreachable, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: its keys: %s", ErrUnreachable, clip(withoutURL(err).Error()))
	}
	defer resp.Body.Close()
	var set struct{ Keys []json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil || resp.StatusCode != http.StatusOK || len(set.Keys) == 0 {
		return fmt.Errorf("%w: there are no keys at its jwks_uri (HTTP %d)", ErrUnreachable, resp.StatusCode)
	}
	return nil
}

// discover returns the content of the discovery document, and reads it anew
// when it is too old. Callers that come meanwhile wait for the same answer.
func (c *Client) discover(ctx context.Context) (*provider, error) {
	if p := c.provider.Load(); p != nil && time.Since(p.read) < documentAge {
		return p, nil
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	if p := c.provider.Load(); p != nil && time.Since(p.read) < documentAge {
		return p, nil
	}
	if time.Since(c.failed) < failureAge {
		return nil, c.failure
	}
	p, err := c.read(context.WithoutCancel(ctx)) // others wait for it, too
	if err != nil {
		c.failed, c.failure = time.Now(), err
		return nil, err
	}
	c.provider.Store(p)
	return p, nil
}

// read reads the discovery document.
func (c *Client) read(ctx context.Context) (*provider, error) {
	ctx = oidc.ClientContext(ctx, c.http)
	found, err := oidc.NewProvider(ctx, c.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrUnreachable, clip(withoutURL(err).Error()))
	}
	var document struct {
		Authorization string   `json:"authorization_endpoint"`
		Token         string   `json:"token_endpoint"`
		Keys          string   `json:"jwks_uri"`
		SignOut       string   `json:"end_session_endpoint"`
		TokenAuth     []string `json:"token_endpoint_auth_methods_supported"`
		Challenges    []string `json:"code_challenge_methods_supported"`
	}
	if err := found.Claims(&document); err != nil {
		return nil, fmt.Errorf("%w: its discovery document cannot be read", ErrUnreachable)
	}
	for _, e := range []struct{ name, endpoint string }{
		{"authorization_endpoint", document.Authorization}, {"token_endpoint", document.Token}, {"jwks_uri", document.Keys},
	} {
		if rule := c.secure(e.endpoint); rule != "" {
			return nil, fmt.Errorf("%w: %s in its discovery document %s", ErrUnreachable, e.name, rule)
		}
	}
	if len(document.Challenges) > 0 && !slices.Contains(document.Challenges, "S256") {
		return nil, fmt.Errorf("%w: it does not take code challenges of S256 (PKCE)", ErrUnreachable)
	}
	if c.secure(document.SignOut) != "" {
		document.SignOut = ""
	}
	endpoint := found.Endpoint()
	endpoint.AuthStyle = authStyle(document.TokenAuth)
	return &provider{
		read: time.Now(), keys: document.Keys, signOut: document.SignOut,
		oauth: oauth2.Config{
			ClientID: c.cfg.ClientID, ClientSecret: c.cfg.ClientSecret.Reveal(), Endpoint: endpoint, RedirectURL: c.redirect,
			Scopes: append([]string{oidc.ScopeOpenID}, c.cfg.Scopes...),
		},
		verifier: found.VerifierContext(ctx, &oidc.Config{ClientID: c.cfg.ClientID, Now: func() time.Time { return time.Now().Add(-allowedSkew) }}),
	}, nil
}

// secure returns the rule that an endpoint breaks whose traffic must not be
// read on the way. Empty: none.
func (c *Client) secure(endpoint string) string {
	if strings.HasPrefix(c.cfg.Issuer, "https://") && strings.HasPrefix(endpoint, "http://") {
		return "must begin with https://"
	}
	address, _, _ := strings.Cut(endpoint, "?")
	return config.SecureURL(address)
}

// authStyle chooses how the client shows its secret. A provider that does not say
// which way it wants gets the secret in the header. Trying both ways would use
// the code up.
func authStyle(supported []string) oauth2.AuthStyle {
	if slices.Contains(supported, "client_secret_post") && !slices.Contains(supported, "client_secret_basic") {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

// withoutURL removes the URL from an error, since it may hold texts that must
// not be logged.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// clip bounds the length of a text that others wrote.
func clip(text string) string {
	if len(text) > maxErrorText {
		return strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	return text
}
