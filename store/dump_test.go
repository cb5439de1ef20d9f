package store_test

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// A dump is restored as it is: rows are not judged again by today's date.
func TestDumpAndRestore(t *testing.T) {
	t.Parallel()
	from := surface(t)
	bin, major, err := embedpg.Find()
	if server := one[int](t, from, `SELECT current_setting('server_version_num')::int / 10000`); err != nil || major < server {
		// The server is in a container, and this machine has no programs for it.
		t.Logf("nothing dumped: the server is PostgreSQL %d, the pg_dump here of %d (%v)", server, major, err)
		return
	}
	id := campaign(t, from)
	backdate(t, from, id)
	run(t, from, `INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES ($1, 'device')`, id)
	pend(t, from, id, 1, time.Now().Add(time.Hour))

	to := pgtest.NewEmpty(t)
	dump := client(t, filepath.Join(bin, "pg_dump"), nil, "--no-owner", from.URL)
	client(t, filepath.Join(bin, "psql"), dump, "-X", "-q", "-v", "ON_ERROR_STOP=1", to.URL)
	for _, table := range []string{"apps", "campaigns", "campaign_targets", "campaign_changes", "pending_tasks", "tasks"} {
		want, got := content(t, from, table), content(t, to, table)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-dumped +restored):\n%s", table, diff)
		}
	}
	// And the restored rules hold.
	_ = refused(t, to, `UPDATE scheduler.campaigns SET time_zone = 'Asia/Tokyo' WHERE id = $1`, id)
	run(t, to, `UPDATE scheduler.campaigns SET request = '{"a": 1}' WHERE id = $1`, id)
}

func content(t *testing.T, db *pgtest.DB, table string) []string {
	t.Helper()
	rows, _ := db.Query(t.Context(), fmt.Sprintf(`SELECT to_jsonb(x)::text FROM scheduler.%s x ORDER BY 1`, table))
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// client runs one of PostgreSQL's own programs, which stand beside the server.
func client(t *testing.T, program string, in []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = bytes.NewReader(in)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, stderr.String())
	}
	return out
}

// TestDocumentedDumpAndRestore runs the commands of docs/operations.md as an
// admin who is no superuser, under the role scheme.
func TestDocumentedDumpAndRestore(t *testing.T) {
	t.Parallel()
	bin, major, err := embedpg.Find()
	source := pgtest.NewEmpty(t)
	if server := one[int](t, source, `SELECT current_setting('server_version_num')::int / 10000`); err != nil || major < server {
		t.Logf("nothing dumped: the server is PostgreSQL %d, the pg_dump here of %d (%v)", server, major, err)
		return
	}
	roles, err := os.ReadFile("../deploy/sql/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	admin := fmt.Sprintf("migrator_%d", one[int](t, source, `SELECT pg_backend_pid()`))
	run(t, source, string(roles))
	run(t, source, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'x' NOINHERIT IN ROLE scheduler_owner`, admin))
	t.Cleanup(func() { _, _ = source.Exec(context.WithoutCancel(t.Context()), `DROP ROLE `+admin) })
	as := func(db *pgtest.DB) *url.URL {
		u, err := url.Parse(db.URLAs(t, admin, "x"))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	migrating := as(source)
	query := migrating.Query()
	query.Set("role", "scheduler_owner")
	migrating.RawQuery = query.Encode()
	m, err := store.NewMigrator(migrating.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, source, `INSERT INTO scheduler.apps (app_id, provider) VALUES ('app', 'webhook')`)
	run(t, source, `INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('c', 'app', 'webhook')`)
	run(t, source, `INSERT INTO scheduler.pending_tasks (app_no, campaign_id, revision, origin, due_at, ready_at) SELECT app_no, id, 1, 'immediate', now(), now() FROM scheduler.campaigns`)
	dump := filepath.Join(t.TempDir(), "push.dump")
	client(t, filepath.Join(bin, "pg_dump"), nil, "-Fc", "--role=scheduler_owner", "-f", dump, as(source).String())
	for name, sections := range map[string][][]string{
		"in one piece":    {{}},
		"schema and data": {{"--section=pre-data"}, {"--section=data"}, {"--section=post-data"}},
	} {
		t.Run(name, func(t *testing.T) {
			to := pgtest.NewEmpty(t)
			run(t, to, string(roles))
			for _, section := range sections {
				client(t, filepath.Join(bin, "pg_restore"), nil, append(section, "--role=scheduler_owner", "--exit-on-error", "-d", as(to).String(), dump)...)
			}
			if n := one[int](t, to, `SELECT count(*) FROM scheduler.pending_tasks`); n != 1 {
				t.Errorf("%d tasks", n)
			}
			s, err := store.Open(t.Context(), store.Config{URL: to.URL})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			if d, err := s.Shape(t.Context()); err != nil || d.String() != "" {
				t.Errorf("%s, %v", d, err)
			}
			if seal, complete, err := s.Seal(t.Context()); err != nil || complete {
				t.Errorf("a restored database is recognised as it is: %q, %v", seal, err)
			}
		})
	}
	conn, err := pgx.Connect(t.Context(), as(source).String()+sep(as(source))+"options=-c%20role%3Dscheduler_owner") // as psql takes it
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var who string
	if err := conn.QueryRow(t.Context(), `SELECT current_user`).Scan(&who); err != nil || who != "scheduler_owner" {
		t.Errorf("%q, %v", who, err)
	}
}

func sep(u *url.URL) string {
	if u.RawQuery == "" {
		return "?"
	}
	return "&"
}
