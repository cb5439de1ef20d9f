package attack_test

import (
	"fmt"
	"slices"
	"testing"
)

// TestNobodyLocksATable tries every lock on every relation as everybody. What a
// reader's SELECT and a writer's INSERT take anyway is all that may be had, and
// the engine waits for neither.
func TestNobodyLocksATable(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	relations := c.list(t, `SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'scheduler'::regnamespace AND relkind IN ('r', 'p', 'v') ORDER BY 1`)
	modes := []string{"ROW SHARE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"}
	for person := range people {
		if person == "pusher" { // the engine's own
			continue
		}
		conn := c.as(t, person)
		for _, relation := range relations {
			for _, mode := range modes {
				// PostgreSQL 16 and later count ROW SHARE to what SELECT takes, and no engine's lock conflicts with it short of DDL.
				if got := state(t, conn, fmt.Sprintf(`LOCK TABLE ONLY %s IN %s MODE NOWAIT`, relation, mode)); got != denied && mode != "ROW SHARE" {
					t.Errorf("%s: LOCK TABLE %s IN %s MODE: SQLSTATE %q, want %s", person, relation, mode, got, denied)
				}
			}
		}
	}
}

// TestNoRightsOnWholeTables looks for what allows such locks, in the catalog.
func TestNoRightsOnWholeTables(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	found := c.list(t, `
		SELECT format('%s: %s on %s', r.rolname, p.privilege, c.oid::regclass)
		  FROM pg_class c, pg_roles r, unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p (privilege)
		 WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relkind IN ('r', 'p', 'v')
		   AND r.rolname IN ('scheduler_admin', 'scheduler_author', 'scheduler_reader', 'scheduler_front')
		   AND has_table_privilege(r.oid, c.oid, p.privilege)`)
	for _, f := range found {
		t.Error(f)
	}
}

// TestReadersLockNoRow tries to lock rows of every table as those who only read.
func TestReadersLockNoRow(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	for _, person := range []string{"rita", "eve", "desk"} {
		conn := c.as(t, person)
		for _, table := range c.list(t, `SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'scheduler'::regnamespace AND relkind IN ('r', 'p')`) {
			for _, strength := range []string{"UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE"} {
				if got := state(t, conn, fmt.Sprintf(`SELECT FROM %s FOR %s NOWAIT`, table, strength)); got != denied {
					t.Errorf("%s: %s FOR %s: SQLSTATE %q, want %s", person, table, strength, got, denied)
				}
			}
		}
	}
}

// TestAuthorsLockTheirOwnRows: authors lock rows of campaigns and targets, since
// they update them, and of no other table.
func TestAuthorsLockTheirOwnRows(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	conn := c.as(t, "mei")
	for _, table := range c.list(t, `SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'scheduler'::regnamespace AND relkind IN ('r', 'p')`) {
		got := state(t, conn, fmt.Sprintf(`SELECT FROM %s FOR KEY SHARE NOWAIT`, table))
		if may := slices.Contains([]string{"scheduler.campaigns", "scheduler.campaign_targets"}, table); may != (got == "") {
			t.Errorf("%s: SQLSTATE %q", table, got)
		}
	}
	// While mei holds all that she can, li's rows are free.
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM scheduler.campaigns FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	if got := state(t, c.as(t, "li"), `SELECT FROM scheduler.campaigns FOR UPDATE NOWAIT`); got != "" {
		t.Errorf("li's own rows: SQLSTATE %q", got)
	}
}
