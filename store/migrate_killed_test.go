package store_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// slow waits in the middle for a lock that a test holds, and so can be killed
// there.
const slow = `CREATE TABLE scheduler.half ();
SELECT pg_advisory_xact_lock(4711);
`

// waiting is so when the slow migration is in its middle.
const waiting = `SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

func TestTerminatedMigrationHeals(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	before := catalog(t, db)
	release := holdLock(t, db)
	m := migratorWith(t, db.URL, slow+setVersion(t))
	failed := make(chan error, 1)
	go func() { failed <- m.Up(context.WithoutCancel(t.Context())) }()
	eventually(t, db, waiting)
	_, err := db.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'scheduler migrate' AND wait_event = 'advisory'`)
	do(t, err)
	if err := <-failed; err == nil {
		t.Error("the migrator did not notice")
	}
	release()
	checkHeals(t, db, before)
}

func TestKilledMigratorHeals(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	before := catalog(t, db)
	release := holdLock(t, db)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMigrateSlowly$")
	cmd.Env = append(os.Environ(), slowURL+"="+db.URL)
	do(t, cmd.Start())
	eventually(t, db, waiting)
	do(t, cmd.Process.Kill())
	_ = cmd.Wait()
	eventually(t, db, "SELECT WHERE NOT EXISTS ("+waiting+")") // the server notices by itself
	release()
	checkHeals(t, db, before)
}

// slowURL names the database that TestMigrateSlowly is to migrate, in a process
// that TestKilledMigratorHeals kills.
const slowURL = "STORE_TEST_MIGRATE_SLOWLY"

func TestMigrateSlowly(t *testing.T) {
	if url := os.Getenv(slowURL); url != "" {
		do(t, migratorWith(t, url, slow+setVersion(t)).Up(t.Context()))
	}
}

// TestKilledAfterCommit stands for a migrator killed between the migration's
// COMMIT and golang-migrate's own mark.
func TestKilledAfterCommit(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, err := db.Exec(t.Context(), "UPDATE scheduler.schema_migrations SET version = 0, dirty = true")
	do(t, err)
	m := migrator(t, db.URL)
	do(t, m.Up(t.Context()))
	checkVersion(t, m, newest(t))
}

func TestKilledDownHeals(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, err := db.Exec(t.Context(), "UPDATE scheduler.schema_migrations SET version = version - 1, dirty = true")
	do(t, err)
	m := migrator(t, db.URL)
	if got, err := m.Version(t.Context()); err != nil || !got.Interrupted || got.Current != newest(t) {
		t.Errorf("before: %+v, %v", got, err)
	}
	do(t, m.Down(t.Context(), 1))
	checkVersion(t, m, newest(t)-1)
}

// holdLock holds the lock that slow waits for until release is called.
func holdLock(t *testing.T, db *pgtest.DB) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL)
	do(t, err)
	release = func() { _ = conn.Close(context.WithoutCancel(t.Context())) }
	t.Cleanup(release) // when the test fails before
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock(4711)")
	do(t, err)
	return release
}

// checkHeals finds the mark, nothing else, and then a migrator that needs no help.
func checkHeals(t *testing.T, db *pgtest.DB, before []string) {
	t.Helper()
	m := migratorWith(t, db.URL, slow+setVersion(t))
	got, err := m.Version(t.Context())
	do(t, err)
	want := store.SchemaVersion{Current: newest(t), Newest: newest(t) + 1, Interrupted: true}
	if got != want {
		t.Errorf("after the kill: got %+v, want %+v", got, want)
	}
	if diff := cmp.Diff(before, catalog(t, db)); diff != "" {
		t.Errorf("the killed migration left something:\n%s", diff)
	}
	do(t, m.Up(t.Context()))
	checkVersion(t, m, newest(t)+1)
	var name string
	do(t, db.QueryRow(t.Context(), "SELECT to_regclass('scheduler.half')::text").Scan(&name))
	if name != "scheduler.half" {
		t.Errorf("the migration did not run: %q", name)
	}
}
