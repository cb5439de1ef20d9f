package console

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/openid"
	"github.com/campaign-scheduler/scheduler/store"
)

// A person whom an identity provider or a proxy names has no password in the
// database. Rules of the configuration say which database role they have, and the
// console's own login takes that role on for each use of a connection. Whom no
// rule fits does not get in.

// A gate is how people come in, as one configuration says.
type gate struct {
	config.Console
	provider *openid.Client // nil: none
	known    sync.Map       // knownRights by role, of people whom a proxy names
}

// knownRights are a role's rights as they were a moment ago.
type knownRights struct {
	store.Rights
	asked time.Time
}

// rightsAge is how long pages show a role's rights as they were. The database takes the
// role on for each page, and decides again at every deed.
const rightsAge = 2 * time.Second

// callbackPath is where an identity provider sends people back to.
const callbackPath = "/sign-in/callback"

// SetSignIn takes over who is let in from another configuration: the rules, the
// identity provider and the proxy. Sessions end that it would not give the same
// role. How people sign in does not change.
func (c *Console) SetSignIn(settings config.Console) {
	old := c.gate.Load()
	if old != nil && old.SignIn != settings.SignIn {
		return
	}
	g := &gate{Console: settings}
	if settings.SignIn == config.SignInOIDC {
		g.provider = openid.New(settings.OIDC, c.Origin+callbackPath)
	}
	c.gate.Store(g)
	if old != nil {
		old.close()
	}
}

func (g *gate) close() {
	if g.provider != nil {
		g.provider.Close()
	}
}

// role is that of the first rule that fits what is said of a person. Empty: none.
func (g *gate) role(claims map[string]any) string {
	for _, rule := range g.Roles {
		if slices.Contains(values(claims, rule.Claim), rule.Value) {
			return rule.Role
		}
	}
	return ""
}

// values are the texts of a claim: itself, or those of its list. A name with dots
// leads into claims that hold claims. An address that the provider has not
// verified is none.
func values(claims map[string]any, name string) []string {
	if name == "email" && claims["email_verified"] != true && claims["email_verified"] != "true" {
		return nil
	}
	value, there := claims[name]
	if before, rest, ok := strings.Cut(name, "."); !there && ok {
		inner, _ := claims[before].(map[string]any)
		return values(inner, rest)
	}
	switch value := value.(type) {
	case string:
		return []string{value}
	case []any:
		var texts []string
		for _, item := range value {
			if text, ok := item.(string); ok {
				texts = append(texts, text)
			}
		}
		return texts
	}
	return nil
}

// Why a request is not served.
var (
	errHeaderMissing = errors.New("the proxy names nobody")
	errHeaderTwice   = errors.New("the proxy names several people")
	errUnmapped      = errors.New("no rule of console.roles fits the person")
	errNoFront       = errors.New("audits would name the console's login instead of the person: console.database_url must be a login of its own in scheduler_front")
)

// who says who makes a request. Nil without an error: nobody who is signed in.
func (c *Console) who(r *http.Request) (*person, error) {
	g := c.gate.Load()
	if g.SignIn == config.SignInProxy {
		return c.named(g, r)
	}
	p, token := c.sessions.person(r)
	if p != nil && p.role != "" && (g.role(p.claims) != p.role || g.OIDC.Issuer != p.issuer) { // these have changed since
		c.sessions.drop(token)
		return nil, nil //nolint:nilnil // nobody
	}
	return p, nil
}

// maxName bounds what a proxy names somebody, in bytes.
const maxName = 256

// named is whom the proxy's header names. onlyProxy has made sure that it comes
// from the proxy.
func (c *Console) named(g *gate, r *http.Request) (*person, error) {
	said := r.Header.Values(g.Proxy.Header)
	switch {
	case len(said) > 1:
		return nil, errHeaderTwice
	case len(said) == 0 || said[0] == "" || len(said[0]) > maxName:
		return nil, errHeaderMissing
	}
	p := &person{store: c.Front, role: g.role(map[string]any{"": said[0]}), shared: true}
	if p.role == "" {
		c.unmapped.Do(func() {
			c.Log.WarnContext(r.Context(), "console request refused", "name", said[0], "error", errUnmapped)
		})
		return nil, errUnmapped
	}
	if known, ok := g.known.Load(p.role); ok && r.Method == http.MethodGet { // a deed must be audited in the person's name
		if known := known.(knownRights); time.Since(known.asked) < rightsAge { //nolint:forcetypeassert // nothing else is stored
			p.rights = known.Rights
			return p, nil
		}
	}
	asked := time.Now()
	if err := p.ask(r.Context()); err != nil {
		return nil, err
	}
	g.known.Store(p.role, knownRights{p.rights, asked})
	return p, nil
}

// as gives a context the person's role.
func (p *person) as(ctx context.Context) context.Context {
	if p == nil || p.role == "" {
		return ctx
	}
	return store.As(ctx, p.role)
}

// ask asks the database what the person may do, and makes sure that what they do
// is done in their name.
func (p *person) ask(ctx context.Context) error {
	rights, err := p.store.Rights(p.as(ctx))
	if err != nil {
		return err
	}
	if p.role != "" && (rights.Role != p.role || rights.Actor != p.role) {
		return errNoFront
	}
	p.rights = rights
	return nil
}

// onlyProxy refuses whoever does not connect from the proxy, where one signs
// people in: the header would be anybody's to write.
func (c *Console) onlyProxy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g := c.gate.Load()
		if g.SignIn != config.SignInProxy {
			next.ServeHTTP(w, r)
			return
		}
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		peer := from.Addr().Unmap().WithZone("")
		if err != nil || !slices.ContainsFunc(g.Proxy.Networks, func(n netip.Prefix) bool { return n.Contains(peer) }) {
			named := len(r.Header.Values(g.Proxy.Header)) > 0
			c.strangers.Do(func() {
				c.Log.WarnContext(r.Context(), "console request from an address that is not in console.proxy.from", "address", peer.String(), "names_somebody", named)
			})
			http.Error(w, fmt.Sprintf("This console is served through its proxy only, and %s is not in console.proxy.from.", peer), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// An attempt is a sign-in through the identity provider that has begun.
type attempt struct {
	*openid.Attempt
	client  *openid.Client
	issuer  string // whom client speaks to
	browser string // the token in its cookie
	next    string
}

// Bounds of attempts: for how long somebody may take, and how many may wait.
const (
	attemptLasts = 10 * time.Minute
	maxAttempts  = 10_000
)

// await keeps an attempt until its browser comes back.
func (s *sessions) await(w http.ResponseWriter, a attempt) {
	a.browser = rand.Text()
	s.mu.Lock()
	for state := range s.waiting {
		if len(s.waiting) < maxAttempts {
			break
		}
		delete(s.waiting, state)
	}
	s.waiting[a.State] = a
	s.mu.Unlock()
	time.AfterFunc(attemptLasts, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiting, a.State)
	})
	http.SetCookie(w, s.attemptCookie(a.browser))
}

// returned ends the attempt that the browser comes back from. False: there is none,
// it was used already, or it began in another browser.
func (s *sessions) returned(w http.ResponseWriter, r *http.Request) (attempt, bool) {
	cookie, err := r.Cookie(s.attemptCookie("").Name)
	if err != nil {
		return attempt{}, false
	}
	state := r.URL.Query().Get("state")
	s.mu.Lock()
	defer s.mu.Unlock()
	a, there := s.waiting[state]
	if !there || subtle.ConstantTimeCompare([]byte(a.browser), []byte(cookie.Value)) != 1 {
		return attempt{}, false
	}
	delete(s.waiting, state)
	http.SetCookie(w, s.attemptCookie(""))
	return a, true
}

// attemptCookie ties an attempt to its browser, as the session's cookie does a
// person. It comes along when the provider's site sends the browser back.
func (s *sessions) attemptCookie(token string) *http.Cookie {
	c := s.cookie(token)
	c.Name = strings.Replace(c.Name, "session", "sign_in", 1)
	return c
}

// startSignIn sends the browser to the identity provider.
func (c *Console) startSignIn(x *exchange) error {
	g := c.gate.Load()
	if g.provider == nil {
		return errNoPage
	}
	may := c.sessions.attempts.Allow
	if !g.BehindProxy { // there all people have one address, and no password is guessed here
		may = func() bool { return c.sessions.mayTry(x.RemoteAddr) }
	}
	if !may() {
		return c.tell(x, http.StatusTooManyRequests, x.T("Too many attempts. Wait a minute and try again."))
	}
	location, a, err := g.provider.Begin(x.Context())
	if err != nil {
		return c.notIdentified(x, err)
	}
	c.sessions.await(x.ResponseWriter, attempt{Attempt: a, client: g.provider, issuer: g.OIDC.Issuer, next: next(x.FormValue("next"))})
	return x.seeOther(location)
}

// callback takes whom the identity provider sends back.
func (c *Console) callback(x *exchange) error {
	g := c.gate.Load()
	if g.provider == nil {
		return errNoPage
	}
	a, ok := c.sessions.returned(x.ResponseWriter, x.Request)
	if !ok || a.issuer != g.OIDC.Issuer { // or the configuration has named another provider since
		return c.tell(x, http.StatusBadRequest, x.T("This sign-in was used already, took too long, or began in another browser. Sign in again."))
	}
	who, err := a.client.Finish(x.Context(), a.Attempt, x.URL.Query())
	if err != nil {
		return c.notIdentified(x, err)
	}
	p := &person{store: c.Front, shared: true, role: g.role(who.Claims), claims: who.Claims, issuer: g.OIDC.Issuer}
	if p.role == "" {
		c.Log.WarnContext(x.Context(), "console sign-in refused", "subject", clip(who.Subject), "error", errUnmapped)
		return errUnmapped
	}
	if err := c.admit(x, p); err != nil {
		c.Log.WarnContext(x.Context(), "console sign-in refused", "subject", clip(who.Subject), "role", p.role, "error", err)
		return err
	}
	c.Log.InfoContext(x.Context(), "console sign-in", "subject", clip(who.Subject), "role", p.role)
	return x.seeOther(a.next)
}

// notIdentified tells that the identity provider did not say who it is.
func (c *Console) notIdentified(x *exchange, err error) error {
	c.Log.WarnContext(x.Context(), "console sign-in failed", "error", err)
	if errors.Is(err, openid.ErrRefused) {
		return c.tell(x, http.StatusForbidden, x.T("The identity provider did not say who you are, or its answer cannot be trusted. Sign in again; the log says more."))
	}
	return c.tell(x, http.StatusServiceUnavailable, x.T("The identity provider cannot be asked now. Try again; the log says more."))
}

// signOutElsewhere is where whoever identified the person signs them out, too.
func (c *Console) signOutElsewhere() string {
	if p := c.gate.Load().provider; p != nil {
		return p.SignOut(c.Origin + "/sign-in")
	}
	return ""
}

// providerName is the identity provider's host.
func (g *gate) providerName() string {
	u, err := url.Parse(g.OIDC.Issuer)
	if err != nil || g.provider == nil {
		return ""
	}
	return u.Host
}

// clip bounds what others name somebody.
func clip(text string) string {
	if len(text) > maxName {
		return text[:maxName]
	}
	return text
}
