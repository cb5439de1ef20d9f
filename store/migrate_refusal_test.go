package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// login makes a role that may log in, and returns its URL.
func login(t *testing.T, db *pgtest.DB, name string) string {
	t.Helper()
	run(t, db, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'x'`, name))
	t.Cleanup(func() {
		_, _ = db.Exec(context.WithoutCancel(t.Context()), fmt.Sprintf(`DROP OWNED BY %[1]s; DROP ROLE %[1]s`, name))
	})
	return db.URLAs(t, name, "x")
}

// TestMigrateSaysWhoseSchemaItIs meets schemas of another owner, and logins that
// may make none, before anything is done.
func TestMigrateSaysWhoseSchemaItIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ before, want string }{
		"audience of another":  {`CREATE SCHEMA audience`, "the schema audience is there already and belongs to "},
		"scheduler of another": {`CREATE SCHEMA scheduler`, "the schema scheduler is there already and belongs to "},
		"no right to make one": {`SELECT 1`, "GRANT CREATE ON DATABASE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewEmpty(t)
			who := "migrator_" + strings.ReplaceAll(name, " ", "_") + fmt.Sprint(one[int](t, db, `SELECT pg_backend_pid()`))
			to := login(t, db, who)
			run(t, db, c.before)
			if c.before != `SELECT 1` {
				run(t, db, fmt.Sprintf(`GRANT CREATE ON DATABASE %s TO %s`, pgx.Identifier{one[string](t, db, `SELECT current_database()`)}.Sanitize(), who))
			}
			m, err := store.NewMigrator(to, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Up(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if n := one[int](t, db, `SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('scheduler')`); n != 0 {
				t.Errorf("%d tables were made", n)
			}
		})
	}
}
