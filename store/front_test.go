package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/campaign-scheduler/scheduler/store"
)

// front makes a login that may act for the author, the reader and the admin, and
// opens it with as many connections as asked.
func (p people) front(t *testing.T, conns int) (s *store.Store, login string) {
	t.Helper()
	login = p.db.Role(t, "desk", `LOGIN PASSWORD 'secret' NOINHERIT IN ROLE scheduler_front`)
	p.exec(t, fmt.Sprintf(`GRANT %s, %s, %s TO %s`, p.names["author"], p.names["reader"], p.names["admin"], login))
	s, err := store.OpenFront(t.Context(), store.Config{URL: p.db.URLAs(t, login, "secret"), MaxConns: conns})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, login
}

// Three people at once on two connections: each is who they are, and sees what
// they may see.
func TestFrontKeepsPeopleApart(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	s, _ := p.front(t, 2)
	rows := map[string]int{"author": 1, "reader": 2, "admin": 2}
	var group errgroup.Group
	for person, want := range rows {
		for range 4 {
			group.Go(func() error {
				for range 25 {
					ctx := store.As(t.Context(), p.names[person])
					r, err := s.Rights(ctx)
					if err != nil {
						return err
					}
					if r.Role != p.names[person] || r.Actor != r.Role || r.Hold != (person == "admin") || r.Write == (person == "reader") {
						return fmt.Errorf("%s has the rights %+v", person, r)
					}
					list, _, err := s.FindCampaigns(ctx, "", store.Filter{Limit: 10}, 0)
					if err != nil {
						return err
					}
					if len(list) != want {
						return fmt.Errorf("%s sees %d campaigns, want %d", person, len(list), want)
					}
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// A front acts for nobody who is not named, and for nobody whose role it was not
// granted: from the moment at which the grant is revoked, or the role is gone.
func TestFrontActsForThoseItMay(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	s, login := p.front(t, 1)
	author := store.As(t.Context(), p.names["author"])
	if _, err := s.Rights(author); err != nil {
		t.Fatal(err)
	}
	var super string
	if err := p.db.QueryRow(t.Context(), `SELECT current_user`).Scan(&super); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ctx  context.Context //nolint:containedctx // it is what is tried
		want error
	}{
		"nobody":        {t.Context(), store.ErrNoPerson},
		"no name":       {store.As(t.Context(), ""), store.ErrNoPerson},
		"the login":     {store.As(t.Context(), "none"), store.ErrNoPerson},
		"a stranger":    {store.As(t.Context(), p.names["stranger"]), store.ErrNoRole},
		"a superuser":   {store.As(t.Context(), super), store.ErrNoRole},
		"no such role":  {store.As(t.Context(), "no such role"), store.ErrNoRole},
		"not SQL":       {store.As(t.Context(), `"; RESET ROLE; --`), store.ErrNoRole},
		"too long":      {store.As(t.Context(), strings.Repeat("x", 100)), store.ErrNoRole},
		"a null letter": {store.As(t.Context(), "a\x00b"), nil},
	} {
		_, err := s.Rights(c.ctx)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("as %s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := s.Rights(author); err != nil {
		t.Errorf("after the refusals: %v", err)
	}
	p.exec(t, fmt.Sprintf(`REVOKE %s FROM %s`, p.names["author"], login))
	if _, err := s.Rights(author); !errors.Is(err, store.ErrNoRole) {
		t.Errorf("after the role was revoked: %v", err)
	}
}

// What makes a login unfit for a front is said, with the way out.
func TestCheckFront(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	_, login := p.front(t, 1)
	open := func(url string) *store.Store {
		s, err := store.Open(t.Context(), store.Config{URL: url, MaxConns: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	desk := open(p.db.URLAs(t, login, "secret"))
	if err := desk.CheckFront(t.Context()); err != nil {
		t.Errorf("a front: %v", err)
	}
	refused := func(s *store.Store, want string) {
		t.Helper()
		if err := s.CheckFront(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want one with %q", err, want)
		}
	}
	refused(open(p.db.URL), "is a superuser's")
	refused(open(p.db.URLAs(t, p.names["author"], "secret")), "no member of scheduler_front")
	p.exec(t, fmt.Sprintf(`GRANT %s TO %s`, p.names["daemon"], login)) // through a person's role
	refused(desk, "may take on scheduler_daemon")
}
