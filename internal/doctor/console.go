package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/openid"
	"github.com/campaign-scheduler/scheduler/store"
)

// console examines how people sign in to the console through an identity provider
// or a proxy: the identity provider, the login that acts for people, and each role.
func (e *examination) console(ctx context.Context) {
	switch c := e.Config.Console; c.SignIn {
	case config.SignInOIDC:
		e.provider(ctx, c.OIDC)
		e.front(ctx, c)
	case config.SignInProxy:
		e.front(ctx, c)
	}
}

func (e *examination) provider(ctx context.Context, c config.OIDC) {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	client := openid.New(c, "")
	defer client.Close()
	if err := client.Check(ctx); err != nil {
		e.wrong("console sign-in", c.Issuer+": "+err.Error(), "look at console.oidc.issuer, which must be as the provider itself writes it, at console.oidc.ca_file, and at the network")
		return
	}
	e.ok("console sign-in", c.Issuer+" describes itself, and its keys can be read")
}

// front examines the login that acts for people, and sets each role once.
func (e *examination) front(ctx context.Context, c config.Console) {
	ctx, cancel := context.WithTimeout(ctx, 2*e.Timeout)
	defer cancel()
	cfg := store.Config{URL: c.DatabaseURL.Reveal(), MaxConns: 1, ConnectTimeout: e.Timeout, StatementTimeout: e.Config.Database.StatementTimeout}
	login, err := store.Open(ctx, cfg)
	if err != nil {
		e.wrong("console", err.Error(), "write console.database_url as postgres://USER@HOST/DATABASE")
		return
	}
	defer login.Close()
	if err := login.CheckFront(ctx); err != nil {
		e.wrong("console", err.Error(), "look at console.database_url; docs/console.md says what the login needs")
		return
	}
	e.ok("console", "its login may act for people, and is nobody's otherwise")
	front, err := store.OpenFront(ctx, cfg)
	if err != nil {
		e.wrong("console", err.Error(), "")
		return
	}
	defer front.Close()
	seen := map[string]bool{}
	for _, r := range c.Roles {
		if !seen[r.Role] {
			seen[r.Role] = true
			e.frontRole(store.As(ctx, r.Role), front, r.Role)
		}
	}
}

func (e *examination) frontRole(ctx context.Context, front *store.Store, role string) {
	name := "console role " + role
	switch rights, err := front.Rights(ctx); {
	case errors.Is(err, store.ErrNoRole):
		e.wrong(name, "the console's login cannot take it on", fmt.Sprintf("as an admin of the cluster: create the role where it is missing, and GRANT %s TO the login of console.database_url", role))
	case store.IsDenied(err):
		e.wrong(name, "it has no rights in the scheduler", "grant it scheduler_author, scheduler_reader or scheduler_admin")
	case err != nil:
		e.wrong(name, err.Error(), "look at the database's log")
	case rights.Actor != role:
		e.wrong(name, "audits would name "+rights.Actor+" for it", "GRANT scheduler_front TO the login of console.database_url")
	default:
		e.ok(name, "the console's login may act for it, and audits name it")
	}
}
