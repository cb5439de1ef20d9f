package attack_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestWordsAreBounded writes 2 MB wherever somebody may say why: an audit, a
// decision's reason or a line of the log would hold it, and whoever reads them.
func TestWordsAreBounded(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	c.exec(t, `DELETE FROM scheduler.pending_tasks`)
	const long = `repeat('x', 2000000)`
	skip := fmt.Sprintf(`SELECT scheduler.skip_occurrence(%d, '2100-01-01Z', `, c.a)
	revoke := fmt.Sprintf(`SELECT scheduler.revoke_task((SELECT task_id FROM scheduler.unresolved WHERE campaign_id = %d), `, c.a)
	for _, w := range []struct{ who, field, sql string }{
		{"mei", "note", skip + long + `)`},
		{"mei", "restored_note", skip + `'why'); ` + strings.Replace(skip, "skip", "unskip", 1) + long + `)`},
		{"mei", "note", revoke + long + `)`},
		{"mei", "target", revoke + `'why', ` + long + `)`},
		{"mei", "note", fmt.Sprintf(`SELECT scheduler.note_campaign(%d, 1, `, c.a) + long + `)`},
		{"olga", "note", fmt.Sprintf(`SELECT scheduler.resolve_task((SELECT task_id FROM scheduler.unresolved WHERE campaign_id = %d), true, false, `, c.a) + long + `)`},
		{"olga", "operator", fmt.Sprintf(`SELECT scheduler.resolve_task((SELECT task_id FROM scheduler.unresolved WHERE campaign_id = %d), true, false, 'why', `, c.a) + long + `)`},
		{"olga", "operator", fmt.Sprintf(`SELECT scheduler.trigger_campaign(%d, `, c.a) + long + `)`},
		{"olga", "reason", `SELECT scheduler.hold_pushes(` + long + `)`},
		{"olga", "reason", `SELECT scheduler.hold_pushes('why', ` + long + `)`},
	} {
		_, err := c.as(t, w.who).Exec(t.Context(), `BEGIN; `+w.sql)
		pg, _ := errors.AsType[*pgconn.PgError](err)
		if pg == nil || pg.Code != refused || !strings.HasPrefix(pg.Message, w.field+": must ") || pg.Hint == "" || len(pg.Message)+len(pg.Detail) > 500 {
			t.Errorf("%s: %.100s: got %.500v, want %s to be refused", w.who, w.sql, err, w.field)
		}
	}
}

// TestNotesAreTheirWritersOwn writes notes on a change of somebody else's, and very
// many on one's own: the audit tells only what whoever made the change said,
// and little.
func TestNotesAreTheirWritersOwn(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	c.exec(t, fmt.Sprintf(`SELECT scheduler.grant_app('a', '', '%s')`, c.names["li"]))
	mei, li := c.as(t, "mei"), c.as(t, "li")
	note := fmt.Sprintf(`SELECT scheduler.note_campaign(%d, 1, `, c.a)
	for _, sql := range []string{fmt.Sprintf(`UPDATE scheduler.campaigns SET status = 'paused' WHERE id = %d`, c.a), note + `'mine')`} {
		if _, err := mei.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if _, err := li.Exec(t.Context(), note+`'forged')`); err != nil {
		t.Fatal(err)
	}
	if got := state(t, mei, note+`repeat('x', 1000)) FROM generate_series(1, 100)`); got != refused {
		t.Errorf("100 notes: SQLSTATE %q, want %s", got, refused)
	}
	c.exec(t, fmt.Sprintf(`INSERT INTO scheduler.campaign_notes (campaign_id, app_no, revision, note, noted_by) -- from before there was a bound
		SELECT id, app_no, 1, repeat('x', 1000), '%s' FROM scheduler.campaigns, generate_series(1, 1000) WHERE id = %d`, c.names["mei"], c.a))
	var told string
	c.scan(t, &told, fmt.Sprintf(`SELECT note FROM scheduler.audit WHERE campaign_id = %d AND deed = 'pause'`, c.a))
	if !strings.HasPrefix(told, "mine; ") || strings.Contains(told, "forged") || len(told) > 10000 {
		t.Errorf("the audit tells %d bytes: %.100s", len(told), told)
	}
}

// TestPruneTakesTheNotesAlong prunes changes with what was said of them.
func TestPruneTakesTheNotesAlong(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	c.exec(t, fmt.Sprintf(`
		UPDATE scheduler.campaigns SET status = 'paused' WHERE id = %[1]d;
		SELECT scheduler.note_campaign(%[1]d, 1, 'old');
		UPDATE scheduler.campaigns SET status = 'active' WHERE id = %[1]d;
		SELECT scheduler.note_campaign(%[1]d, 2, 'new');
		DELETE FROM scheduler.campaign_changes;
		SET session_replication_role = replica;
		UPDATE scheduler.campaign_history SET changed_at = now() - interval '3 days' WHERE revision = 1;
		RESET session_replication_role`, c.a))
	if _, err := c.as(t, "olga").Exec(t.Context(), `SELECT scheduler.prune_history(now() - interval '2 days')`); err != nil {
		t.Fatal(err)
	}
	if got := c.list(t, `SELECT note FROM scheduler.campaign_notes`); len(got) != 1 || got[0] != "new" {
		t.Errorf("notes are left: %q, want new", got)
	}
}
