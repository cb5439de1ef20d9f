package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrSharedSessions says that a pooler gives each transaction another server
// connection: what a session is set to, its prepared statements and LISTEN do
// not last.
var ErrSharedSessions = errors.New("a pooler in transaction mode stands before the database, where sessions do not keep their settings; " +
	"set pool_mode = session for this database (PgBouncer: [databases] push = … pool_mode=session), or point database.url at PostgreSQL itself")

// CheckSessions says whether the database's sessions are this program's own:
// nil, ErrSharedSessions, or that the database cannot be asked.
func (s *Store) CheckSessions(ctx context.Context) error {
	shared, _, err := s.pooler(ctx)
	if err == nil && shared {
		return ErrSharedSessions
	}
	return err
}

// probes is how many connections are used to find out what a pooler does.
const probes = 4

// pooler finds out whether a pooler stands between, which gives the client an id
// of its own making, and whether it shares sessions: then others, which keep a
// transaction open, get hold of the server connection that ours had.
func (s *Store) pooler(ctx context.Context) (shared, between bool, err error) {
	cfg := s.pool.Config().ConnConfig
	ours, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return false, false, fmt.Errorf("connect: %w", err)
	}
	defer closeProbe(ctx, ours)
	pid, err := backend(ctx, ours)
	switch {
	case isStatementPooling(err):
		return true, true, nil
	case err != nil:
		return false, false, fmt.Errorf("ask for the server's process: %w", err)
	case pid == ours.PgConn().PID():
		return false, false, nil
	}
	for range probes {
		other, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			return false, true, fmt.Errorf("connect: %w", err)
		}
		defer closeProbe(ctx, other)
		if _, err := other.Exec(ctx, `BEGIN`, pgx.QueryExecModeSimpleProtocol); err != nil {
			if isStatementPooling(err) {
				return true, true, nil
			}
			return false, true, fmt.Errorf("begin: %w", err)
		}
		theirs, err := backend(ctx, other)
		if err != nil {
			return false, true, fmt.Errorf("ask for the server's process: %w", err)
		}
		if theirs == pid {
			return true, true, nil
		}
	}
	again, err := backend(ctx, ours)
	if err != nil {
		return false, true, fmt.Errorf("ask for the server's process: %w", err)
	}
	return again != pid, true, nil
}

func backend(ctx context.Context, c *pgx.Conn) (pid uint32, err error) {
	var n int32
	err = c.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&n)
	return uint32(n), err
}

func closeProbe(ctx context.Context, c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = c.Close(ctx)
}

func isStatementPooling(err error) bool {
	return err != nil && strings.Contains(err.Error(), "statement pooling")
}
