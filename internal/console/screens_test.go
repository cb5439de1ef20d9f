package console

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "take the screenshots of docs/console.md anew, with the texts that they show")

// The pictures of docs/console.md, and the texts that they show.
const (
	screensDir  = "../../docs/console"
	screensFile = "testdata/screens.txt"
)

// screens are the pictures of docs/console.md.
var screens = []struct {
	name, path, lang, scheme string
	width, height            int64
}{
	{"overview-en", "/", "en", "light", 1200, 800},
	{"calendar-zh-dark", "/calendar", "zh", "dark", 1200, 800},
	{"form-en", "form", "en", "light", 1200, 1000}, // a form with two mistakes
	{"campaign-zh-phone", "/campaigns/1", "zh", "light", 390, 800},
	{"limits-en-dark", "/limits", "en", "dark", 1200, 800},
}

// texts lists what a page always says, whatever its rows are: its headings, labels,
// buttons, heads of columns and links. What has a digit in it depends on the day.
const texts = `[...new Set([...document.querySelectorAll('h1, h2, h3, label, legend, button, th, dt, caption, summary, nav a')]
  .map(e => [...e.childNodes].filter(n => n.nodeType === Node.TEXT_NODE).map(n => n.textContent).join(' ').replace(/\s+/g, ' ').trim())
  .filter(t => t && !/\d/.test(t)))]`

// The pictures in docs/console.md show the pages as they are: what each said when
// its picture was taken is what it says now. After a change of a page, -update takes
// them anew. Pixels are not compared: fonts differ from machine to machine.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	fillRig(t, r)
	fillScreens(t, r)
	b := openTab(t, r)
	var got strings.Builder
	for _, s := range screens {
		call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: s.width, Height: s.height, DeviceScaleFactor: 1})
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.scheme}}})
		call(b, network.SetCookie, network.SetCookieParams{Name: "language", Value: s.lang, URL: r.url})
		if s.path == "form" {
			b.open("/campaigns/new")
			b.do(chromedp.SetValue(chromedp.CSS("[name=name]"), "weekly news"), chromedp.SetValue(chromedp.CSS("[name=request]"), `{"deliveryType": 3, "expiredSeconds": 600}`),
				chromedp.SetValue(chromedp.CSS("[name=end]"), "2020-01-01"), chromedp.Click(chromedp.CSS("form.fields button")), chromedp.WaitVisible(chromedp.CSS("[aria-invalid]")))
		} else {
			b.open(s.path)
		}
		fmt.Fprintf(&got, "-- %s\n%s\n", s.name, strings.Join(result(b, chromedp.Evaluate[[]string](texts)), "\n"))
		if *update {
			b.keepScreen(filepath.Join(screensDir, s.name+".png"))
		}
		if _, err := os.Stat(filepath.Join(screensDir, s.name+".png")); err != nil {
			t.Errorf("%v: run the test with -update", err)
		}
	}
	if *update {
		if err := os.WriteFile(screensFile, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(screensFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("the pages do not say any more what their pictures in docs/console.md show: look at them, then run the test with -update (-picture +page):\n%s", diff)
	}
	doc, err := os.ReadFile("../../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range screens {
		has(t, string(doc), "(console/"+s.name+".png)")
	}
}

// keepScreen writes what of the page fits into the window.
func (b *tab) keepScreen(file string) {
	b.t.Helper()
	if err := os.WriteFile(file, result(b, chromedp.CaptureScreenshot()), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// fillScreens adds what makes the pictures tell something: a daemon, a campaign
// that will run out of its quota, and many pushes in one second.
func fillScreens(t *testing.T, r *rig) {
	t.Helper()
	exec(t, r.db, `INSERT INTO scheduler.daemons (name, version, leased_until) VALUES ('push-1', 'test', now() + interval '1 hour')`)
	exec(t, r.db, `UPDATE scheduler.apps SET pending_limit = 3 WHERE app_id = 'hook'`)
	b := r.owner(t)
	label := with(weekly(), "name", "members' day", "app", "life", "channel", "alipay.label_send", "circle", "1", "targets", "", "do", "insert",
		"request", `{"filter": {"template": "${a}", "context": {"a": {"column_name": "label_id_list", "op": "=", "values": ["100509"]}}},
			"material": {"msg_type": "text", "text": {"title": "t", "content": "c"}}}`)
	b.post("/campaigns", label, http.StatusOK)
	for i := range 5 {
		b.post("/campaigns", with(weekly(), "name", fmt.Sprint("order reminder ", i+1), "app", "hook", "channel", "webhook", "circle", "1", "targets", "",
			"time", "09:00:00", "request", `{"text": "hello"}`, "do", "insert"), http.StatusOK)
	}
	exec(t, r.db, `INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		SELECT c.app_no, row_number() OVER (PARTITION BY c.app_no ORDER BY o, c.id), c.id, 1, 'scheduled', o, o
		  FROM scheduler.campaigns c JOIN scheduler.apps a USING (app_no),
		       LATERAL (SELECT o FROM scheduler.occurrences(c.id, now(), now() + interval '30 days') o ORDER BY o LIMIT 2) o WHERE a.app_id <> 'hook'`)
	// At noon, two hours after the campaign's time: whatever the hour of the test, a
	// call is free only when the campaign's window has closed.
	exec(t, r.db, `INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota)
		SELECT app_no, 'alipay.label_send', (date_trunc('day', now() AT TIME ZONE 'Asia/Shanghai') + interval '12 hours' - n * interval '1 day') AT TIME ZONE 'Asia/Shanghai', 5
		  FROM scheduler.apps, generate_series(1, 4) n WHERE app_id = 'life'`)
}
