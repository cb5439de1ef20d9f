package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/console"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/internal/listen"
	"github.com/campaign-scheduler/scheduler/store"
)

// DefaultConsole is the default address of the console with the embedded database.
const DefaultConsole = "127.0.0.1:8082"

// ownerConns bounds the connections of whoever signed in with the link.
const ownerConns = 4

// Bounds of the console's listener: the time in which one page is served, and the
// connections, of which each browser keeps a few.
const (
	consoleWrite = 30 * time.Second
	consoleConns = 1000
)

// A Console is the web console on its listener.
type Console struct {
	console *console.Console
	server  *listen.Server
	front   *store.Store // acts for people; nil: they use their own login
	url     string
}

// NewConsole makes a console for a database and binds its listener. address is used
// instead of the configured one. owner, if not nil, acts for the person who signs in
// with the link. databaseURL is the database for people who sign in with their own
// login. The console serves after Start.
func NewConsole(ctx context.Context, o Options, address, databaseURL string, owner *store.Store) (*Console, error) {
	c := o.Config.Console
	secure, err := listen.TLS(c.CertFile, c.KeyFile, "")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	out := &Console{url: strings.TrimSuffix(c.URL, "/")}
	cfg := console.Config{
		Owner: owner, Settings: c, Judge: judge.Judge{Adapters: o.Adapters}, Apps: o.Config.Apps, Log: o.Log,
		Secure: secure != nil || c.BehindProxy, Origin: out.url,
	}
	if c.SignIn == config.SignInLogin {
		cfg.SignIn = signIn(storeConfig(o.Config, databaseURL, 2))
	} else {
		if out.front, err = store.OpenFront(ctx, storeConfig(o.Config, c.DatabaseURL.Reveal(), c.MaxConnections)); err != nil {
			return nil, fmt.Errorf("console.database_url: %w", err)
		}
		cfg.Front = out.front
	}
	if err := out.serve(ctx, cfg, listen.Config{
		Listen: address, TLS: secure, MaxConns: consoleConns, MaxBody: console.MaxForm, WriteTimeout: consoleWrite, Log: o.Log,
		Plain: secure == nil && !c.BehindProxy,
	}); err != nil {
		out.closeFront()
		return nil, err
	}
	return out, nil
}

func storeConfig(c *config.Config, databaseURL string, conns int) store.Config {
	return store.Config{URL: databaseURL, MaxConns: conns, ConnectTimeout: c.Database.ConnectTimeout, StatementTimeout: c.Database.StatementTimeout}
}

// signIn opens the database with a person's own login.
func signIn(cfg store.Config) func(ctx context.Context, user, password string) (*store.Store, error) {
	return func(ctx context.Context, user, password string) (*store.Store, error) {
		s, err := store.SignIn(ctx, cfg, store.Login{User: user, Password: password})
		if errors.Is(err, store.ErrLoginRefused) {
			return nil, console.ErrSignIn
		}
		return s, err
	}
}

// serve makes the pages and binds the listener.
func (c *Console) serve(ctx context.Context, cfg console.Config, at listen.Config) (err error) {
	if c.console, err = console.New(cfg); err != nil {
		return err
	}
	at.Handler = c.console.Handler()
	if c.server, err = listen.New(ctx, at); err != nil {
		c.console.Close()
		return fmt.Errorf("console: %w", err)
	}
	if c.url == "" {
		scheme := "http"
		if at.TLS != nil {
			scheme = "https"
		}
		c.url = (&url.URL{Scheme: scheme, Host: c.server.Addr().String()}).String()
	}
	return nil
}

func (c *Console) closeFront() {
	if c.front != nil {
		c.front.Close()
	}
}

// URL returns the address at which browsers reach the console.
func (c *Console) URL() string { return c.url }

// Link returns a URL that signs the owner in once.
func (c *Console) Link() string { return c.url + c.console.Link() }

// Reload takes over the apps and the role rules of a new configuration. The way of
// signing in does not change.
func (c *Console) Reload(apps []config.App, settings config.Console) {
	c.console.SetApps(apps)
	c.console.SetSignIn(settings)
}

// Start serves in the background and does not block.
func (c *Console) Start() { c.server.Start() }

// Stop ends the listener, then every session.
func (c *Console) Stop(ctx context.Context) error {
	err := c.server.Stop(ctx)
	c.console.Close()
	c.closeFront()
	return err
}

// startConsole starts the console if it is configured, or if the database is the
// embedded one.
func (a *App) startConsole(ctx context.Context, apps []config.App) error {
	address := a.Config.Console.Listen
	if address == "" && a.postgres == nil {
		return nil
	}
	o := a.Options
	settings := *o.Config
	settings.Apps = apps
	o.Config = &settings
	signIn, owner := a.Config.Database.URL.Reveal(), (*store.Store)(nil)
	if a.postgres != nil {
		signIn = a.postgres.current().TCPURL()
		// The console has a pool of its own, so that pages that wait for a connection
		// do not keep the daemon waiting.
		own, err := store.Open(ctx, storeConfig(a.Config, a.databaseURL, ownerConns))
		if err != nil {
			return err
		}
		owner = own
		a.closers = append(a.closers, closer{"console's database pool", func(context.Context) error { own.Close(); return nil }})
	}
	c, err := NewConsole(ctx, o, cmp.Or(address, DefaultConsole), signIn, owner)
	if address == "" && errors.Is(err, syscall.EADDRINUSE) { // another program has the usual port
		c, err = NewConsole(ctx, o, "127.0.0.1:0", signIn, owner)
	}
	if err != nil {
		return err
	}
	a.console = c
	c.Start()
	a.closers = append(a.closers, closer{"console", c.Stop})
	return nil
}
