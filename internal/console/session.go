package console

import (
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/store"
)

// How long a session lasts: without a request, and in all.
const (
	idleTimeout = 30 * time.Minute
	maxSession  = 12 * time.Hour
)

// A person is somebody who is signed in: a database role.
type person struct {
	store  *store.Store
	rights store.Rights
	shared bool           // the store belongs to the daemon and stays open
	role   string         // which the store's front takes on; empty: the store's login is the person's own
	claims map[string]any // what the identity provider said of them
	issuer string         // the identity provider
	idle   *time.Timer
	ends   *time.Timer
}

// sessions are those who are signed in. The cookie holds a random token; who it
// stands for is kept in memory, so a restart signs everybody out. It is safe for
// concurrent use.
type sessions struct {
	secure   bool // browsers come over TLS
	attempts *rate.Limiter

	mu      sync.Mutex
	people  map[string]*person   // by token
	links   map[string]time.Time // tokens of sign-in links and when they end
	waiting map[string]attempt   // sign-ins through the identity provider, by state
	callers map[string]*rate.Limiter
}

// Bounds of attempts to sign in: of all together, and of one address.
const (
	attemptsPerSecond = 5
	callerAttempts    = 10 // at once; then one every six seconds
	maxCallers        = 10_000
)

func newSessions(secure bool) *sessions {
	return &sessions{
		secure: secure, people: make(map[string]*person), links: make(map[string]time.Time), waiting: make(map[string]attempt),
		attempts: rate.NewLimiter(attemptsPerSecond, 2*attemptsPerSecond), callers: make(map[string]*rate.Limiter),
	}
}

// cookie is the session's, with the given token; empty: it is to be forgotten. A
// browser takes the name with __Host- over TLS only, for this host and no other.
func (s *sessions) cookie(token string) *http.Cookie {
	c := &http.Cookie{Name: s.cookieName(), Value: token, Path: "/", HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode}
	if token == "" {
		c.MaxAge = -1
	}
	return c
}

func (s *sessions) cookieName() string {
	if s.secure {
		return "__Host-scheduler_session"
	}
	return "scheduler_session"
}

// mayTry says whether another attempt to sign in is allowed from an address now.
func (s *sessions) mayTry(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	s.mu.Lock()
	caller := s.callers[host]
	if caller == nil {
		if len(s.callers) >= maxCallers { // forgetting them all is kinder than refusing a new one
			clear(s.callers)
		}
		caller = rate.NewLimiter(rate.Every(6*time.Second), callerAttempts)
		s.callers[host] = caller
	}
	s.mu.Unlock()
	return caller.Allow() && s.attempts.Allow()
}

// begin signs a person in under a new token, so that a token somebody planted
// before is worth nothing. The session that the browser had ends.
func (s *sessions) begin(w http.ResponseWriter, r *http.Request, p *person) {
	if c, err := r.Cookie(s.cookieName()); err == nil {
		s.drop(c.Value)
	}
	token := rand.Text()
	s.mu.Lock()
	s.people[token] = p
	p.idle = time.AfterFunc(idleTimeout, func() { s.drop(token) })
	p.ends = time.AfterFunc(maxSession, func() { s.drop(token) })
	s.mu.Unlock()
	http.SetCookie(w, s.cookie(token))
}

// person returns who made the request, or nil, and the token of their session.
func (s *sessions) person(r *http.Request) (p *person, token string) {
	c, err := r.Cookie(s.cookieName())
	if err != nil {
		return nil, ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p = s.people[c.Value]
	if p != nil {
		p.idle.Reset(idleTimeout)
	}
	return p, c.Value
}

// end signs whoever made the request out.
func (s *sessions) end(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(s.cookieName()); err == nil {
		s.drop(c.Value)
	}
	http.SetCookie(w, s.cookie(""))
}

func (s *sessions) drop(token string) {
	s.mu.Lock()
	p := s.people[token]
	delete(s.people, token)
	s.mu.Unlock()
	p.close()
}

func (s *sessions) close() {
	s.mu.Lock()
	people := s.people
	s.people = make(map[string]*person)
	s.mu.Unlock()
	for _, p := range people {
		p.close()
	}
}

func (p *person) close() {
	if p == nil {
		return
	}
	p.idle.Stop()
	p.ends.Stop()
	if !p.shared {
		p.store.Close()
	}
}

// linkLasts is how long a sign-in link works when nobody uses it.
const linkLasts = 15 * time.Minute

// Link returns the path of a link that signs the owner of the database in, once.
func (c *Console) Link() string {
	token := rand.Text()
	c.sessions.mu.Lock()
	defer c.sessions.mu.Unlock()
	c.sessions.links[token] = time.Now().Add(linkLasts)
	return "/link/" + token
}

// useLink says whether the token's link still works, and ends it.
func (s *sessions) useLink(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ends, ok := s.links[token]
	delete(s.links, token)
	return ok && time.Now().Before(ends)
}

// signInPage shows the form of the way in.
func (c *Console) signInPage(x *exchange) error {
	if x.person != nil {
		return x.seeOther("/")
	}
	return c.render(x, http.StatusOK, "sign-in", signInForm{
		Next: next(x.FormValue("next")), Provider: c.gate.Load().providerName(), SignOut: c.signOutElsewhere(),
	})
}

// A signInForm is what the page of the way in shows.
type signInForm struct {
	Next, User, Problem string
	Provider            string // the identity provider's host; empty: people use their own login
	SignOut             string // where it signs people out
}

// next is a path of ours to go to after signing in; nothing else is followed.
// Browsers pass over control characters and take \ for /.
func next(path string) string {
	control := func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsFunc(path, control) || len(path) > maxNext {
		return "/"
	}
	return path
}

// maxNext bounds a path to come back to, in bytes.
const maxNext = 2048

// signIn takes a person's own database login.
func (c *Console) signIn(x *exchange) error {
	if c.Front != nil { // somebody else says who people are
		return errNoPage
	}
	form := signInForm{Next: next(x.PostFormValue("next")), User: x.PostFormValue("user")}
	again := func(status int, problem string) error {
		form.Problem = problem
		return c.render(x, status, "sign-in", form)
	}
	if !c.sessions.mayTry(x.RemoteAddr) {
		return again(http.StatusTooManyRequests, x.T("Too many attempts. Wait a minute and try again."))
	}
	s, err := c.SignIn(x.Context(), form.User, x.PostFormValue("password"))
	switch {
	case errors.Is(err, ErrSignIn):
		return again(http.StatusUnauthorized, x.T("The database does not know this login, or the password is wrong."))
	case err != nil:
		return err
	}
	p := &person{store: s}
	if err := c.admit(x, p); err != nil {
		s.Close()
		return again(http.StatusForbidden, x.T("This login has no rights in the scheduler. Ask an admin for scheduler_author or scheduler_reader."))
	}
	return x.seeOther(form.Next)
}

// admit asks what the person may do and signs them in.
func (c *Console) admit(x *exchange, p *person) error {
	if err := p.ask(x.Context()); err != nil {
		return err
	}
	c.sessions.begin(x.ResponseWriter, x.Request, p)
	return nil
}

// linkPage asks before it uses the link up: a program that only looks at a link
// does not spend it.
func (c *Console) linkPage(x *exchange) error {
	return c.render(x, http.StatusOK, "link", map[string]string{"Token": x.PathValue("token")})
}

func (c *Console) link(x *exchange) error {
	if !c.sessions.mayTry(x.RemoteAddr) || c.Owner == nil || !c.sessions.useLink(x.PathValue("token")) {
		return c.render(x, http.StatusGone, "message", map[string]string{
			"Title": x.T("This link does not work any more"), "Text": x.T("A sign-in link works once and for 15 minutes. Start the program again for a new one."),
		})
	}
	if err := c.admit(x, &person{store: c.Owner, shared: true}); err != nil {
		return err
	}
	return x.seeOther("/")
}

func (c *Console) signOut(x *exchange) error {
	c.sessions.end(x.ResponseWriter, x.Request)
	if g := c.gate.Load(); g.SignIn == config.SignInProxy {
		if g.Proxy.SignOut == "" {
			return c.tell(x, http.StatusOK, x.T("The proxy in front signs people in and out. Sign out there."))
		}
		return x.seeOther(g.Proxy.SignOut)
	}
	return x.seeOther("/sign-in")
}
