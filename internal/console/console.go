// Package console is the web console: what is coming, what happened and why, and
// the deeds that a person's own database role allows. It keeps nothing of its
// own but sessions; every read and every deed is made with the person's rights,
// and the database decides again.
//
// Pages are plain HTML from our own templates. Every deed works without
// JavaScript; the script only refreshes parts of a page that change by
// themselves. GET changes nothing, but for the way through an identity provider,
// which signs people in.
package console

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/store"
)

// Config configures a Console. Judge and Log are required, and SignIn or Front.
type Config struct {
	// SignIn opens the database with a person's own login. The error is
	// ErrSignIn when the database refuses the login. It is not used with Front.
	SignIn func(ctx context.Context, user, password string) (*store.Store, error)
	// Front acts for people whom an identity provider or a proxy names, as Settings
	// say; it is a Store of store.OpenFront. Nil: people sign in with SignIn.
	Front *store.Store
	// Settings say how people sign in.
	Settings config.Console
	// Owner, when set, is who signs in with a link of LinkURL: whoever owns the
	// embedded database.
	Owner *store.Store
	// Judge says what is wrong with a campaign before it is stored.
	Judge judge.Judge
	// Apps are the apps of the configuration, whose rules count when a request is
	// judged, until SetApps gives others. They may be none.
	Apps []config.App
	// Secure says that browsers reach the console over TLS.
	Secure bool
	// Origin is how browsers name the console, such as https://push.example, where
	// a proxy changes the Host. Empty: as the request says. An identity provider
	// sends people back to it.
	Origin string
	Log    *slog.Logger
}

// ErrSignIn says that the database refused a login.
var ErrSignIn = errors.New("the database refused this login")

//go:embed pages/*.html assets/*
var files embed.FS

// A Console serves the pages. New makes it, Handler serves, Close ends the
// sessions. It is safe for concurrent use.
type Console struct {
	Config
	sessions *sessions
	pages    map[pageName]*template.Template
	handler  http.Handler
	apps     atomic.Pointer[[]config.App]
	gate     atomic.Pointer[gate]
	turns    turns
	known    store.KnownCampaigns // of forecasts

	strangers, unmapped rate.Sometimes // bound what is logged of them
}

// New makes a Console.
func New(cfg Config) (*Console, error) {
	c := &Console{Config: cfg, sessions: newSessions(cfg.Secure), turns: newTurns(), strangers: seldom(), unmapped: seldom()}
	c.SetApps(cfg.Apps)
	if cfg.Front == nil {
		c.Settings = config.Console{SignIn: config.SignInLogin}
	}
	c.SetSignIn(c.Settings)
	var err error
	if c.pages, err = parsePages(files); err != nil {
		return nil, err
	}
	if c.handler, err = c.routes(); err != nil {
		return nil, err
	}
	return c, nil
}

// seldom is once a minute.
func seldom() rate.Sometimes { return rate.Sometimes{Interval: time.Minute} }

// SetApps takes over the apps of another configuration.
func (c *Console) SetApps(apps []config.App) { c.apps.Store(&apps) }

// settings are the apps of the configuration.
func (c *Console) settings() []config.App { return *c.apps.Load() }

// Handler serves every page.
func (c *Console) Handler() http.Handler { return c.handler }

// Close ends every session and closes the connections of those who signed in.
func (c *Console) Close() {
	c.sessions.close()
	c.gate.Load().close()
}

// A route is one page or deed. Everything but the way in needs a person.
type route struct {
	pattern string
	serve   func(*Console, *exchange) error
	open    bool // for whoever is not signed in, too
}

// routes lists everything there is. Tests take the list from here, so that a new
// page is tried with a foreign app by itself.
func allRoutes() []route {
	return []route{
		{"GET /{$}", (*Console).home, false},
		{"GET /calendar", (*Console).calendar, false},
		{"GET /calendars", (*Console).calendars, false},
		{"GET /campaigns", (*Console).campaigns, false},
		{"POST /campaigns", (*Console).insertCampaign, false},
		{"GET /campaigns/new", (*Console).newCampaign, false},
		{"GET /campaigns/{id}", (*Console).campaign, false},
		{"POST /campaigns/{id}", (*Console).updateCampaign, false},
		{"GET /campaigns/{id}/edit", (*Console).editCampaign, false},
		{"GET /campaigns/{id}/copy", (*Console).copyCampaign, false},
		{"GET /campaigns/{id}/confirm/{deed}", (*Console).confirmCampaign, false},
		{"POST /campaigns/{id}/{deed}", (*Console).changeCampaign, false},
		{"GET /tasks", (*Console).tasks, false},
		{"GET /tasks/{id}", (*Console).task, false},
		{"GET /tasks/{id}/confirm/{deed}", (*Console).confirmTask, false},
		{"POST /tasks/{id}/{deed}", (*Console).changeTask, false},
		{"GET /unknown", (*Console).unknown, false},
		{"GET /limits", (*Console).limits, false},
		{"GET /lateness", (*Console).lateness, false},
		{"GET /audit", (*Console).audit, false},
		{"GET /hold", (*Console).hold, false},
		{"POST /hold", (*Console).holdAll, false},
		{"POST /release", (*Console).release, false},
		{"POST /preferences", (*Console).preferences, true},
		{"POST /sign-out", (*Console).signOut, true},
		{"GET /sign-in", (*Console).signInPage, true},
		{"POST /sign-in", (*Console).signIn, true},
		{"GET /sign-in/start", (*Console).startSignIn, true},
		{"GET " + callbackPath, (*Console).callback, true},
		{"GET /link/{token}", (*Console).linkPage, true},
		{"POST /link/{token}", (*Console).link, true},
	}
}

// routes puts the pages behind the rules that hold for all of them.
func (c *Console) routes() (http.Handler, error) {
	mux := http.NewServeMux()
	for _, r := range allRoutes() {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) { c.serve(w, req, r) })
	}
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		return nil, err
	}
	mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServerFS(assets)))
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		c.serve(w, req, route{serve: func(*Console, *exchange) error { return errNoPage }, open: true})
	})
	same := http.NewCrossOriginProtection()
	if c.Origin != "" {
		if err := same.AddTrustedOrigin(c.Origin); err != nil {
			return nil, fmt.Errorf("console.url: %w", err)
		}
	}
	return headers(c.onlyProxy(same.Handler(mux))), nil
}

// MaxForm bounds a posted form in bytes: a campaign with ten thousand targets.
// strangersForm bounds those that somebody who is not signed in may post.
const (
	MaxForm       = 4 << 20
	strangersForm = 64 << 10
)

// headers are on every answer. The script may only put text into the page that
// came from here, and nothing may frame it.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types console")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// Errors that have a page of their own.
var (
	errNoPage = errors.New("there is no such page, or you may not see it")
	errForm   = errors.New("the form could not be read")
)

// An exchange is one request with who made it and how they like to read.
type exchange struct {
	http.ResponseWriter
	*http.Request
	*view
	person *person // nil: not signed in
	store  *store.Store
	done   func() // gives up the connection and the turn
}

func newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	return &exchange{ResponseWriter: w, Request: r, view: newView(r), done: func() {}}
}

// serve runs one page and turns its error into a page.
func (c *Console) serve(w http.ResponseWriter, r *http.Request, to route) {
	x := newExchange(w, r)
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	x.Request = r.WithContext(ctx)
	var err error
	if x.person, err = c.who(x.Request); err != nil {
		c.fail(x, err)
		return
	}
	if x.person == nil && !to.open {
		if r.Method != http.MethodGet {
			http.Error(w, x.T("You are not signed in any more. Sign in again; nothing was changed."), http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, "/sign-in?next="+template.URLQueryEscaper(r.URL.RequestURI()), http.StatusSeeOther)
		return
	}
	if r.Method == http.MethodPost { // before the turn, since a browser may be slow
		most := int64(MaxForm)
		if to.open {
			most = strangersForm
		}
		x.Body = http.MaxBytesReader(w, x.Body, most)
		if err := x.ParseForm(); err != nil {
			c.fail(x, errForm)
			return
		}
	}
	if x.person != nil {
		done, err := c.turns.take(ctx)
		if err != nil {
			c.fail(x, err)
			return
		}
		defer done()
		ctx = x.person.as(ctx)
		x.Request, x.done = x.WithContext(ctx), done
		x.store, x.Rights = x.person.store, x.person.rights
		if !to.open { // those may end the session, which waits for its connections
			sitting, leave, err := x.store.Sitting(ctx, unhurried(ctx))
			if err != nil {
				c.fail(x, err)
				return
			}
			defer leave()
			x.store, x.done = sitting, func() { leave(); done() }
		}
		state, err := x.store.State(ctx)
		if err != nil {
			c.fail(x, err)
			return
		}
		x.State, x.Now = state, state.Now
	}
	if err := to.serve(c, x); err != nil {
		c.fail(x, err)
	}
}

// pageTimeout bounds a whole page, all its reads together.
const pageTimeout = 15 * time.Second

// fail shows what went wrong. What the reader can do something about is said;
// the rest goes to the log.
func (c *Console) fail(x *exchange, err error) {
	status, text := http.StatusInternalServerError, x.T("Something went wrong here. It is in the log.")
	var refused store.Refusal
	switch {
	case errors.Is(err, errNoPage), errors.Is(err, store.ErrNoCampaign), errors.Is(err, store.ErrNoTask):
		status, text = http.StatusNotFound, x.T("There is no such page, or you may not see it.")
	case errors.Is(err, errForm):
		status, text = http.StatusBadRequest, x.T("The form could not be read. Go back and try again.")
	case errors.Is(err, store.ErrNoRole):
		c.sessions.end(x.ResponseWriter, x.Request)
		x.Rights = store.Rights{}
		status, text = http.StatusForbidden, x.T("Your database role cannot be used here, or not any more. Ask an admin.")
	case errors.Is(err, errUnmapped):
		status, text = http.StatusForbidden, x.T("It is known who you are, but no rule gives you a role here. Ask an admin.")
	case errors.Is(err, errHeaderMissing):
		status, text = http.StatusForbidden, x.T("The proxy in front signs people in, and it does not say who you are.")
	case errors.Is(err, errHeaderTwice):
		status, text = http.StatusBadRequest, x.T("The request names more than one person. Nothing was done.")
	case errors.Is(err, store.ErrReadTooLong):
		status, text = http.StatusServiceUnavailable, x.T("This takes too long. Narrow it by app, campaign or time.")
	case errors.Is(err, store.ErrRevisionMoved):
		status, text = http.StatusConflict, x.T("Somebody changed the campaign meanwhile. Nothing of yours was written; look at it again.")
	case errors.As(err, &refused):
		status, text = http.StatusUnprocessableEntity, refused.Error()
	case store.IsDenied(err):
		status, text = http.StatusForbidden, x.T("Your database role may not do this.")
	case errors.Is(err, errBusy):
		status, text = http.StatusServiceUnavailable, x.T("Too many people look at pages now. Try again.")
	case store.IsOutage(err), store.IsBlocked(err):
		status, text = http.StatusServiceUnavailable, x.T("The database does not answer now. Try again.")
	default:
		c.Log.WarnContext(x.Context(), "console page failed", "path", x.URL.Path, "error", err)
	}
	if err := c.tell(x, status, text); err != nil {
		c.Log.WarnContext(x.Context(), "console page failed", "path", x.URL.Path, "error", err)
	}
}

// tell answers with a page that says one thing.
func (c *Console) tell(x *exchange, status int, text string) error {
	return c.render(x, status, "message", map[string]string{"Title": x.titleOf(status), "Text": text})
}

// titleOf is the heading of a page that says one thing.
func (x *exchange) titleOf(status int) string {
	switch {
	case status == http.StatusOK:
		return x.T("Sign out")
	case status == http.StatusNotFound:
		return x.T("Not found")
	case status == http.StatusForbidden:
		return x.T("Not allowed")
	case status == http.StatusConflict:
		return x.T("Changed meanwhile")
	case status < http.StatusInternalServerError:
		return x.T("Not done")
	}
	return x.T("Not now")
}

// id reads the number in the path.
func (x *exchange) id() (int64, error) {
	id, err := strconv.ParseInt(x.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0, errNoPage
	}
	return id, nil
}

// seeOther answers a deed with the page that shows it.
func (x *exchange) seeOther(to string) error {
	http.Redirect(x.ResponseWriter, x.Request, to, http.StatusSeeOther)
	return nil
}
