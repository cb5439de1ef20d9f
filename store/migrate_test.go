package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/migrations"
	"github.com/campaign-scheduler/scheduler/store"
)

func TestMigrateUpDownUp(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t) // where Up has been
	m := migrator(t, db.URL)
	checkVersion(t, m, newest(t))

	full := catalog(t, db)
	do(t, m.Up(t.Context())) // nothing to do
	do(t, m.Goto(t.Context(), 0))
	checkVersion(t, m, 0)
	if diff := cmp.Diff(catalog(t, pgtest.NewEmpty(t)), catalog(t, db)); diff != "" {
		t.Errorf("going down leaves something (-before +after):\n%s", diff)
	}
	do(t, m.Up(t.Context()))
	if diff := cmp.Diff(full, catalog(t, db)); diff != "" {
		t.Errorf("up, down and up again is not up (-first +second):\n%s", diff)
	}
}

// TestEachStepIsUndone goes up one migration at a time, down again, and up once
// more: the catalog of a version must be the same each time.
func TestEachStepIsUndone(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	m := migrator(t, db.URL)
	catalogs := [][]string{catalog(t, db)} // by version
	for version := 1; version <= newest(t); version++ {
		do(t, m.Goto(t.Context(), version))
		catalogs = append(catalogs, catalog(t, db))
	}
	for version := newest(t); version > 0; version-- {
		do(t, m.Down(t.Context(), 1))
		if diff := cmp.Diff(catalogs[version-1], catalog(t, db)); diff != "" {
			t.Errorf("%06d down leaves another schema (-before +after):\n%s", version, diff)
		}
	}
	for version := 1; version <= newest(t); version++ {
		do(t, m.Goto(t.Context(), version))
		if diff := cmp.Diff(catalogs[version], catalog(t, db)); diff != "" {
			t.Errorf("%06d up again makes another schema (-first +second):\n%s", version, diff)
		}
		checkVersion(t, m, version)
	}
}

func TestDownTakesNoMoreThanThereIs(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	m := migrator(t, db.URL)
	do(t, m.Goto(t.Context(), 1))
	do(t, m.Down(t.Context(), 99))
	checkVersion(t, m, 0)
	do(t, m.Down(t.Context(), 1))
}

func TestMigrateRefusesWrongNumbers(t *testing.T) {
	t.Parallel()
	m := migrator(t, pgtest.NewEmpty(t).URL)
	for name, err := range map[string]error{
		"down 0":       m.Down(t.Context(), 0),
		"goto -1":      m.Goto(t.Context(), -1),
		"goto newer":   m.Goto(t.Context(), newest(t)+1),
		"force newer":  m.Force(t.Context(), newest(t)+1),
		"force absent": m.Force(t.Context(), 1),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	checkVersion(t, m, 0)
}

func TestForceRecordsOnly(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	m := migrator(t, db.URL)
	before := catalog(t, db)
	do(t, m.Force(t.Context(), 1))
	checkVersion(t, m, 1)
	do(t, m.Force(t.Context(), newest(t)))
	checkVersion(t, m, newest(t))
	if diff := cmp.Diff(before, catalog(t, db)); diff != "" {
		t.Errorf("force changed the schema:\n%s", diff)
	}
	do(t, m.Up(t.Context()))
}

// Of many, one migrates at a time. On a busy machine the others may be told to
// try again.
func TestManyMigratorsAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	var group errgroup.Group
	for range 4 {
		m := migrator(t, db.URL)
		group.Go(func() error {
			for {
				err := m.Up(t.Context())
				if err == nil || !strings.Contains(err.Error(), "another migration runs") {
					return err
				}
			}
		})
	}
	do(t, group.Wait())
	checkVersion(t, migrator(t, db.URL), newest(t))
}

// TestFilesArePlainSQL gives each file to the server as psql -1 -f does: in one
// multi-statement string, without golang-migrate.
func TestFilesArePlainSQL(t *testing.T) {
	t.Parallel()
	byMigrate, bySQL := pgtest.New(t), pgtest.NewEmpty(t)
	for version := 1; version <= newest(t); version++ {
		execFile(t, bySQL, version, "up")
	}
	if diff := cmp.Diff(catalog(t, byMigrate), catalog(t, bySQL)); diff != "" {
		t.Errorf("psql makes another schema than migrate (-migrate +psql):\n%s", diff)
	}
	do(t, migrator(t, bySQL.URL).Up(t.Context())) // which finds it done
	for version := newest(t); version >= 1; version-- {
		execFile(t, bySQL, version, "down")
	}
	checkVersion(t, migrator(t, bySQL.URL), 0)
}

func TestPlainDownDropsTheSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	execFile(t, db, 1, "up")
	execFile(t, db, 1, "down")
	var left bool
	if err := db.QueryRow(t.Context(), "SELECT to_regnamespace('scheduler') IS NOT NULL").Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left {
		t.Error("the schema is still there")
	}
}

// TestFilesKeepTheRules reads the files: pairs without gaps, no transaction of
// their own, and the version set at the end.
func TestFilesKeepTheRules(t *testing.T) {
	t.Parallel()
	transaction := regexp.MustCompile(`(?im)^\s*(BEGIN|COMMIT|ROLLBACK|START\s+TRANSACTION)\s*;`)
	for version := 1; version <= newest(t); version++ {
		up, down := readFile(t, version, "up"), readFile(t, version, "down")
		if transaction.MatchString(up + "\n" + down) {
			t.Errorf("%06d has a transaction of its own", version)
		}
		checkEnd(t, up, version)
		if version > 1 {
			checkEnd(t, down, version-1)
		}
	}
}

func checkEnd(t *testing.T, file string, version int) {
	t.Helper()
	want := fmt.Sprintf("SELECT scheduler.set_schema_version(%d);", version)
	if !strings.HasSuffix(strings.TrimSpace(file), want) {
		t.Errorf("a file of %06d does not end with %s", version, want)
	}
}

func TestFailingMigrationLeavesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	before := catalog(t, db)
	m := migratorWith(t, db.URL, "CREATE TABLE scheduler.half ();\nSELECT 1/0;\nSELECT nonsense;")
	err := m.Up(t.Context())
	if want := fmt.Sprintf("%06d up was rolled back", newest(t)+1); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("got %v, want %q in it", err, want)
	}
	if strings.Contains(err.Error(), "CREATE TABLE") {
		t.Errorf("the error quotes the file: %v", err)
	}
	if diff := cmp.Diff(before, catalog(t, db)); diff != "" {
		t.Errorf("something is left:\n%s", diff)
	}
	checkVersion(t, m, newest(t))
}

func TestBusyTableDoesNotPoison(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx, err := db.Begin(t.Context())
	do(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM scheduler.schema_version FOR UPDATE")
	do(t, err)
	m := migratorWith(t, db.URL, "SET LOCAL lock_timeout = '10ms';\nSELECT scheduler.set_schema_version(9999);")
	if err := m.Up(t.Context()); err == nil || !strings.Contains(err.Error(), "try again later") {
		t.Errorf("got %v", err)
	}
	do(t, tx.Rollback(t.Context()))
	checkVersion(t, m, newest(t))
	do(t, migratorWith(t, db.URL, setVersion(t)).Up(t.Context()))
}

func TestCancelledMigratorStops(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := migrator(t, db.URL).Up(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCheckSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	s, err := store.Open(t.Context(), store.Config{URL: db.URL})
	do(t, err)
	t.Cleanup(s.Close)
	check := func(want error) {
		t.Helper()
		if err := s.CheckSchema(t.Context()); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	m := migrator(t, db.URL)
	check(store.ErrSchemaMissing)
	do(t, m.Goto(t.Context(), 1))
	check(store.ErrSchemaTooOld)
	do(t, m.Up(t.Context()))
	check(nil)
	do(t, migratorWith(t, db.URL, setVersion(t)).Up(t.Context()))
	check(store.ErrSchemaTooNew)
	for name, err := range map[string]error{
		"up": m.Up(t.Context()), "down": m.Down(t.Context(), 1), "goto": m.Goto(t.Context(), 1),
	} {
		if !errors.Is(err, store.ErrSchemaTooNew) {
			t.Errorf("migrate %s: got %v", name, err)
		}
	}
}

// migrator has the embedded files.
func migrator(t *testing.T, url string) *store.Migrator {
	t.Helper()
	m, err := store.NewMigrator(url, nil)
	do(t, err)
	return m
}

// migratorWith has the embedded files and one more.
func migratorWith(t *testing.T, url, up string) *store.Migrator {
	t.Helper()
	m, err := store.NewMigratorFrom(url, filesWith(t, up))
	do(t, err)
	return m
}

func filesWith(t *testing.T, up string) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := fs.Glob(migrations.FS, "*.sql")
	do(t, err)
	for _, name := range names {
		content, err := migrations.FS.ReadFile(name)
		do(t, err)
		files[name] = &fstest.MapFile{Data: content}
	}
	next := newest(t) + 1
	files[fmt.Sprintf("%06d_more.up.sql", next)] = &fstest.MapFile{Data: []byte(up)}
	files[fmt.Sprintf("%06d_more.down.sql", next)] = &fstest.MapFile{
		Data: fmt.Appendf(nil, "SELECT scheduler.set_schema_version(%d);", newest(t)),
	}
	return files
}

// setVersion is the shortest migration there is.
func setVersion(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("SELECT scheduler.set_schema_version(%d);", newest(t)+1)
}

func newest(t *testing.T) int {
	t.Helper()
	names, err := fs.Glob(migrations.FS, "*.up.sql")
	do(t, err)
	for i, name := range names { // in order
		if !strings.HasPrefix(name, fmt.Sprintf("%06d_", i+1)) {
			t.Fatalf("%s has not the number %d: there is a gap, or one twice", name, i+1)
		}
	}
	return len(names)
}

func readFile(t *testing.T, version int, direction string) string {
	t.Helper()
	names, err := fs.Glob(migrations.FS, fmt.Sprintf("%06d_*.%s.sql", version, direction))
	do(t, err)
	if len(names) != 1 {
		t.Fatalf("%d files for %06d %s", len(names), version, direction)
	}
	content, err := migrations.FS.ReadFile(names[0])
	do(t, err)
	return string(content)
}

func execFile(t *testing.T, db *pgtest.DB, version int, direction string) {
	t.Helper()
	if _, err := db.Exec(t.Context(), readFile(t, version, direction)); err != nil {
		t.Fatalf("%06d %s: %v", version, direction, err)
	}
}

func checkVersion(t *testing.T, m *store.Migrator, want int) {
	t.Helper()
	got, err := m.Version(t.Context())
	do(t, err)
	if got.Current != want || got.Interrupted {
		t.Errorf("at version %d, interrupted %v; want %d", got.Current, got.Interrupted, want)
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls the database: what is awaited happens in another process.
func eventually(t *testing.T, db *pgtest.DB, condition string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		var ok bool
		if err := db.QueryRow(t.Context(), "SELECT EXISTS ("+condition+")").Scan(&ok); err != nil {
			t.Fatal(err)
		}
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never so: %s", condition)
		}
	}
}

// TestMigrateWithoutListOfZones migrates where PostgreSQL cannot list its zones,
// since a file of its zone database is a link to nothing.
func TestMigrateWithoutListOfZones(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	_, err = conn.Exec(t.Context(), `
		CREATE FUNCTION public.no_file() RETURNS text LANGUAGE plpgsql AS $$
		BEGIN RAISE 'could not stat "/usr/share/zoneinfo/localtime"' USING ERRCODE = 'undefined_file'; END $$;
		SET allow_system_table_mods = on;
		CREATE OR REPLACE VIEW pg_catalog.pg_timezone_names AS SELECT public.no_file() AS name, ''::text AS abbrev, interval '0' AS utc_offset, false AS is_dst;
		RESET allow_system_table_mods`)
	if err != nil {
		t.Fatal(err)
	}
	do(t, migrator(t, db.URL).Up(t.Context()))
	var zones int
	var known, unknown bool
	err = conn.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM scheduler.time_zones), scheduler.day_in_zone(now(), 'Asia/Shanghai') IS NOT NULL, scheduler.day_in_zone(now(), 'Asia/Nowhere') IS NOT NULL`).
		Scan(&zones, &known, &unknown)
	if err != nil || zones < 300 || !known || unknown {
		t.Errorf("%d zones, Shanghai is known: %v, nowhere is: %v, %v", zones, known, unknown, err)
	}
}

// TestMigrateSaysWhatItDid looks into the log: nothing was done, nothing is said.
func TestMigrateSaysWhatItDid(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	m, err := store.NewMigrator(pgtest.NewEmpty(t).URL, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	do(t, m.Goto(t.Context(), 3))
	if want := `msg="schema migrated" verb=goto from=0 to=3`; !strings.Contains(log.String(), want) {
		t.Errorf("the log says %q, want %q in it", log.String(), want)
	}
	log.Reset()
	do(t, m.Goto(t.Context(), 3))
	if log.Len() > 0 {
		t.Errorf("the log says %q, though nothing was done", log.String())
	}
}
