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

// DefaultConsole is where the console listens beside an embedded database.
const DefaultConsole = "127.0.0.1:8082"

// consoleWrite bounds the serving of one page.
const consoleWrite = 30 * time.Second

// A Console is the web console on its listener.
type Console struct {
	console *console.Console
	server  *listen.Server
	url     string
}

// NewConsole makes a console over a database and binds its listener; address is
// where, in place of the configuration's. owner, when set, is who signs in with a
// link. signInURL leads to the database for people who sign in with their own
// login. Start lets it serve.
func NewConsole(ctx context.Context, o Options, address, signInURL string, owner *store.Store) (*Console, error) {
	c := o.Config.Console
	secure, err := listen.TLS(c.CertFile, c.KeyFile, "")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	d := o.Config.Database
	pages, err := console.New(console.Config{
		SignIn: func(ctx context.Context, user, password string) (*store.Store, error) {
			s, err := store.SignIn(ctx, store.Config{
				URL: signInURL, MaxConns: 2, ConnectTimeout: d.ConnectTimeout, StatementTimeout: d.StatementTimeout,
			}, store.Login{User: user, Password: password})
			if errors.Is(err, store.ErrLoginRefused) {
				return nil, console.ErrSignIn
			}
			return s, err
		},
		Owner: owner, Judge: judge.Judge{Adapters: o.Adapters}, Apps: o.Config.Apps, Log: o.Log,
		Secure: secure != nil || c.BehindProxy, Origin: strings.TrimSuffix(c.URL, "/"),
	})
	if err != nil {
		return nil, err
	}
	server, err := listen.New(ctx, listen.Config{
		Listen: address, TLS: secure, Handler: pages.Handler(), MaxBody: console.MaxForm, WriteTimeout: consoleWrite, Log: o.Log,
	})
	if err != nil {
		pages.Close()
		return nil, fmt.Errorf("console: %w", err)
	}
	out := &Console{console: pages, server: server, url: strings.TrimSuffix(c.URL, "/")}
	if out.url == "" {
		scheme := "http"
		if secure != nil {
			scheme = "https"
		}
		out.url = (&url.URL{Scheme: scheme, Host: server.Addr().String()}).String()
	}
	return out, nil
}

// URL is where browsers find the console.
func (c *Console) URL() string { return c.url }

// Link is a URL that signs the owner in, once.
func (c *Console) Link() string { return c.url + c.console.Link() }

// SetApps takes over the apps of another configuration.
func (c *Console) SetApps(apps []config.App) { c.console.SetApps(apps) }

// Start begins to serve in the background.
func (c *Console) Start() { c.server.Start() }

// Stop ends the listener, then every session.
func (c *Console) Stop(ctx context.Context) error {
	err := c.server.Stop(ctx)
	c.console.Close()
	return err
}

// startConsole starts the console where the configuration wants one, and beside
// an embedded database.
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
		signIn, owner = a.postgres.current().TCPURL(), a.store
	}
	c, err := NewConsole(ctx, o, cmp.Or(address, DefaultConsole), signIn, owner)
	if address == "" && errors.Is(err, syscall.EADDRINUSE) { // somebody has the usual port
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
