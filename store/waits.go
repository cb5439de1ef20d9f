package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

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

// Waits returns for whose locks the engine's sessions, of all daemons, have waited
// for more than a second, the longest wait first. It waits for no lock itself.
func (s *Store) Waits(ctx context.Context) ([]Wait, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT pid, login::text, application, (extract(epoch FROM waiting) * 1e9)::bigint, blocked, coalesce(relation, '') FROM scheduler.blockers()`)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Wait])
	if err != nil {
		return nil, fmt.Errorf("look for what the engine waits for: %w", err)
	}
	return out, nil
}
