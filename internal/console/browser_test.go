package console

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	osexec "os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// chromium is where the browser is. There is no test without one:
// scripts/ensure-packages brings it where it can, and says what to install elsewhere.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium-headless-shell", "chromium", "google-chrome"} {
		if path, err := osexec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium on this machine: install the package chromium or chromium-headless-shell, or run make test as root on a Debian-like machine")
	return ""
}

// A tab is a browser's tab in which the owner is signed in.
type tab struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // chromedp keeps the tab in it
	rig  *rig
	mu   sync.Mutex
	said []string // what pages wrote to the browser's console, broken content policies among it
}

func openTab(t *testing.T, r *rig) *tab {
	t.Helper()
	b := newTab(t, r)
	b.do(chromedp.Navigate(r.url+r.console.Link()), chromedp.Click(chromedp.CSS("main button")), chromedp.WaitVisible(chromedp.CSS("#attention")))
	return b
}

// openTabAs is a tab in which an author is signed in.
func openTabAs(t *testing.T, r *rig, user string) *tab {
	t.Helper()
	b := newTab(t, r)
	b.do(chromedp.Navigate(r.url+"/sign-in"), chromedp.SetValue(chromedp.CSS("[name=user]"), user), chromedp.SetValue(chromedp.CSS("[name=password]"), "secret"),
		chromedp.Click(chromedp.CSS("main button")), chromedp.WaitVisible(chromedp.CSS("#attention")))
	return b
}

func newTab(t *testing.T, r *rig) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.NoSandbox)
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(ctx)
	b := &tab{t: t, ctx: ctx, rig: r}
	listening := make(chan struct{})
	messages := chromedp.Console(ctx)
	go func() {
		defer close(listening)
		for m, err := range messages {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.said = append(b.said, m.String())
			b.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-listening })
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) open(path string) { b.t.Helper(); b.do(chromedp.Navigate(b.rig.url + path)) }

// heard returns what the browser's console has, once.
func (b *tab) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.said
	b.said = nil
	return out
}

// result runs an action and returns its value.
func result[T any](b *tab, a chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// call runs one command of the browser's protocol.
func call[P, R any](b *tab, cmd cdp.Command[P, R], params P) R {
	b.t.Helper()
	v, err := chromedp.Call(b.ctx, cmd, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// contrast lists texts that stand out too little from what is behind them, by
// WCAG's formula: 4.5 for text.
const contrast = `(() => {
  const parse = c => { const m = c.match(/[\d.]+/g).map(Number); return {rgb: m.slice(0, 3), a: m.length > 3 ? m[3] : 1}; };
  const lum = rgb => { const [r, g, b] = rgb.map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.a > 0.99) return c.rgb; } return matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255]; };
  const bad = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !e.checkVisibility() || e.closest('.skip, svg, .other, option')) continue;
    const a = lum(parse(getComputedStyle(e).color).rgb), b = lum(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.add(walk.currentNode.textContent.trim().slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  return [...bad];
})()`

// overflow says whether the page itself has to be scrolled sideways.
const overflow = `document.documentElement.scrollWidth > document.documentElement.clientWidth`

// headings lists where the order of headings skips a level or has no first.
const headings = `(() => { const h = [...document.querySelectorAll('h1, h2, h3')].map(e => Number(e.tagName[1])); return h[0] === 1 && h.filter(l => l === 1).length === 1 && h.every((l, i) => i === 0 || l <= h[i - 1] + 1) })()`

// browserPages are the pages that are looked at in a browser.
var browserPages = []string{
	"/", "/calendar", "/calendar?view=week", "/calendar?view=day", "/campaigns", "/campaigns/1", "/campaigns/new", "/campaigns/1/edit", "/campaigns/1/confirm/cancel",
	"/tasks", "/tasks/103", "/tasks/103/confirm/sent", "/tasks/104/confirm/revoke", "/unknown", "/limits", "/lateness?range=7d", "/audit", "/hold", "/no-such-page",
}

// Every page in both languages, light and dark, wide and on a phone, for an admin and
// for an author: no word in the browser's console, every control named, contrast,
// headings, no scrolling sideways. The author, whose pages are the admin's with less
// on them, gets the two looks that differ most.
func TestPagesInABrowser(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	fillRig(t, r)
	fillScreens(t, r)
	admin := openTab(t, r)
	for _, lang := range []string{"en", "zh"} {
		admin.lookAtPages(lang, []int64{1200, 390}, []string{"light", "dark"})
	}
	author := openTabAs(t, r, "mei")
	author.lookAtPages("zh", []int64{390}, []string{"dark"})
	author.lookAtPages("en", []int64{1200}, []string{"light"})
}

// lookAtPages opens every page once, and gives it each width in pixels and each colour
// scheme, which a page follows while it is open.
func (b *tab) lookAtPages(lang string, widths []int64, schemes []string) {
	b.t.Helper()
	call(b, network.SetCookie, network.SetCookieParams{Name: "language", Value: lang, URL: b.rig.url})
	for _, path := range browserPages {
		b.look(widths[0], schemes[0])
		b.open(path)
		for _, width := range widths {
			var problems []string
			for _, scheme := range schemes {
				b.look(width, scheme)
				for _, problem := range b.problems() {
					problems = append(problems, scheme+": "+problem)
				}
			}
			problems = append(problems, b.nameless()...) // names depend on what is shown, not on its colours
			for _, problem := range problems {
				if path == "/no-such-page" && strings.Contains(problem, "404") { // the browser's own word on the answer
					continue
				}
				b.t.Errorf("%s %s %d: %s", path, lang, width, problem)
			}
		}
	}
}

// look makes the window this wide, of a machine with this colour scheme, and returns
// when the page knows.
func (b *tab) look(width int64, scheme string) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	b.do(chromedp.Poll[chromedp.Void](fmt.Sprintf(`innerWidth === %d && matchMedia('(prefers-color-scheme: %s)').matches`, width, scheme)))
}

// problems are what is wrong with the look of the page that is open.
func (b *tab) problems() []string {
	b.t.Helper()
	var out []string
	if lines := b.heard(); len(lines) > 0 {
		out = append(out, fmt.Sprintf("the browser says %q", lines))
	}
	if pale := result(b, chromedp.Evaluate[[]string](contrast)); len(pale) > 0 {
		out = append(out, fmt.Sprintf("too little contrast: %q", pale))
	}
	if result(b, chromedp.Evaluate[bool](overflow)) {
		out = append(out, "the page scrolls sideways")
	}
	if !result(b, chromedp.Evaluate[bool](headings)) {
		out = append(out, "the headings are out of order")
	}
	return out
}

// nameless are the controls of the page that is open which a screen reader cannot name.
func (b *tab) nameless() []string {
	b.t.Helper()
	var out []string
	for _, n := range call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		switch role := strings.Trim(string(n.Role.Value), `"`); role {
		case "button", "link", "textbox", "combobox", "checkbox", "radio", "listbox", "searchbox", "image", "navigation":
			if n.Name == nil || strings.Trim(string(n.Name.Value), `"`) == "" {
				out = append(out, "a "+role+" without a name")
			}
		}
	}
	return out
}

// fillRig writes a campaign and sixty outcomes of it.
func fillRig(t *testing.T, r *rig) {
	t.Helper()
	b := r.owner(t)
	b.post("/campaigns", with(weekly(), "do", "insert"), http.StatusOK)
	b.post("/campaigns/1/pause", url.Values{"revision": {"1"}, "note": {"wrong week"}}, http.StatusOK)
	b.post("/campaigns/1/resume", url.Values{"revision": {"2"}}, http.StatusOK)
	exec(t, r.db, sixtyOutcomes)
}

// What is live on a page moves while somebody looks, without a reload.
func TestRunningTaskMovesWhileOneLooks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	fillRig(t, r)
	b := openTab(t, r)
	b.open("/")
	result(b, chromedp.Evaluate[bool](`window.marked = true`))
	exec(t, r.db, `INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, attempts, slices, accepted, target_count, reason)
		SELECT 999, c.app_no, c.id, 1, ch.channel_no, 'scheduled', 'unknown', now() - interval '1 second', 1, 1, 0, 1, 'only now'
		  FROM scheduler.campaigns c JOIN scheduler.channels ch USING (channel) LIMIT 1`)
	b.do(chromedp.WaitVisible(chromedp.Search(`//td[contains(., 'only now')]`)))
	if !result(b, chromedp.Evaluate[bool](`window.marked === true`)) {
		t.Error("the page was loaded anew")
	}
	if lines := b.heard(); len(lines) > 0 {
		t.Errorf("the browser says %q", lines)
	}
}

// onPaper lists what is wrong with a page on paper: parts that only a screen needs,
// what is wider than the sheet, tables that would be cut through a row or do not
// repeat their head, and texts too pale for a printer without colours. Browsers
// print no backgrounds by themselves, so behind a text is white.
const onPaper = `(() => {
  const bad = new Set();
  const lum = c => { const [r, g, b] = c.match(/[\d.]+/g).map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  for (const e of document.querySelectorAll('header, footer, nav, form.filter, form.inline, button')) if (e.checkVisibility()) bad.add('printed: ' + e.tagName + ' ' + e.textContent.trim().slice(0, 20));
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) bad.add('wider than the sheet: ' + document.documentElement.scrollWidth);
  for (const e of document.querySelectorAll('main *')) if (e.checkVisibility() && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1) bad.add('beyond the sheet: ' + e.tagName + ' ' + e.textContent.trim().slice(0, 20));
  for (const e of document.querySelectorAll('thead')) if (getComputedStyle(e).display !== 'table-header-group') bad.add('a head that is not repeated');
  for (const e of document.querySelectorAll('tr')) if (getComputedStyle(e).breakInside !== 'avoid') bad.add('a row that breaks');
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !e.checkVisibility() || e.closest('.skip, option')) continue;
    const style = getComputedStyle(e);
    if (1.05 / (lum(e.closest('svg') ? style.fill : style.color) + 0.05) < 7) bad.add('pale: ' + walk.currentNode.textContent.trim().slice(0, 20));
  }
  if (!document.querySelector('main h1').checkVisibility()) bad.add('no heading');
  return [...bad];
})()`

// Every page on paper is its content: nothing that only a screen needs, nothing
// beyond an A4 sheet, whoever reads it in the dark and in Chinese too. Each makes a
// PDF; a long table goes on to the next sheet.
func TestPrint(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	fillRig(t, r)
	fillScreens(t, r)
	b := openTab(t, r)
	const wide, high, margin = 8.27, 11.69, 0.47 // A4 in inches, and 12 mm
	call(b, network.SetCookie, network.SetCookieParams{Name: "language", Value: "zh", URL: r.url})
	paper := func(media string) {
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: media, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}})
	}
	sheet := (wide - 2*margin) * 96
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: int64(sheet), Height: 1000, DeviceScaleFactor: 1})
	for _, path := range browserPages {
		b.open(path)
		paper("print")
		for _, problem := range result(b, chromedp.Evaluate[[]string](onPaper)) {
			t.Errorf("%s on paper: %s", path, problem)
		}
		paper("")
		pdf := call(b, page.PrintToPDF, page.PrintToPDFParams{PaperWidth: wide, PaperHeight: high, PreferCSSPageSize: new(true)}).Data
		sheets := len(regexp.MustCompile(`/Type\s*/Page\b`).FindAll(pdf, -1))
		if sheets == 0 || !bytes.HasPrefix(pdf, []byte("%PDF-")) {
			t.Errorf("%s is printed on %d sheets, in %d bytes", path, sheets, len(pdf))
		}
		if path == "/tasks" && sheets < 2 {
			t.Errorf("50 tasks are on %d sheets", sheets)
		}
	}
}
