package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

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

// addLock makes a row that is missing, and so locks it: triggers make those of
// every app, unless they were switched off.
func addLock(ctx context.Context, tx pgx.Tx, name string, appNo int32) error {
	_, err := tx.Exec(ctx, `INSERT INTO scheduler.engine_locks (name, app_no) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, appNo)
	return err
}
