package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Blocker is a session that holds a lock for which another session waits.
// Without pg_read_all_stats, the login does not see its state.
type Blocker struct {
	PID         int32 // 0: a prepared transaction
	Login       string
	Application string
	State       string        // empty: hidden
	Since       time.Duration // age of its transaction; zero: hidden
}

// String names the session for people.
func (b Blocker) String() string {
	if b.PID == 0 {
		return "a prepared transaction"
	}
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

// Blockers waits for a lock so that the server can say who holds it: for
// blockedWait at first, then twice as long each time until a look has come in
// time, at most for longestBlockedWait. A busy server answers late.
const (
	blockedWait        = 100 * time.Millisecond
	longestBlockedWait = 3 * time.Second
)

// Blockers returns the sessions that hold a lock that a plan of the app needs: the
// planner's own lock, the app's row, the rows of its changed campaigns, or a whole
// table. It asks for each of these locks for a moment, and changes nothing. It
// takes two connections. With an error it returns those found before it.
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
			return uniqueBlockers(out), fmt.Errorf("look for blockers: %w", err)
		}
		out = append(out, found...)
	}
	return uniqueBlockers(out), nil
}

// blockersOf asks for a lock on one connection, and asks on another which
// sessions hold it. It returns none when it gets the lock.
func (s *Store) blockersOf(ctx context.Context, conn *pgx.Conn, ask string, appNo int32) ([]Blocker, error) {
	for wait := blockedWait; wait <= longestBlockedWait; wait *= 2 {
		found, blocked, err := s.blockersWithin(ctx, conn, ask, appNo, wait)
		if err != nil || !blocked {
			return nil, err
		}
		if len(found) > 0 {
			return found, nil
		}
	}
	return nil, nil
}

// blockersWithin waits for a lock for one length, and says whether it waited in
// vain and whom it saw hold the lock.
func (s *Store) blockersWithin(ctx context.Context, conn *pgx.Conn, ask string, appNo int32, wait time.Duration) (found []Blocker, blocked bool, err error) {
	asked := make(chan error, 1)
	go func() { asked <- askInVain(ctx, conn, ask, appNo, wait) }()
	pid := int32(conn.PgConn().PID()) //nolint:gosec // the server's process ids are 32 bits
	for look := time.After(wait / 3); ; look = time.After(wait / 3) {
		select {
		case err := <-asked:
			if IsBlocked(err) {
				return found, true, nil
			}
			return nil, false, err
		case <-look:
			rows, _ := s.db.Query(ctx, `
				SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(state, ''),
				       coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::float8
				  FROM unnest(pg_blocking_pids($1)) pid LEFT JOIN pg_stat_activity USING (pid)`, pid)
			list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Blocker, err error) {
				var since float64
				err = row.Scan(&b.PID, &b.Login, &b.Application, &b.State, &since)
				b.Since = seconds(since)
				return b, err
			})
			if err == nil && len(list) > 0 {
				found = list
			}
		}
	}
}

// askInVain asks for a lock, for a moment, and gives it back. Its error is
// IsBlocked when the moment passed.
func askInVain(ctx context.Context, conn *pgx.Conn, ask string, appNo int32, wait time.Duration) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d`, wait.Milliseconds())); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, ask, appNo)
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

// A Wait is a session of somebody else for which the engine's sessions wait.
type Wait struct {
	PID         int32 // 0: a prepared transaction
	Login       string
	Application string
	Waiting     time.Duration // the longest wait for it
	Sessions    int64         // of the engine that wait
	Relation    string        // empty: not one table's lock
}

// String names the session for people.
func (w Wait) String() string {
	text := fmt.Sprintf("session %d of login %s", w.PID, w.Login)
	if w.PID == 0 {
		text = "a prepared transaction"
	}
	if w.Application != "" {
		text += fmt.Sprintf(" (%s)", w.Application)
	}
	text += fmt.Sprintf(" has the engine wait for %s", w.Waiting.Truncate(time.Second))
	if w.Relation != "" {
		text += " for a lock on " + w.Relation
	}
	return text
}

// Waits returns the sessions for whose locks the engine's sessions, of all
// daemons, have waited for more than a second, the longest wait first. It waits
// for no lock itself.
func (s *Store) Waits(ctx context.Context) ([]Wait, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT pid, login::text, application, (extract(epoch FROM waiting) * 1e9)::bigint, blocked, coalesce(relation, '') FROM scheduler.blockers()`)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Wait])
	if err != nil {
		return nil, fmt.Errorf("look for what the engine waits for: %w", err)
	}
	return out, nil
}

// Names of the rows of scheduler.engine_locks. They take the place of advisory
// locks, which any login could take and keep.
const (
	planLock  = "plan"
	quotaLock = "quota"
	pruneLock = "prune"
)

// lockRow locks a row of engine_locks until the transaction ends, and waits for
// whoever holds it.
func lockRow(ctx context.Context, tx pgx.Tx, name string, appNo int32) error {
	tag, err := tx.Exec(ctx, `SELECT FROM scheduler.engine_locks WHERE name = $1 AND app_no = $2 FOR UPDATE`, name, appNo)
	if err == nil && tag.RowsAffected() == 0 {
		err = addLock(ctx, tx, name, appNo)
	}
	if err != nil {
		return fmt.Errorf("lock %s of app %d: %w", name, appNo, err)
	}
	return nil
}

// tryLockRow locks a row of engine_locks until the transaction ends, unless
// somebody holds it.
func tryLockRow(ctx context.Context, tx pgx.Tx, name string, appNo int32) (bool, error) {
	var there, locked bool
	err := tx.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM scheduler.engine_locks WHERE name = $1 AND app_no = $2),
		       EXISTS (SELECT FROM (SELECT FROM scheduler.engine_locks WHERE name = $1 AND app_no = $2 FOR UPDATE SKIP LOCKED) x)`, name, appNo).
		Scan(&there, &locked)
	if err == nil && !there {
		locked, err = true, addLock(ctx, tx, name, appNo)
	}
	if err != nil {
		return false, fmt.Errorf("lock %s of app %d: %w", name, appNo, err)
	}
	return locked, nil
}

// addLock makes a missing row of engine_locks, and so locks it. Triggers make
// the rows of every app, unless the triggers were switched off.
func addLock(ctx context.Context, tx pgx.Tx, name string, appNo int32) error {
	_, err := tx.Exec(ctx, `INSERT INTO scheduler.engine_locks (name, app_no) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, appNo)
	return err
}
