package openid_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/openid"
	"github.com/campaign-scheduler/scheduler/internal/openid/issuertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const redirect = "https://push.example/sign-in/callback"

func newClient(t *testing.T, i *issuertest.Issuer, authorities *x509.CertPool) *openid.Client {
	t.Helper()
	cfg := config.Default().Console.OIDC
	cfg.Issuer, cfg.ClientID, cfg.ClientSecret, cfg.Authorities = i.URL, issuertest.Client, issuertest.Secret, authorities
	c := openid.New(cfg, redirect)
	openid.Patient(c)
	t.Cleanup(c.Close)
	return c
}

// visit goes where the browser is sent, and returns what it comes back with.
func visit(t *testing.T, i *issuertest.Issuer, location string) url.Values {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, location, nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := *i.Server.Client()
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		t.Fatalf("the issuer answers %d: %v", resp.StatusCode, err)
	}
	if !strings.HasPrefix(back.String(), redirect+"?") {
		t.Fatalf("the issuer sends the browser to %s", back)
	}
	return back.Query()
}

// identify goes through a whole sign-in.
func identify(t *testing.T, c *openid.Client, i *issuertest.Issuer) (*openid.Person, error) {
	t.Helper()
	location, a, err := c.Begin(t.Context())
	if err != nil {
		return nil, err
	}
	return c.Finish(t.Context(), a, visit(t, i, location))
}

var mei = map[string]any{"sub": "4711", "preferred_username": "mei", "groups": []string{"authors"}}

// A person is identified over TLS of a private authority, and what is asked for is
// what was configured.
func TestPersonIsIdentified(t *testing.T) {
	t.Parallel()
	i := issuertest.New(t, true)
	i.Person(mei)
	authority := x509.NewCertPool()
	authority.AddCert(i.Server.Certificate())
	c := newClient(t, i, authority)
	p, err := identify(t, c, i)
	if err != nil {
		t.Fatal(err)
	}
	if p.Subject != "4711" || p.Claims["preferred_username"] != "mei" {
		t.Errorf("the person is %+v", p)
	}
	asked := i.Asked()
	if asked.Get("scope") != "openid profile email" || len(asked.Get("state")) < 20 || len(asked.Get("nonce")) < 20 || asked.Get("redirect_uri") != redirect {
		t.Errorf("asked for %v", asked)
	}
	if out := c.SignOut("https://push.example/sign-in"); out != i.URL+"/logout?client_id=scheduler-console&post_logout_redirect_uri=https%3A%2F%2Fpush.example%2Fsign-in&theme=plain" {
		t.Errorf("signs out at %s", out)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
	if _, _, err := newClient(t, i, nil).Begin(t.Context()); !errors.Is(err, openid.ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the authority: %v", err)
	}
}

// What an ID token must be, and is refused without.
func TestWhatIsBelieved(t *testing.T) {
	t.Parallel()
	claim := func(name string, value any) func(map[string]any) {
		return func(claims map[string]any) { claims[name] = value }
	}
	moment := func(name string, from time.Duration) func(map[string]any) {
		return func(claims map[string]any) { claims[name] = time.Now().Add(from).Unix() }
	}
	without := func(name string) func(map[string]any) {
		return func(claims map[string]any) { delete(claims, name) }
	}
	for name, c := range map[string]struct {
		claims func(map[string]any)
		sign   func(*issuertest.Issuer, []byte) string
		want   string // empty: it is believed
	}{
		"signed with RSA":             {},
		"signed with an EC key":       {sign: (*issuertest.Issuer).ES256},
		"just expired":                {claims: moment("exp", -2*time.Second)},
		"begins in a minute":          {claims: moment("nbf", time.Minute)},
		"for several, made for us":    {claims: func(c map[string]any) { c["aud"], c["azp"] = []string{issuertest.Client, "other"}, issuertest.Client }},
		"another sign-in's nonce":     {claims: claim("nonce", "another"), want: "is of another sign-in"},
		"no nonce":                    {claims: without("nonce"), want: "is of another sign-in"},
		"another audience":            {claims: claim("aud", "other"), want: "expected audience"},
		"no audience":                 {claims: without("aud"), want: "expected audience"},
		"several, none named":         {claims: claim("aud", []string{issuertest.Client, "other"}), want: "made for another client"},
		"made for another":            {claims: claim("azp", "other"), want: "made for another client"},
		"another issuer":              {claims: claim("iss", "https://evil.example"), want: "issued by a different provider"},
		"expired":                     {claims: moment("exp", -2*time.Minute), want: "token is expired"},
		"without an end":              {claims: without("exp"), want: "token is expired"},
		"not yet":                     {claims: moment("nbf", time.Hour), want: "before the nbf"},
		"of nobody":                   {claims: claim("sub", ""), want: "no subject"},
		"too long":                    {claims: claim("groups", strings.Repeat("g", 64<<10)), want: "above 65536 bytes"},
		"another's signature":         {sign: (*issuertest.Issuer).Stranger, want: "failed to verify"},
		"not signed":                  {sign: (*issuertest.Issuer).None, want: "unexpected signature algorithm"},
		"signed with the secret":      {sign: (*issuertest.Issuer).HS256, want: "unexpected signature algorithm"},
		"changed after it was signed": {sign: (*issuertest.Issuer).Changed, want: "failed to verify"},
		"no token":                    {sign: func(*issuertest.Issuer, []byte) string { return "" }, want: "gave no ID token"},
		"nonsense":                    {sign: func(*issuertest.Issuer, []byte) string { return "a.b.c" }, want: "malformed jwt"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := issuertest.New(t, false)
			i.Person(mei)
			i.Claims(c.claims)
			i.Sign(c.sign)
			_, err := identify(t, newClient(t, i, nil), i)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.Is(err, openid.ErrRefused) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// What comes back with the browser, and is refused.
func TestWhatComesBack(t *testing.T) {
	t.Parallel()
	i := issuertest.New(t, false)
	i.Person(mei)
	c := newClient(t, i, nil)
	begin := func() (url.Values, *openid.Attempt) {
		location, a, err := c.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return visit(t, i, location), a
	}
	refused := func(name, want string, a *openid.Attempt, query url.Values) {
		t.Helper()
		if _, err := c.Finish(t.Context(), a, query); !errors.Is(err, openid.ErrRefused) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), issuertest.Secret) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	query, a := begin()
	_, other := begin()
	refused("a code of another sign-in", "invalid_grant", other, query)
	refused("a code a second time", "invalid_grant", a, query)
	query, a = begin()
	query.Set("iss", "https://evil.example")
	refused("another issuer", "another issuer", a, query)
	refused("a refusal", "it says access_denied", a, url.Values{"error": {"access_denied"}})
	refused("a long refusal", "…", a, url.Values{"error": {strings.Repeat("x", 10_000)}})
	refused("nothing", "no code", a, url.Values{})
}

// A provider that does not speak as one is not spoken to, and is asked again
// after a while.
func TestProviderIsOne(t *testing.T) {
	t.Parallel()
	entry := func(name string, value any) func(map[string]any) {
		return func(document map[string]any) { document[name] = value }
	}
	for name, c := range map[string]struct {
		document func(map[string]any)
		want     string
	}{
		"another issuer":          {entry("issuer", "https://evil.example"), "did not match"},
		"tokens in the open":      {entry("token_endpoint", "http://login.example/token"), "token_endpoint in its discovery document must begin with https://"},
		"keys in the open":        {entry("jwks_uri", "http://login.example/keys"), "jwks_uri in its discovery document must begin with https://"},
		"people sent in the open": {entry("authorization_endpoint", "http://login.example/auth"), "authorization_endpoint in its discovery document must begin with https://"},
		"nowhere to go":           {entry("authorization_endpoint", ""), "must be a URL"},
		"no PKCE":                 {entry("code_challenge_methods_supported", []string{"plain"}), "S256"},
		"a long document":         {entry("x", strings.Repeat("x", 1<<20)), "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := issuertest.New(t, false)
			i.Document(c.document)
			if _, _, err := newClient(t, i, nil).Begin(t.Context()); !errors.Is(err, openid.ErrUnreachable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A provider that is down is not asked by everybody anew, and one that comes back
// is used; keys may be replaced at any time.
func TestProviderComesAndGoes(t *testing.T) {
	t.Parallel()
	i := issuertest.New(t, false)
	i.Person(mei)
	i.Down(true)
	down := newClient(t, i, nil)
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // whoever asks may be gone already
		if _, _, err := down.Begin(ctx); !errors.Is(err, openid.ErrUnreachable) || !strings.Contains(err.Error(), "503") {
			t.Errorf("down: %v", err)
		}
	}
	if n := i.Calls("/.well-known/openid-configuration"); n != 1 {
		t.Errorf("it was asked %d times while it was down, want once", n)
	}
	if err := down.Check(t.Context()); !errors.Is(err, openid.ErrUnreachable) {
		t.Errorf("check: %v", err)
	}
	i.Down(false)
	c := newClient(t, i, nil)
	for range 2 {
		if _, err := identify(t, c, i); err != nil {
			t.Fatal(err)
		}
		i.NewKeys()
	}
	location, a, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	query := visit(t, i, location)
	i.Down(true)
	if _, err := c.Finish(t.Context(), a, query); !errors.Is(err, openid.ErrUnreachable) {
		t.Errorf("down in the middle: %v", err)
	}
}
