package attack_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// TestOneCommandTakesTheSchemaOver upgrades an installation whose admins own the
// schema, as they did when they migrated with role=scheduler_admin.
func TestOneCommandTakesTheSchemaOver(t *testing.T) {
	t.Parallel()
	c := newOldTown(t)
	c.exec(t, `SELECT scheduler.set_owner('scheduler_admin')`)
	if got := state(t, c.as(t, "olga"), `SET ROLE scheduler_admin; UPDATE scheduler.campaign_history SET action = action; DELETE FROM scheduler.decided_tasks`); got != "" {
		t.Fatalf("the old ownership: SQLSTATE %q", got)
	}
	m, err := store.NewMigrator(c.db.URL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Own(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	olga := c.as(t, "olga")
	for sql, want := range map[string]string{
		`UPDATE scheduler.campaign_history SET action = action`:                      denied,
		`DELETE FROM scheduler.decided_tasks`:                                        denied,
		`SET ROLE scheduler_admin; DELETE FROM scheduler.decided_tasks`:              denied,
		`SET ROLE scheduler_admin; LOCK TABLE scheduler.campaigns`:                   denied,
		fmt.Sprintf(`SELECT scheduler.trigger_campaign(%d)`, c.a):                    "",
		fmt.Sprintf(`UPDATE scheduler.campaigns SET name = 'x' WHERE id = %d`, c.b):  "",
		`INSERT INTO scheduler.apps (app_id, provider) VALUES ('c', 'webhook')`:      "",
		`CREATE VIEW audience.v AS SELECT 'x' AS target`:                             "",
		`UPDATE scheduler.apps SET pending_limit = 7`:                                "",
		`INSERT INTO scheduler.app_quotas VALUES (1, 'webhook', 3)`:                  "",
		`SELECT scheduler.delete_app('a', ''), scheduler.delete_quota('a', '', 'x')`: "23503", // it has campaigns
	} {
		if got := state(t, olga, sql); got != want {
			t.Errorf("%s: SQLSTATE %q, want %q", sql, got, want)
		}
	}
}

// TestMigratesWithoutMakingRoles: a login that may make no role, and owns what it
// makes, migrates all the way up and down.
func TestMigratesWithoutMakingRoles(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	name := db.Role(t, "olga", `LOGIN PASSWORD 'secret'`)
	c := &town{db: db, names: map[string]string{"olga": name}}
	c.exec(t, fmt.Sprintf(`DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %%I TO %[1]s', current_database()); END $$`, name))
	m, err := store.NewMigrator(c.url(t, "olga"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := c.as(t, "olga")
	if got := state(t, conn, `INSERT INTO scheduler.apps (app_id, provider) VALUES ('a', 'webhook'); INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('n', 'a', 'webhook');
		SET LOCAL scheduler.daemon = on; UPDATE scheduler.campaigns SET status = 'finished'; DELETE FROM scheduler.campaigns`); got != "" {
		t.Errorf("one role for everything: SQLSTATE %s", got)
	}
	_ = conn.Close(t.Context())
	if err := m.Goto(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
}

// TestMigratorIsNobodyElse migrates with a login that is a member of the owner and
// of nothing else, as the set-up of docs/security.md has it.
func TestMigratorIsNobodyElse(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	pgtest.New(t) // its migrations make the cluster's roles
	c := &town{db: db, names: map[string]string{"migrator": db.Role(t, "migrator", `LOGIN PASSWORD 'secret' NOINHERIT IN ROLE scheduler_owner`)}}
	c.exec(t, `DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO scheduler_owner', current_database()); END $$`)
	m, err := store.NewMigrator(c.url(t, "migrator")+"&role="+store.Owner, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Own(t.Context()); err != nil {
		t.Errorf("to hand over what is the owner's already: %v", err)
	}
	if err := m.Down(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

// TestLimitedLogin looks at the time-outs that a session of such a login has.
func TestLimitedLogin(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	c.exec(t, fmt.Sprintf(`SELECT scheduler.limit_login('%s')`, c.names["mei"]))
	var lock, idle string
	if err := c.as(t, "mei").QueryRow(t.Context(), `SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')`).Scan(&lock, &idle); err != nil {
		t.Fatal(err)
	}
	if lock != "5s" || idle != "1min" {
		t.Errorf("lock_timeout %s, idle_in_transaction_session_timeout %s", lock, idle)
	}
	if got := state(t, c.as(t, "mei"), fmt.Sprintf(`SELECT scheduler.limit_login('%s')`, c.names["li"])); got != denied {
		t.Errorf("an author limits another: SQLSTATE %q", got)
	}
}
