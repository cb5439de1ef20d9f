package attack_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A deed is what somebody does, and whom the audit must name.
type deed struct {
	name    string
	person  string
	setup   string // as that person, before
	do      string // %[1]d is app a's campaign, %[2]d app b's
	audit   string // the names
	by, via string // by is a person, or scheduler; via as actor_via has it, with a person's name in braces
}

const history = `SELECT changed_by, coalesce(changed_via, '') FROM scheduler.campaign_history ORDER BY id DESC LIMIT 1`

var deeds = []deed{
	{"an author's update", "mei", ``, `UPDATE scheduler.campaigns SET name = 'x' WHERE id = %[1]d`, history, "mei", ""},
	{"a name in the setting", "mei", `SET scheduler.actor = 'li'`, `UPDATE scheduler.campaigns SET name = 'x' WHERE id = %[1]d`, history, "mei", ""},
	{"a name set by RETURNING", "mei", ``, `SELECT scheduler.delete_campaign(%[1]d), set_config('scheduler.actor', 'li', true)`, history, "mei", ""},
	{"a name set before a delete", "mei", `SET scheduler.actor = 'li'`, `SELECT scheduler.delete_campaign(%[1]d)`, history, "mei", ""},
	{"a name set by UPDATE RETURNING", "mei", ``, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = %[1]d RETURNING set_config('scheduler.actor', 'li', true)`, history, "mei", ""},
	{"an author who says to be the engine", "mei", `SET scheduler.daemon = on`, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = %[1]d`, history, "mei", ""},
	{
		"an author's insert", "mei", ``, `INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('n', 'a', 'webhook')`,
		`SELECT created_by, coalesce(created_via, '') FROM scheduler.campaigns ORDER BY id DESC LIMIT 1`, "mei", "",
	},
	{"an author as scheduler_author", "mei", `SET ROLE scheduler_author`, `UPDATE scheduler.campaigns SET name = 'x' WHERE false; RESET ROLE; UPDATE scheduler.campaigns SET name = 'x' WHERE id = %[1]d`, history, "mei", ""},

	{"an admin by the role", "olga", `SET ROLE scheduler_admin`, `UPDATE scheduler.campaigns SET name = 'x' WHERE id = %[1]d`, history, "olga", "role scheduler_admin"},
	{
		"an admin's update, in the row", "olga", `SET ROLE scheduler_admin`, `UPDATE scheduler.campaigns SET name = 'x' WHERE id = %[1]d`,
		`SELECT updated_by, coalesce(updated_via, '') FROM scheduler.campaigns ORDER BY updated_at DESC LIMIT 1`, "olga", "role scheduler_admin",
	},
	{
		"an admin's insert with another's name", "olga", `SET ROLE scheduler_admin`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel, created_by, updated_by, created_via) VALUES ('n', 'a', 'webhook', 'li', 'li', 'li')`,
		`SELECT created_by, coalesce(created_via, '') FROM scheduler.campaigns ORDER BY id DESC LIMIT 1`, "olga", "role scheduler_admin",
	},
	{
		"a grant", "olga", `SET ROLE scheduler_admin`, `SELECT scheduler.grant_app('a', '', 'scheduler_author')`,
		`SELECT granted_by, coalesce(granted_via, '') FROM scheduler.app_grants ORDER BY granted_at DESC LIMIT 1`, "olga", "role scheduler_admin",
	},
	{"a ruling", "olga", `SET scheduler.actor = 'li'`, `SELECT scheduler.resolve_task(%[1]d, true)`, `SELECT ruled_by, coalesce(ruled_via, '') FROM scheduler.rulings`, "olga", ""},
	{
		"a trigger", "olga", `SET ROLE scheduler_admin`, `SELECT scheduler.trigger_campaign(%[1]d)`,
		`SELECT triggered_by, coalesce(triggered_via, '') FROM scheduler.triggered_tasks`, "olga", "role scheduler_admin",
	},
	{"a hold", "olga", `SET scheduler.daemon = on`, `SELECT scheduler.hold_pushes('stop')`, `SELECT held_by, coalesce(held_via, '') FROM scheduler.hold`, "olga", ""},
	{
		"a release", "olga", `SET scheduler.daemon = on`, `SELECT scheduler.hold_pushes('stop'), scheduler.release_hold()`,
		`SELECT released_by, coalesce(released_via, '') FROM scheduler.hold`, "olga", "",
	},

	{"a front for a person", "desk", `SET ROLE {mei}`, `UPDATE scheduler.campaigns SET name = 'x' WHERE id = %[1]d`, history, "mei", "front {desk}"},
	{"a front for a person who says to be another", "desk", `SET ROLE {mei}; SET scheduler.actor = 'li'`, `SELECT scheduler.delete_campaign(%[1]d)`, history, "mei", "front {desk}"},

	{"the engine finishes", "pusher", `SET scheduler.daemon = on`, `UPDATE scheduler.campaigns SET status = 'finished' WHERE id = %[1]d`, history, "scheduler", "login {pusher}"},
	{"the engine rejects", "pusher", `SET scheduler.daemon = on`, `UPDATE scheduler.campaigns SET status = 'rejected', status_reason = 'r' WHERE id = %[1]d`, history, "scheduler", "login {pusher}"},
	{"the guard holds", "pusher", ``, `UPDATE scheduler.hold SET held_since = now(), reason = 'copy'`, `SELECT held_by, coalesce(held_via, '') FROM scheduler.hold`, "scheduler", "login {pusher}"},
}

// TestWhoDidItIsWhoDidIt does each deed in a town of its own and looks whom the
// audit names, with the schema owned by nobody and by the login that migrated.
func TestWhoDidItIsWhoDidIt(t *testing.T) {
	t.Parallel()
	for kind, build := range map[string]func(*testing.T) *town{"owner": newTown, "migrator": newOldTown} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := build(t)
			for _, d := range deeds {
				t.Run(d.name, func(t *testing.T) { c.doAndLook(t, d) })
			}
		})
	}
}

func (c *town) doAndLook(t *testing.T, d deed) {
	t.Helper()
	conn := c.as(t, d.person)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	for _, sql := range []string{c.named(d.setup), fmt.Sprintf(d.do+`--%[1]d %[2]d`, c.a, c.b)} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	by, via := c.look(t, tx, d.audit)
	want := d.by
	if name, ok := c.names[d.by]; ok {
		want = name
	}
	if by != want || via != c.named(d.via) {
		t.Errorf("the audit names %q via %q, want %q via %q", by, via, want, c.named(d.via))
	}
}

// look reads an audit in the transaction itself, as the one who did it.
func (c *town) look(t *testing.T, tx pgx.Tx, sql string) (by, via string) {
	t.Helper()
	if err := tx.QueryRow(t.Context(), sql).Scan(&by, &via); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return by, via
}

func (c *town) named(text string) string {
	for person, login := range c.names {
		text = strings.ReplaceAll(text, "{"+person+"}", login)
	}
	return text
}

// TestFrontIsOnlyAMemberOfIt: SET ROLE names another only for a front, and a
// superuser is none by being everything.
func TestFrontIsOnlyAMemberOfIt(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	c.exec(t, fmt.Sprintf(`GRANT %s TO %s`, c.names["mei"], c.names["olga"]))
	var by, super string
	olga := c.as(t, "olga")
	if _, err := olga.Exec(t.Context(), `SET ROLE `+c.names["mei"]); err != nil {
		t.Fatal(err)
	}
	if err := olga.QueryRow(t.Context(), `SELECT scheduler.actor()`).Scan(&by); err != nil {
		t.Fatal(err)
	}
	tx, err := c.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `SET LOCAL ROLE `+c.names["mei"]); err != nil {
		t.Fatal(err)
	}
	var same bool
	if err := tx.QueryRow(t.Context(), `SELECT scheduler.actor(), scheduler.actor() = session_user`).Scan(&super, &same); err != nil {
		t.Fatal(err)
	}
	if by != c.names["olga"] || !same {
		t.Errorf("olga as mei is named %q, the superuser as mei %q", by, super)
	}
}

// TestTheEngineSetsWhatIsTheEngines: nothing but finished and rejected, whoever
// says to be the engine.
func TestTheEngineSetsWhatIsTheEngines(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	conn := c.as(t, "pusher")
	for _, say := range []string{"", "SET LOCAL scheduler.daemon = on;"} {
		for _, change := range []string{"status = 'cancelled'", "status = 'paused'", "status_reason = 'x'", "status = 'active', status_reason = 'x'"} {
			if got := state(t, conn, fmt.Sprintf(`%s UPDATE scheduler.campaigns SET %s WHERE id = %d`, say, change, c.a)); got != denied {
				t.Errorf("%s SET %s: SQLSTATE %q, want %s", say, change, got, denied)
			}
		}
	}
	owner := c.as(t, "olga")
	for _, status := range []string{"finished", "rejected"} {
		if got := state(t, owner, fmt.Sprintf(`SET LOCAL scheduler.daemon = on; UPDATE scheduler.campaigns SET status = '%s' WHERE id = %d`, status, c.a)); got != refused {
			t.Errorf("an admin sets %s: SQLSTATE %q, want %s", status, got, refused)
		}
	}
}

// TestEveryAuditIsSigned holds the next audit to the rule: a column that says
// who did something has a default of nobody's making and is granted to nobody.
func TestEveryAuditIsSigned(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	found := c.list(t, `
		SELECT format('%s may write %s.%s', r.rolname, c.oid::regclass, a.attname)
		  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname ~ '_(by|via)$' AND NOT a.attisdropped, pg_roles r
		 WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relkind IN ('r', 'p') AND r.rolname IN ('scheduler_daemon', 'scheduler_author', 'scheduler_reader')
		   AND (has_column_privilege(r.oid, c.oid, a.attnum, 'INSERT') OR has_column_privilege(r.oid, c.oid, a.attnum, 'UPDATE'))`)
	for _, f := range found {
		t.Error(f)
	}
}
