package store_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// odd are settings of a role, a database or a URL that would break promises.
var odd = map[string]string{
	"synchronous_commit": "off", "client_encoding": "GBK", "default_transaction_isolation": "serializable", "TimeZone": "Asia/Kathmandu",
	"DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "extra_float_digits": "-10", "search_path": "nowhere", "row_security": "off",
	"statement_timeout": "1", "lock_timeout": "1", "idle_session_timeout": "1000", "idle_in_transaction_session_timeout": "10",
	"enable_indexscan": "off", "enable_nestloop": "off", "enable_seqscan": "on", "plan_cache_mode": "force_custom_plan", "jit": "on",
	"standard_conforming_strings": "off", "bytea_output": "escape", "array_nulls": "off", "transform_null_equals": "on",
	"quote_all_identifiers": "on", "session_replication_role": "replica", "enable_hashjoin": "off", "enable_sort": "off", "join_collapse_limit": "1",
}

var ours = map[string]string{
	"synchronous_commit": "on", "client_encoding": "UTF8", "default_transaction_isolation": "read committed", "TimeZone": "UTC",
	"DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "extra_float_digits": "1", "search_path": "pg_catalog, public", "row_security": "on",
	"statement_timeout": "30s", "lock_timeout": "5s", "idle_session_timeout": "0", "idle_in_transaction_session_timeout": "10s",
	"enable_indexscan": "on", "enable_nestloop": "on", "enable_seqscan": "off", "plan_cache_mode": "force_generic_plan", "jit": "off",
	"standard_conforming_strings": "on", "bytea_output": "hex", "array_nulls": "on", "transform_null_equals": "off", "scheduler.seal": "any",
	"quote_all_identifiers": "off", "session_replication_role": "origin", "enable_hashjoin": "on", "enable_sort": "on", "join_collapse_limit": "8",
}

// TestSessionsAreTheProgramsOwn holds the daemon's sessions to what its promises
// rest on, whatever the database or the URL say.
func TestSessionsAreTheProgramsOwn(t *testing.T) {
	t.Parallel()
	for name, through := range map[string]func(t *testing.T, db *pgtest.DB) string{
		"odd database": func(t *testing.T, db *pgtest.DB) string {
			t.Helper()
			for setting, value := range odd {
				if setting == "search_path" || setting == "statement_timeout" || setting == "lock_timeout" {
					continue // the statement below itself needs them
				}
				run(t, db, fmt.Sprintf(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET %s = %%L', current_database(), '%s'); END $$`, setting, value))
			}
			return db.URL
		},
		"odd URL": func(_ *testing.T, db *pgtest.DB) string {
			values := url.Values{}
			for setting, value := range odd {
				values.Set(setting, value)
			}
			sep := "?"
			if strings.Contains(db.URL, "?") {
				sep = "&"
			}
			return db.URL + sep + strings.ReplaceAll(values.Encode(), "+", "%20")
		},
		"PgBouncer, session mode": func(t *testing.T, db *pgtest.DB) string {
			t.Helper()
			return db.Pooler(t, "session")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			s, err := store.Open(t.Context(), store.Config{URL: through(t, db), MaxConns: 2})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			for setting, want := range ours {
				if got, err := s.Setting(t.Context(), setting); err != nil || got != want {
					t.Errorf("%s is %q, want %q (%v)", setting, got, want, err)
				}
			}
			if err := s.CheckSessions(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRemoteApplyStays keeps what is more than is needed.
func TestRemoteApplyStays(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	run(t, db, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = remote_apply', current_database()); END $$`)
	s, err := store.Open(t.Context(), store.Config{URL: db.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if got, err := s.Setting(t.Context(), "synchronous_commit"); err != nil || got != "remote_apply" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSharedSessionsAreRefused finds a pooler in transaction or statement mode
// out, and a claim through one is refused by the database itself.
func TestSharedSessionsAreRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transaction", "statement"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			s, err := store.Open(t.Context(), store.Config{URL: db.Pooler(t, mode), MaxConns: 4})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			if err := s.CheckSessions(t.Context()); !errors.Is(err, store.ErrSharedSessions) || !strings.Contains(err.Error(), "pool_mode = session") {
				t.Errorf("%v", err)
			}
		})
	}
	db := pgtest.New(t)
	if _, err := db.Exec(t.Context(), `SELECT scheduler.recognised()`); !store.IsSessionLost(err) {
		t.Errorf("a session without settings: %v", err)
	}
}

// TestConnectionStrings judges them: what is none connects nowhere, the error
// says which part is wrong, and shows no secret.
func TestConnectionStrings(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	for text, want := range map[string]string{
		"pgx5://u:" + secret + "@h/d?sslmode=disable":     `begins with "pgx5://"; it must begin with postgres://`,
		"postgresql+psycopg2://u:" + secret + "@h/d":      `must begin with postgres://`,
		"jdbc:postgresql://h/d?user=u&password=" + secret: `must begin with postgres://`,
		"mysql://u:" + secret + "@h/d":                    `must begin with postgres://`,
		"Server=h;Password=" + secret + ";Database=d":     "neither a URL",
		secret:                                                      "neither a URL",
		"postgres://u:a/" + secret + "@h/d":                         "%2F for /",
		"postgres://u:a@" + secret + "@h/d":                         "%40 for @",
		"postgres://u:a#" + secret + "@h/d":                         "%23 for #",
		"postgres://u:a?" + secret + "@h/d":                         "a ? stands before the @",
		"postgres://u:100%" + secret + "@h/d":                       "% that begins no code",
		"postgres://u:a " + secret + "@h/d":                         "%20 for a space",
		"postgres://u:a:" + secret + "@h/d":                         "more than one colon",
		"postgres://u:" + secret + "@h/d?sslmode=bogus":             "sslmode must be",
		"postgres://u:" + secret + "@h:port/d":                      "the port must be a number",
		"postgres://u:" + secret + "@h/d?connect_timeout=x":         "connect_timeout must be a number",
		"postgres://u:" + secret + "@h/d?pool_max_conns=x":          "pool_max_conns",
		"host=h user=u password=" + secret + " sslmode=never":       "sslmode must be",
		"postgres://u:" + secret + "@h/d\n":                         "a space or a line end",
		"host=h;port=5432;Database=d;Password=" + secret:            "the host has a character that no host has",
		"host=h:5432;Password=" + secret + " dbname=d":              "the host has a character that no host has",
		"dbname=postgres://u:" + secret + "@h/d":                    "is a connection string itself",
		"host=h user=u password=a " + secret:                        "stands in single quotes",
		"postgres://u:" + secret + "@h/d?options=-c%20work_mem=8MB": "write %3D",
		"postgres://u:" + secret + "@h,i/d?target_session_attrs=rw": "target_session_attrs must be",
	} {
		_, err := store.Open(t.Context(), store.Config{URL: text})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if _, err := store.NewMigrator(text, nil); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("migrate, %q: %v", text, err)
		}
	}
	for _, text := range []string{
		"postgres://u:a%2Fb%40c%3Ad%23e%3Ff%25g%20h@h/d", "postgresql://h/d", "host=h dbname=d user=u password='a b@c/d?e'", "postgres://u@/d?host=/tmp",
		"postgres://u:p@h1:5432,h2:5433/d?application_name=a@b", "",
		"postgres://u@db_1.example,[::1]:5433,[fe80::1%25eth0]/d?pool_max_conns=4", "host=@abstract dbname=d", "host=/tmp,h2 dbname='a b'",
	} {
		s, err := store.Open(t.Context(), store.Config{URL: text})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		s.Close()
	}
}

// TestSeveralHostsMeanTheOneThatTakesWrites holds it, unless the URL says
// otherwise.
func TestSeveralHostsMeanTheOneThatTakesWrites(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"postgres://a,b/d":                           true,
		"postgres://a:5432,a:5433/d":                 true,
		"host=a,b dbname=d":                          true,
		"postgres://a/d":                             false,
		"postgres://a/d?sslmode=prefer":              false,
		"postgres://a,b/d?target_session_attrs=any":  false,
		"host=a,b dbname=d target_session_attrs=any": false,
	} {
		s, err := store.Open(t.Context(), store.Config{URL: text, ConnectTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.OnlyPrimary(); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
		s.Close()
	}
}
