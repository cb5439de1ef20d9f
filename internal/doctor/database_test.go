package doctor_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/doctor"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// A pooler that keeps no sessions is wrong, since no daemon starts behind it.
func TestExamineNamesAPooler(t *testing.T) {
	t.Parallel()
	for mode, wrong := range map[string]bool{"session": false, "transaction": true} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			url := pgtest.New(t).Pooler(t, mode)
			found := false
			for _, c := range doctor.Examine(t.Context(), doctor.Options{Config: &config.Config{}, DatabaseURL: url, Now: time.Now}) {
				found = found || c.Grade == doctor.Wrong && strings.Contains(c.Found, "a pooler in transaction mode") && strings.Contains(c.ToDo, "pool_mode = session")
			}
			if found != wrong {
				t.Errorf("found a pooler in transaction mode: %v, want %v", found, wrong)
			}
		})
	}
}

// An app whose changes wait is told of, with who is in the way and how to end it.
func TestExamineNamesWhoBlocksAnApp(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		leave string   // what the transaction in the way does before it is left alone
		want  []string // $pid is its session's
		end   string
	}{
		"a session":              {leave: `SELECT`, want: []string{"session $pid", "idle in transaction", "pg_terminate_backend($pid)"}, end: `ROLLBACK`},
		"a prepared transaction": {leave: `PREPARE TRANSACTION 'left'`, want: []string{"blocked by a prepared transaction", "pg_prepared_xacts"}, end: `ROLLBACK PREPARED 'left'`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			conn, err := pgx.Connect(t.Context(), db.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
			do := func(sql string) {
				t.Helper()
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
			var prepared int
			if err := conn.QueryRow(t.Context(), `SELECT current_setting('max_prepared_transactions')::int`).Scan(&prepared); err != nil {
				t.Fatal(err)
			}
			if prepared == 0 && strings.HasPrefix(tc.leave, "PREPARE") {
				t.Skip("the server of TEST_DATABASE_URL has max_prepared_transactions = 0")
			}
			defer func() { _, _ = conn.Exec(context.WithoutCancel(t.Context()), tc.end) }() // or the database cannot be dropped
			do(`INSERT INTO scheduler.apps (app_id, workspace_id, provider) VALUES ('blocked', 'w', 'mpaas'), ('slow', '', 'mpaas')`)
			do(`INSERT INTO scheduler.campaign_changes (app_no, campaign_id, changed_at) SELECT app_no, 0, now() - interval '1 minute' FROM scheduler.apps`)
			do(`BEGIN; UPDATE scheduler.apps SET updated_at = now() WHERE app_id = 'blocked'`)
			do(tc.leave)
			examine := func() map[string]string {
				found := make(map[string]string)
				for _, c := range doctor.Examine(t.Context(), doctor.Options{Config: &config.Config{}, DatabaseURL: db.URL, Now: time.Now}) {
					if c.Grade == doctor.Wrong || c.Name == "planning" {
						found[c.Name] = c.Found + " / " + c.ToDo
					}
				}
				return found
			}
			found := examine()
			for _, want := range append(tc.want, "not been planned for 1m") {
				want = strings.ReplaceAll(want, "$pid", strconv.Itoa(int(conn.PgConn().PID())))
				if got := found["app blocked/w"]; !strings.Contains(got, want) {
					t.Errorf("the blocked app: %q, want %q in it", got, want)
				}
			}
			if got := found["app slow"]; got == "" || strings.Contains(got, "blocked by") {
				t.Errorf("the other app: %q", got)
			}
			do(tc.end)
			do(`DELETE FROM scheduler.campaign_changes`)
			if got := examine(); got["planning"] == "" || len(got) != 1 {
				t.Errorf("when all is planned: %v", got)
			}
		})
	}
}
