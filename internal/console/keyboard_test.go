package console

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// maxTabs bounds the way through the longest page with the tabulator key.
const maxTabs = 120

// tabTo goes through the page with the tabulator key until a selector has the focus,
// as somebody without a mouse does.
func (b *tab) tabTo(selector string) {
	b.t.Helper()
	for range maxTabs {
		if result(b, chromedp.Evaluate[bool](fmt.Sprintf(`document.activeElement.matches(%q)`, selector))) {
			return
		}
		b.do(chromedp.KeyEvent(kb.Tab))
	}
	b.t.Fatalf("%s cannot be reached with the keyboard on %s", selector, result(b, chromedp.Location()))
}

// A deed is a page, the keys that are pressed at parts of it, and what is there when
// it is done.
type deed struct {
	name, path string
	keys       [][2]string // a selector, and what is pressed there
	done       string      // a selector of the page that answers
	sql        string      // counts 1 then
}

// Every deed is done with the keyboard alone and without the page's script, from
// the sign-in to the sign-out.
func TestDeedsByKeyboardWithoutScript(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	fillRig(t, r)
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/assets/console.js" {
			http.NotFound(w, req)
			return
		}
		r.console.Handler().ServeHTTP(w, req)
	}))
	t.Cleanup(bare.Close)
	r.url = bare.URL
	b := newTab(t, r)
	b.open(r.console.Link())
	b.tabTo("main button")
	b.do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(chromedp.CSS("#attention")))
	for _, d := range []deed{
		{"insert", "/campaigns/new", [][2]string{
			{"[name=name]", "by keyboard"}, {"[name=app]", "shop"}, {"[name=day]", kb.ArrowDown}, {"[name=targets]", "user-1"}, {"button[value=preview]", kb.Enter}, {"button[value=insert]", kb.Enter},
		}, `form[action$="/pause"]`, `SELECT count(*) FROM scheduler.campaigns WHERE name = 'by keyboard'`},
		{
			"edit", "/campaigns/2/edit",
			[][2]string{{"[name=name]", " and again"}, {"[name=note]", "for the test"}, {"button[value=preview]", kb.Enter}, {"button[value=update]", kb.Enter}},
			`form[action$="/pause"]`, `SELECT count(*) FROM scheduler.campaigns WHERE name LIKE '%and again%'`,
		},
		{"pause", "/campaigns/2", [][2]string{{`form[action$="/pause"] button`, kb.Enter}}, `form[action$="/resume"]`, `SELECT count(*) FROM scheduler.campaigns WHERE id = 2 AND status = 'paused'`},
		{"resume", "/campaigns/2", [][2]string{{`form[action$="/resume"] button`, kb.Enter}}, `form[action$="/pause"]`, `SELECT count(*) FROM scheduler.campaigns WHERE id = 2 AND status = 'active'`},
		{
			"skip", "/campaigns/2",
			[][2]string{{"details.inline summary", kb.Enter}, {"details.inline [name=note]", "a holiday" + kb.Enter}},
			"main s",
			`SELECT count(*) FROM scheduler.skipped_occurrences WHERE restored_at IS NULL`,
		},
		{
			"take the skip back", "/campaigns/2",
			[][2]string{{"details.inline summary", kb.Enter}, {`form[action$="/unskip"] button`, kb.Enter}},
			"body:not(:has(main s))",
			`SELECT count(*) FROM scheduler.skipped_occurrences WHERE restored_at IS NOT NULL`,
		},
		{"push once", "/campaigns/2/confirm/trigger", [][2]string{{"[name=note]", "now"}, {"main button", kb.Enter}}, "#task", `SELECT count(*) FROM scheduler.pending_tasks WHERE campaign_id = 2 AND origin <> 'scheduled'`},
		{"cancel", "/campaigns/2/confirm/cancel", [][2]string{{"[name=note]", "over"}, {"main button", kb.Enter}}, "main .status.cancelled", `SELECT count(*) FROM scheduler.campaigns WHERE id = 2 AND status = 'cancelled'`},
		{"rule", "/tasks/103/confirm/sent", [][2]string{{"[name=note]", "seen there"}, {"main button", kb.Enter}}, "#task", `SELECT count(*) FROM scheduler.audit WHERE task_id = 103`},
		{"take back", "/tasks/104/confirm/revoke", [][2]string{{"[name=note]", "wrong price"}, {"main button", kb.Enter}}, "#task", `SELECT count(*) FROM scheduler.revocations WHERE task_id = 104`},
		{"hold", "/hold", [][2]string{{"[name=note]", "stop"}, {"main button", kb.Enter}}, "[name=skip_overdue]", `SELECT count(*) FROM scheduler.hold WHERE held_since IS NOT NULL`},
		{"release", "/hold", [][2]string{{"main button", kb.Enter}}, "[name=note]", `SELECT count(*) FROM scheduler.hold WHERE held_since IS NULL`},
		{"sign out", "/", [][2]string{{"form.person button", kb.Enter}}, "[name=password]", `SELECT 1`},
	} {
		t.Log(d.name) // the last is the one that fails
		b.open(d.path)
		for _, step := range d.keys {
			b.do(chromedp.WaitReady(chromedp.CSS(step[0])))
			b.tabTo(step[0])
			b.do(chromedp.KeyEvent(step[1]))
		}
		b.do(chromedp.WaitReady(chromedp.CSS(d.done)))
		if n := count(t, r.db, d.sql); n != 1 {
			t.Errorf("%s: %s is %d", d.name, d.sql, n)
		}
	}
}
