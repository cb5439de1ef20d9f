package store

import (
	"context"
	"errors"
	"fmt"
)

// ErrNoTask says that there is no task with the id.
var ErrNoTask = errors.New("there is no such task")

// A Ruling is what an operator found out about the calls of a task whose
// outcome was unknown.
type Ruling struct {
	TaskID   int64
	Sent     bool   // they arrived; else they did not
	Resend   bool   // make them again, with the same message keys; not with Sent
	Note     string // why
	Operator string // the user of the operating system, for the audit
}

// Ruled is what became of the task.
type Ruled struct {
	Status string // succeeded, failed, or running when it is sent again
	Reason string
}

// Resolve applies a ruling and keeps the audit, in one transaction, by the
// database's own function. Only the deliveries of unknown outcome are touched:
// those that were accepted are never sent again. A ruling that nothing was sent
// returns the quota. The error may be ErrNoTask, or a Refusal of a task whose
// outcome is no question, or of a resend for a campaign that may not push.
func (s *Store) Resolve(ctx context.Context, r Ruling) (Ruled, error) {
	var out Ruled
	err := s.pool.QueryRow(ctx, `SELECT status, reason FROM scheduler.resolve_task($1, $2, $3, $4, $5)`, r.TaskID, r.Sent, r.Resend, r.Note, r.Operator).
		Scan(&out.Status, &out.Reason)
	if err != nil {
		return Ruled{}, fmt.Errorf("resolve task %d: %w", r.TaskID, refusal(err, ErrNoTask))
	}
	return out, nil
}
