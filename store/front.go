package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// A front is a login that acts for people whom another program has identified. It
// takes on the database role of the person. It then acts with the person's rights
// and under the person's name, see scheduler.actor().

// takeRole has the statements that follow run as a role, in the session or only
// in the transaction. PostgreSQL allows this to logins that are members of the
// role.
const takeRole = `SELECT set_config('role', $1, $2)`

// Errors of acting for a person.
var (
	// ErrNoPerson says that the context of a front's call names no person.
	ErrNoPerson = errors.New("no person is named for whom the front acts")
	// ErrNoRole says that the front's login may not take on the person's role, or
	// that there is no such role.
	ErrNoRole = errors.New("the role cannot be taken on")
)

type personKey struct{}

// As returns a context in which a Store of OpenFront acts as a role.
func As(ctx context.Context, role string) context.Context {
	return context.WithValue(ctx, personKey{}, role)
}

// OpenFront opens a Store whose login acts for people. All of them share its
// connections. Each use of a connection takes on the role that As put into the
// context, so that a revoked role is refused at once. Without a role it fails
// with ErrNoPerson. Errors of its functions may be ErrNoRole.
func OpenFront(ctx context.Context, cfg Config) (*Store, error) {
	cfg.front = true
	return Open(ctx, cfg)
}

// actAs takes on the role of the context's person.
func actAs(ctx context.Context, c *pgx.Conn) (bool, error) {
	role, _ := ctx.Value(personKey{}).(string)
	if role == "" || role == "none" { // none means the login itself
		return true, ErrNoPerson
	}
	_, err := c.Exec(ctx, takeRole, pgx.QueryExecModeExec, role, false)
	switch state := sqlState(err); {
	case err == nil:
		return true, nil
	case state == insufficientPrivilege || state == "22023": // invalid_parameter_value: there is no such role
		return true, fmt.Errorf("%w: %w", ErrNoRole, err)
	case ctx.Err() != nil:
		return false, fmt.Errorf("take on a role: %w", err)
	}
	return false, nil // another connection is tried
}

// actAsNobody gives the role back, so that an idle connection has no rights.
func actAsNobody(c *pgx.Conn) bool {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_, err := c.Exec(ctx, `RESET ROLE`, pgx.QueryExecModeSimpleProtocol)
	return err == nil
}

// CheckFront returns why the pool's own login must not act for people, or nil.
// The login must be in scheduler_front, so that audits name the person. It must
// not be able to get the rights of the engine or the owner.
func (s *Store) CheckFront(ctx context.Context) error {
	var login, strong string
	var front, super bool
	err := s.db.QueryRow(ctx, `
		SELECT r.rolname, coalesce(pg_has_role(r.oid, to_regrole('scheduler_front'), 'MEMBER'), false), r.rolsuper,
		       coalesce((SELECT string_agg(x.rolname, ', ' ORDER BY x.rolname) FROM pg_roles x
		                  WHERE (x.rolsuper OR x.rolname IN ('scheduler_owner', 'scheduler_daemon')) AND pg_has_role(r.oid, x.oid, 'MEMBER')), '')
		  FROM pg_roles r WHERE r.rolname = session_user`).Scan(&login, &front, &super, &strong)
	switch {
	case err != nil:
		return fmt.Errorf("look at the front's login: %w", err)
	case super:
		return fmt.Errorf("the login %s is a superuser's: it must be one of its own, CREATE ROLE desk LOGIN NOINHERIT IN ROLE scheduler_front", login)
	case !front:
		return fmt.Errorf("the login %s is no member of scheduler_front, so audits would not name the person: GRANT scheduler_front TO %s", login, pgx.Identifier{login}.Sanitize())
	case strong != "":
		return fmt.Errorf("the login %s may take on %s, through itself or through the role of a person: revoke that", login, strong)
	}
	return nil
}
