package console

import (
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// What a page leaves out since it is too much, it says, and how to narrow it, in both
// languages.
func TestBoundsAreSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	insertPast(t, r, allAppsCampaigns+1)
	b := r.owner(t)
	month := "?at=" + time.Now().UTC().AddDate(0, 0, 1).Format(time.DateOnly)
	for _, c := range []struct{ path, english, chinese string }{
		{"/limits", "Not every campaign could be looked at: there may be more. Choose an app.", "未能查看全部活动：可能还有更多。请选择一个应用。"},
		{"/calendar" + month, "Not every campaign could be looked at: there may be more. Choose an app.", "未能查看全部活动：可能还有更多。请选择一个应用。"},
		{"/limits", "There are more.", "还有更多。"}, // of the seconds over the limit
		{"/limits", "There are more apps than were looked at, and some may be as full. Choose an app.", "还有应用未查看，其中可能有同样满的。请选择一个应用。"},
		{"/limits", "These are the fullest. Choose an app for all of its own.", "这些是占用最高的。选择一个应用可查看它的全部配额。"},
	} {
		for lang, text := range map[string]string{"en": c.english, "zh": c.chinese} {
			b.post("/preferences", url.Values{"language": {lang}, "back": {"/"}}, 200)
			has(t, b.get(c.path), text)
		}
	}
	b.post("/preferences", url.Values{"language": {"en"}, "back": {"/"}}, 200)
	for _, path := range []string{"/limits?app=shop", "/calendar" + month + "&app=shop"} {
		if page := b.get(path); strings.Contains(page, "could be looked at") || strings.Contains(page, "than were looked at") {
			t.Errorf("%s, of one app, says that there are more:\n%s", path, page)
		}
	}
	has(t, b.get("/limits?app=shop"), strconv.Itoa(allAppsCampaigns+1)+" occurrences until")
}

// insertPast inserts active campaigns past the triggers, one a minute from tomorrow on, and
// apps whose highest slots say little and that have a quota each.
func insertPast(t *testing.T, r *rig, campaigns int) {
	t.Helper()
	tx, err := r.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`SET LOCAL session_replication_role = replica`,
		`UPDATE scheduler.apps SET pending_limit = 1 WHERE app_id = 'shop'`,
		`INSERT INTO scheduler.campaigns (id, name, app_id, workspace_id, channel, strategy_type, strategy_content, time_zone, app_no, written_at, created_by, updated_by, created_at, updated_at)
		 SELECT n, 'c', a.app_id, a.workspace_id, 'mpaas.push_multiple', 1, jsonb_build_object('fixedTime', scheduler.unix_ms(date_trunc('day', now(), 'UTC') + interval '1 day' + n / 2 * interval '1 minute')), 'UTC', a.app_no,
		        now(), 'me', 'me', now(), now() FROM generate_series(1, ` + strconv.Itoa(campaigns) + `) n, scheduler.apps a WHERE a.app_id = 'shop'`,
		`INSERT INTO scheduler.apps (app_no, app_id, provider, pending_limit) OVERRIDING SYSTEM VALUE SELECT 1000 + n, 'many-' || n, 'alipay', 100 FROM generate_series(1, 300) n`,
		`INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		 SELECT app_no, 90, 100000 + app_no, 1, 'scheduled', now() + interval '1 day', now() + interval '1 day' FROM scheduler.apps WHERE app_id LIKE 'many-%'`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A list of tasks that ends before it is full says where, and goes on from there.
func TestListSaysWhereItEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	downTo := time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)
	for lang, text := range map[string]string{
		"en": "Looked back to 2026-11-20 03:00:00 UTC; to look further takes longer. Choose a campaign or an app, or go on with older ones.",
		"zh": "已向前查看到 2026-11-20 03:00:00 UTC；再往前需要更长时间。请选择一个活动或应用，或继续查看更早的。",
	} {
		req, answer := httptest.NewRequestWithContext(t.Context(), "GET", "/tasks", nil), httptest.NewRecorder()
		req.Header.Set("Accept-Language", lang)
		x := newExchange(answer, req)
		d := tasksPage{Status: "failed"}
		d.show(x.view, store.TaskPage{DownTo: downTo})
		if err := r.console.render(x, 200, "tasks", d); err != nil {
			t.Fatal(err)
		}
		has(t, answer.Body.String(), text, "/tasks?after=2026-11-20T03%3A00%3A00Z.0&amp;status=failed")
		if strings.Contains(answer.Body.String(), x.T("No task matches.")) {
			t.Error("it says that no task matches, though not all were looked at")
		}
	}
	if got := cursorOf("2026-11-20T03:00:00Z.0"); got != (store.TaskCursor{DueAt: downTo}) {
		t.Errorf("read back as %+v", got)
	}
}
