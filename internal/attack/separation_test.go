package attack_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writes are the tables that each role may write directly, with the columns it
// may update; everything else is written by functions, or not at all. A table
// that is new is told here on purpose.
var writes = map[string]map[string]string{
	"scheduler_admin": {
		"apps": "I U", "app_quotas": "I U", "campaigns": "I U", "campaign_targets": "I U", "calendars": "I U", "calendar_days": "I U",
	},
	"scheduler_author": {"campaigns": "I U", "campaign_targets": "I U"},
	"scheduler_reader": {},
	"scheduler_front":  {},
}

// TestTableOfRoles holds the catalog to docs/security.md: what admins, authors,
// readers and fronts may write is this and no more.
func TestTableOfRoles(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	for role, want := range writes {
		got := map[string]string{}
		for _, line := range c.list(t, `
			SELECT c.relname || ':' || concat_ws(' ', CASE WHEN has_any_column_privilege($1, c.oid, 'INSERT') THEN 'I' END, CASE WHEN has_any_column_privilege($1, c.oid, 'UPDATE') THEN 'U' END,
			         CASE WHEN has_table_privilege($1, c.oid, 'DELETE') THEN 'D' END, CASE WHEN has_table_privilege($1, c.oid, 'TRUNCATE') THEN 'T' END)
			  FROM pg_class c WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relkind IN ('r', 'p', 'v')`, role) {
			if table, rights, _ := strings.Cut(line, ":"); rights != "" {
				got[table] = rights
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", role, diff)
		}
	}
}

// TestTheRecordIsNobodysToRewrite tries what docs/security.md denies, as each.
func TestTheRecordIsNobodysToRewrite(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	audits := []string{"decided_tasks", "campaign_history", "rulings", "triggered_tasks", "app_grants"}
	for _, person := range []string{"olga", "mei", "rita", "eve", "desk", "pusher"} {
		conn := c.as(t, person)
		for _, table := range audits {
			column := c.list(t, `SELECT attname::text FROM pg_attribute WHERE attrelid = $1::regclass AND attnum = 2`, "scheduler."+table)[0]
			trials := []string{
				fmt.Sprintf(`UPDATE scheduler.%s SET %s = %[2]s`, table, column),
				fmt.Sprintf(`DELETE FROM scheduler.%s`, table),
				fmt.Sprintf(`TRUNCATE scheduler.%s`, table),
				fmt.Sprintf(`SET LOCAL scheduler.daemon = on; DELETE FROM scheduler.%s`, table),
				fmt.Sprintf(`ALTER TABLE scheduler.%s DISABLE TRIGGER ALL`, table),
			}
			if table != "decided_tasks" || person != "pusher" { // which is the engine's to write
				trials = append(trials, fmt.Sprintf(`INSERT INTO scheduler.%s DEFAULT VALUES`, table))
			}
			for _, sql := range trials {
				if got := state(t, conn, sql); got != denied {
					t.Errorf("%s: %s: SQLSTATE %q, want %s", person, sql, got, denied)
				}
			}
		}
	}
}

// TestDaemonsDoNoDeeds: to rule, to trigger, to hold by hand, to release, to
// grant and to delete are people's.
func TestDaemonsDoNoDeeds(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	conn := c.as(t, "pusher")
	for _, sql := range []string{
		`SELECT scheduler.trigger_campaign(%[1]d)`, `SELECT scheduler.trigger_campaign(%[1]d, 'olga')`, `SELECT scheduler.resolve_task(%[1]d, true)`,
		`SELECT scheduler.hold_pushes('x', 'olga')`, `SELECT scheduler.release_hold()`, `SELECT scheduler.hold_skips_overdue()`, `SELECT scheduler.skip_overdue(1)`,
		`SELECT scheduler.grant_app('a', '', current_user)`, `SELECT scheduler.revoke_app('a', '', 'x')`, `SELECT scheduler.delete_campaign(%[1]d)`,
		`SELECT scheduler.delete_targets(%[1]d)`, `SELECT scheduler.delete_app('a', '')`, `UPDATE scheduler.hold SET released_by = 'olga'`,
		`UPDATE scheduler.hold SET held_by = 'olga'`, `UPDATE scheduler.hold SET skip_before = now()`, `DELETE FROM scheduler.hold`,
		`UPDATE scheduler.hold SET held_since = now(), reason = 'x'; UPDATE scheduler.hold SET held_since = NULL`,
		`DELETE FROM scheduler.decided_tasks WHERE status = 'unknown'`, `DELETE FROM scheduler.decided_tasks WHERE status = 'missed'`,
		`SELECT scheduler.set_owner()`, `SET ROLE scheduler_owner`, `SET ROLE scheduler_admin`,
	} {
		if got := state(t, conn, fmt.Sprintf(sql+`--%[1]d`, c.a)); got != denied {
			t.Errorf("%s: SQLSTATE %q, want %s", sql, got, denied)
		}
	}
	for _, f := range c.list(t, `
		SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'scheduler'::regnamespace AND p.prosecdef AND p.prorettype <> 'trigger'::regtype
		   AND p.proname ~ '^(trigger|resolve|hold|release|skip|unskip|revoke|grant|delete|set)_' AND has_function_privilege('scheduler_daemon', p.oid, 'EXECUTE')`) {
		t.Errorf("a daemon may call %s", f)
	}
}

// TestDaemonPrunesWhatIsOld: retention is the daemon's work all the same.
func TestDaemonPrunesWhatIsOld(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	c.exec(t, fmt.Sprintf(`
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count, reason)
		SELECT 7, app_no, id, 1, 1, 'scheduled', 'missed', '1999-01-03', '1999-01-03', 0, 0, 0, 0, 'late' FROM scheduler.campaigns WHERE id = %d`, c.a))
	if got := state(t, c.as(t, "pusher"), `SELECT FROM scheduler.decided_tasks WHERE id = 7 FOR UPDATE; DELETE FROM scheduler.decided_tasks WHERE id = 7`); got != "" {
		t.Errorf("SQLSTATE %s", got)
	}
}

// TestNobodyIsTheOwner: everything in the schema belongs to the one owner, which
// nobody is a member of, and nobody can become.
func TestNobodyIsTheOwner(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	for _, f := range c.list(t, `
		SELECT 'relation ' || oid::regclass FROM pg_class WHERE relnamespace = 'scheduler'::regnamespace AND relkind IN ('r', 'p', 'v', 'S') AND relowner <> 'scheduler_owner'::regrole
		UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE pronamespace = 'scheduler'::regnamespace AND proowner <> 'scheduler_owner'::regrole
		UNION ALL SELECT 'type ' || oid::regtype FROM pg_type WHERE typnamespace = 'scheduler'::regnamespace AND typowner <> 'scheduler_owner'::regrole
		UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname IN ('scheduler', 'audience') AND nspowner <> 'scheduler_owner'::regrole`) {
		t.Errorf("%s does not belong to scheduler_owner", f)
	}
	for person := range people {
		conn := c.as(t, person)
		for _, sql := range []string{
			`SET ROLE scheduler_owner`, `ALTER TABLE scheduler.rulings OWNER TO CURRENT_USER`, `SELECT scheduler.set_owner(current_user)`,
			`CREATE OR REPLACE FUNCTION scheduler.actor() RETURNS text LANGUAGE sql AS $$ SELECT 'li' $$`, `DROP TABLE scheduler.rulings`,
			`CREATE TRIGGER x BEFORE INSERT ON scheduler.campaigns EXECUTE FUNCTION suppress_redundant_updates_trigger()`, `SET session_replication_role = replica`,
		} {
			if got := state(t, conn, sql); got != denied {
				t.Errorf("%s: %s: SQLSTATE %q, want %s", person, sql, got, denied)
			}
		}
	}
}

// TestDeletingIsOnesOwn: the functions that took DELETE's place delete what is
// the caller's, and tell of nothing else.
func TestDeletingIsOnesOwn(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	for _, trial := range []struct {
		person, sql string
		want        string
	}{
		{"mei", `SELECT scheduler.delete_campaign(%[1]d)::text`, "true"},
		{"mei", `SELECT scheduler.delete_campaign(%[2]d)::text`, "false"},
		{"mei", `SELECT scheduler.delete_campaign(987654321)::text`, "false"},
		{"mei", `SELECT scheduler.delete_targets(%[1]d)::text`, "1"},
		{"mei", `SELECT scheduler.delete_targets(%[1]d, '{ta,tb}')::text`, "1"},
		{"mei", `SELECT scheduler.delete_targets(%[2]d)::text`, "0"},
		{"mei", `SELECT scheduler.delete_targets(%[2]d, '{tb}')::text`, "0"},
		{"mei", `SELECT count(scheduler.delete_campaign(id))::text FROM scheduler.campaigns`, "1"},
		{"desk", `SET ROLE {mei}; SELECT scheduler.delete_campaign(%[1]d)::text`, "true"},
		{"desk", `SET ROLE {mei}; SELECT scheduler.delete_campaign(%[2]d)::text`, "false"},
		{"olga", `SELECT scheduler.delete_campaign(%[2]d)::text`, "true"},
		{"olga", `SET ROLE scheduler_admin; SELECT scheduler.delete_campaign(%[2]d)::text`, "true"},
	} {
		conn := c.as(t, trial.person)
		results, err := conn.PgConn().Exec(t.Context(), "BEGIN; "+c.named(fmt.Sprintf(trial.sql+`--%[1]d %[2]d`, c.a, c.b))+"\n; ROLLBACK").ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", trial.sql, err)
		}
		var got string
		for _, r := range results {
			if len(r.Rows) == 1 {
				got = string(r.Rows[0][0])
			}
		}
		if got != trial.want {
			t.Errorf("%s: %s: %q, want %q", trial.person, trial.sql, got, trial.want)
		}
	}
	for _, person := range []string{"rita", "eve", "desk", "pusher"} {
		if got := state(t, c.as(t, person), fmt.Sprintf(`SELECT scheduler.delete_campaign(%d)`, c.a)); got != denied {
			t.Errorf("%s deletes: SQLSTATE %q", person, got)
		}
	}
}

// TestAWritingReaderWritesItsOwn: to read everything is not to write everything.
func TestAWritingReaderWritesItsOwn(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	c.exec(t, fmt.Sprintf(`GRANT scheduler_reader TO %s`, c.names["mei"]))
	var own, foreign bool
	row := c.as(t, "mei").QueryRow(t.Context(), `SELECT scheduler.may_write(a.app_no), scheduler.may_write(b.app_no) FROM scheduler.apps a, scheduler.apps b WHERE a.app_id = 'a' AND b.app_id = 'b'`)
	if err := row.Scan(&own, &foreign); err != nil || !own || foreign {
		t.Errorf("may write own %v, foreign %v, %v", own, foreign, err)
	}
}

// TestTheEngineHoldsByAFunction: the engine may hold by a function with the
// owner's rights, and is named as the engine; it does not release by one.
func TestTheEngineHoldsByAFunction(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	c.exec(t, `
		CREATE FUNCTION scheduler.in_doubt() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ UPDATE scheduler.hold SET held_since = now(), reason = 'copy' $$;
		CREATE FUNCTION scheduler.out_of_doubt() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ UPDATE scheduler.hold SET held_since = NULL $$;
		SELECT scheduler.grant_privileges()`)
	conn := c.as(t, "pusher")
	if _, err := conn.Exec(t.Context(), `SELECT scheduler.in_doubt()`); err != nil {
		t.Fatal(err)
	}
	var by string
	if c.scan(t, &by, `SELECT held_by FROM scheduler.hold`); by != "scheduler" {
		t.Errorf("held by %q", by)
	}
	if got := state(t, conn, `SELECT scheduler.out_of_doubt()`); got != denied {
		t.Errorf("released: SQLSTATE %q", got)
	}
}
