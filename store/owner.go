package store

import (
	"context"
	"fmt"
)

// Owner is the role that owns the schema where it is separated from everybody's
// everyday roles.
const Owner = "scheduler_owner"

// Own hands the schema over to Owner, which is made when it is missing. It takes
// a superuser, or a login that is a member of the present owner and of Owner. To
// do it again changes nothing.
func (m *Migrator) Own(ctx context.Context) error {
	db := m.database()
	defer db.Close()
	current, err := appliedVersion(ctx, db)
	if err != nil {
		return fmt.Errorf("migrate own: %w", err)
	}
	if err := compareSchema(current, m.newest); err != nil {
		return fmt.Errorf("migrate own: %w; run: scheduler migrate up", err)
	}
	if _, err := db.ExecContext(ctx, `SELECT scheduler.set_owner($1)`, Owner); err != nil {
		return fmt.Errorf("migrate own: %w", err)
	}
	var left int
	err = db.QueryRowContext(ctx, `
		SELECT (SELECT count(*) FROM pg_namespace WHERE nspname IN ('scheduler', 'audience') AND nspowner <> $1::text::regrole)
		     + (SELECT count(*) FROM pg_class WHERE relnamespace = 'scheduler'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S') AND relowner <> $1::text::regrole)
		     + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'scheduler'::regnamespace AND proowner <> $1::text::regrole)`, Owner).Scan(&left)
	if err != nil {
		return fmt.Errorf("migrate own: %w", err)
	}
	if left > 0 {
		return fmt.Errorf("migrate own: %d objects belong to roles that this login is no member of; use a superuser's login", left)
	}
	return nil
}
