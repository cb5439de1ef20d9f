package doctor_test

import (
	"strings"
	"testing"
	"time"

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

// An app whose changes wait is told of, with the session that is in the way.
func TestExamineNamesWhoBlocksAnApp(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, sql := range []string{
		`INSERT INTO scheduler.apps (app_id, workspace_id, provider) VALUES ('blocked', 'w', 'mpaas'), ('slow', '', 'mpaas')`,
		`INSERT INTO scheduler.campaign_changes (app_no, campaign_id, changed_at) SELECT app_no, 0, now() - interval '1 minute' FROM scheduler.apps`,
	} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE scheduler.apps SET updated_at = now() WHERE app_id = 'blocked'`); err != nil {
		t.Fatal(err)
	}
	var pid string
	if err := tx.QueryRow(t.Context(), `SELECT pg_backend_pid()::text`).Scan(&pid); err != nil {
		t.Fatal(err)
	}
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
	if got := found["app blocked/w"]; !strings.Contains(got, "session "+pid) || !strings.Contains(got, "idle in transaction") || !strings.Contains(got, "not been planned for 1m") {
		t.Errorf("the blocked app: %q", got)
	}
	if got := found["app slow"]; got == "" || strings.Contains(got, "session") {
		t.Errorf("the other app: %q", got)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), `DELETE FROM scheduler.campaign_changes`); err != nil {
		t.Fatal(err)
	}
	if got := examine(); got["planning"] == "" || len(got) != 1 {
		t.Errorf("when all is planned: %v", got)
	}
}
