package pgtest_test

import (
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv("PGTEST_TEST_ALONE") != "" {
		os.Exit(m.Run()) // as a package without a TestMain
	}
	pgtest.Main(m)
}

func TestDatabasesAreMigratedAndApart(t *testing.T) {
	t.Parallel()
	one, other := pgtest.New(t), pgtest.New(t)
	if _, err := one.Exec(t.Context(), "CREATE TABLE mine ()"); err != nil {
		t.Fatal(err)
	}
	var version int
	var seen bool
	err := other.QueryRow(t.Context(), "SELECT version, to_regclass('mine') IS NOT NULL FROM scheduler.schema_version").Scan(&version, &seen)
	if err != nil {
		t.Fatal(err)
	}
	if version < 1 {
		t.Errorf("schema version %d", version)
	}
	if seen {
		t.Error("one test sees the other's table")
	}
}

func TestTemplateIsFilledOnce(t *testing.T) {
	t.Parallel()
	var fills atomic.Int32
	template := pgtest.NewTemplate(func(t testing.TB, db *pgtest.DB) {
		t.Helper()
		fills.Add(1)
		if _, err := db.Exec(t.Context(), "CREATE TABLE filled AS SELECT version FROM scheduler.schema_version"); err != nil {
			t.Fatal(err)
		}
	})
	for range 2 {
		t.Run("copy", func(t *testing.T) {
			t.Parallel()
			var rows int
			err := template.New(t).QueryRow(t.Context(), "WITH d AS (DELETE FROM filled RETURNING 1) SELECT count(*) FROM d").Scan(&rows)
			if err != nil || rows != 1 || fills.Load() != 1 {
				t.Errorf("%d rows, filled %d times, %v", rows, fills.Load(), err)
			}
		})
	}
}

func TestEmptyIsEmpty(t *testing.T) {
	t.Parallel()
	var schemas int
	err := pgtest.NewEmpty(t).QueryRow(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname = 'scheduler'").Scan(&schemas)
	if err != nil || schemas != 0 {
		t.Errorf("%d schemas, %v", schemas, err)
	}
}

func TestTimesAreUTC(t *testing.T) {
	t.Parallel()
	var now time.Time
	if err := pgtest.NewEmpty(t).QueryRow(t.Context(), "SELECT now()").Scan(&now); err != nil {
		t.Fatal(err)
	}
	if now.Location() != time.UTC {
		t.Errorf("location %v", now.Location())
	}
}

func TestDatabaseIsDropped(t *testing.T) {
	t.Parallel()
	watcher := pgtest.NewEmpty(t)
	var name string
	t.Run("inner", func(t *testing.T) {
		if err := pgtest.NewEmpty(t).QueryRow(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
	})
	var left int
	err := watcher.QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname = $1", name).Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("%d databases named %q are left, %v", left, name, err)
	}
}

// noImage names an image of a registry that is not there.
const noImage = "TEST_DATABASE_IMAGE=127.0.0.1:1/no/postgres:0"

// TestAlone is run by the tests below in a process of its own.
func TestAlone(t *testing.T) { pgtest.NewEmpty(t) }

func TestNoServerFailsAndSaysWhy(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		env  []string
		text []string
	}{
		{"a wrong URL is final", []string{"TEST_DATABASE=", "TEST_DATABASE_URL=postgres://127.0.0.1:1/none?connect_timeout=2"}, []string{"url:", "Do one of these"}},
		{"a forced source that is not there", []string{"TEST_DATABASE=url", "TEST_DATABASE_URL="}, []string{"TEST_DATABASE_URL is not set"}},
		{"no Docker engine, or no image", []string{"TEST_DATABASE=docker", noImage}, []string{"docker:", "start Docker"}},
		{"an unknown source", []string{"TEST_DATABASE=oracle"}, []string{"none of url, docker, local"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			out, err := alone(t, tc.env)
			if err == nil {
				t.Error("the test passed without a server")
			}
			for _, part := range tc.text {
				if !strings.Contains(out, part) {
					t.Errorf("%q is not in:\n%s", part, out)
				}
			}
		})
	}
}

func TestWithoutDockerTheLocalServerServes(t *testing.T) {
	t.Parallel()
	out, err := alone(t, []string{"TEST_DATABASE=", "TEST_DATABASE_URL=", noImage})
	if err != nil || !strings.Contains(out, "using PostgreSQL in ") {
		t.Errorf("%v\n%s", err, out)
	}
}

// alone runs TestAlone in a process of its own with other variables.
func alone(t *testing.T, env []string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAlone$", "-test.v")
	cmd.Env = append(os.Environ(), append(env, "PGTEST_TEST_ALONE=1")...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
