package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Blocker is a session that holds what another waits for, as far as the login
// may see it: without pg_read_all_stats its state is hidden.
type Blocker struct {
	PID         int32
	Login       string
	Application string
	State       string        // empty: not to be seen
	Since       time.Duration // of its transaction; zero: not to be seen
}

// String names the session for people.
func (b Blocker) String() string {
	s := fmt.Sprintf("session %d of %s", b.PID, orUnknown(b.Login))
	if b.Application != "" {
		s += fmt.Sprintf(" (%s)", b.Application)
	}
	if b.State != "" {
		s += ", " + b.State
	}
	if b.Since > 0 {
		s += fmt.Sprintf(", in a transaction for %s", b.Since.Truncate(time.Second))
	}
	return s
}

func orUnknown(login string) string {
	if login == "" {
		return "an unknown login"
	}
	return login
}

// blockedWait is how long Blockers waits for a lock, so that the server can say
// who holds it.
const blockedWait = 300 * time.Millisecond

// Blockers returns the sessions that hold what a plan of the app needs: the
// planner's own lock, the app's row, the rows of its changed campaigns, or a table
// as a whole. It asks for each of them for a moment, and changes nothing. It takes
// two connections.
func (s *Store) Blockers(ctx context.Context, appNo int32) ([]Blocker, error) {
	var out []Blocker
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for blockers: %w", err)
	}
	defer conn.Release()
	for _, ask := range []string{
		`SELECT FROM scheduler.engine_locks WHERE name = 'plan' AND app_no = $1 FOR UPDATE`,
		`SELECT FROM scheduler.apps WHERE app_no = $1 FOR SHARE`,
		`SELECT FROM scheduler.campaigns WHERE id IN (SELECT campaign_id FROM scheduler.campaign_changes WHERE app_no = $1 LIMIT 100) ORDER BY id FOR SHARE`,
		`SELECT FROM scheduler.campaign_cursors WHERE app_no = $1 AND false FOR UPDATE`,
		`SELECT FROM scheduler.pending_tasks WHERE app_no = $1 AND false FOR UPDATE`,
	} {
		found, err := s.blockersOf(ctx, conn.Conn(), ask, appNo)
		if err != nil {
			return nil, fmt.Errorf("look for blockers: %w", err)
		}
		out = append(out, found...)
	}
	return uniqueBlockers(out), nil
}

// blockersOf asks for a lock on one connection, and on another who is in the way.
func (s *Store) blockersOf(ctx context.Context, conn *pgx.Conn, ask string, appNo int32) ([]Blocker, error) {
	asked := make(chan error, 1)
	go func() { asked <- askInVain(ctx, conn, ask, appNo) }()
	pid := int32(conn.PgConn().PID()) //nolint:gosec // the server's process ids are 32 bits
	var found []Blocker
	for look := time.After(blockedWait / 3); ; look = time.After(blockedWait / 3) {
		select {
		case err := <-asked:
			return found, err
		case <-look:
			rows, _ := s.pool.Query(ctx, `
				SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(state, ''),
				       coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::float8
				  FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids($1))`, pid)
			list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Blocker, err error) {
				var seconds float64
				err = row.Scan(&b.PID, &b.Login, &b.Application, &b.State, &seconds)
				b.Since = time.Duration(seconds * float64(time.Second))
				return b, err
			})
			if err == nil && len(list) > 0 {
				found = list
			}
		}
	}
}

// askInVain asks for a lock, for a moment, and gives it back.
func askInVain(ctx context.Context, conn *pgx.Conn, ask string, appNo int32) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d`, blockedWait.Milliseconds())); err != nil {
		return err
	}
	if _, err = tx.Exec(ctx, ask, appNo); IsBlocked(err) {
		return nil
	}
	return err
}

func uniqueBlockers(list []Blocker) []Blocker {
	seen := make(map[int32]bool)
	var out []Blocker
	for _, b := range list {
		if !seen[b.PID] {
			seen[b.PID] = true
			out = append(out, b)
		}
	}
	return out
}
