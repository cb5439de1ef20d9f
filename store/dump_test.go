package store_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
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
