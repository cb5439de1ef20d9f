package console

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"text/template/parse"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/console/words"
	"github.com/campaign-scheduler/scheduler/store"
)

// A view is how one reader sees a page: language, zone, rights, and now.
type view struct {
	words.Printer
	Rights store.Rights
	State  store.State
	Now    time.Time // the database's clock
	Path   string    // of the page, with its query: to come back to
	Zone   string    // the one zone for all times; empty: each campaign's own

	zones map[string]*time.Location // of this page: Go reads a zone's file each time it is asked
}

func newView(r *http.Request) *view {
	v := &view{Path: r.URL.RequestURI(), zones: make(map[string]*time.Location)}
	lang := ""
	if c, err := r.Cookie("language"); err == nil {
		lang = c.Value
	}
	v.Printer = words.For(lang, r.Header.Get("Accept-Language"))
	if c, err := r.Cookie("zone"); err == nil {
		if isZone(c.Value) {
			v.Zone = c.Value
		}
	}
	return v
}

// in moves a time into the zone it is shown in.
func (v *view) in(t time.Time, zone string) time.Time {
	if v.Zone != "" {
		zone = v.Zone
	}
	at := v.zones[zone]
	if at == nil {
		var err error
		if at, err = time.LoadLocation(zone); err != nil {
			at = time.UTC
		}
		v.zones[zone] = at
	}
	return t.In(at)
}

// When shows an instant: absolute with its zone, and how far from now it is.
func (v *view) When(t time.Time, zone string) template.HTML {
	if t.IsZero() {
		return "–"
	}
	local := v.in(t, zone)
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time> <small>%s, %s</small>`, //nolint:gosec // every part is escaped or ours
		t.UTC().Format(time.RFC3339), template.HTMLEscapeString(v.T(local.Format("Mon"))+local.Format(" 2006-01-02 15:04:05")), template.HTMLEscapeString(local.Location().String()),
		template.HTMLEscapeString(v.Ago(t))))
}

// Time writes an instant in the reader's zone within a sentence.
func (v *view) Time(t time.Time) string {
	local := v.in(t, "UTC")
	return local.Format("2006-01-02 15:04:05 ") + local.Location().String()
}

// Ago says how far from now an instant is, in its largest unit.
func (v *view) Ago(t time.Time) string {
	d := t.Sub(v.Now)
	text := v.Length(d.Abs())
	if d >= 0 {
		return v.T("in %s", text)
	}
	return v.T("%s ago", text)
}

// Length writes a duration in its two largest units.
func (v *view) Length(d time.Duration) string {
	switch {
	case d < time.Second:
		return v.T("%s ms", fmt.Sprint(d.Milliseconds()))
	case d < time.Minute:
		return v.T("%s s", fmt.Sprint(int(d.Seconds())))
	case d < time.Hour:
		return v.T("%s min", fmt.Sprint(int(d.Minutes())))
	case d < 48*time.Hour:
		return v.T("%s h %s min", fmt.Sprint(int(d.Hours())), fmt.Sprint(int(d.Minutes())%60))
	}
	return v.T("%s days", fmt.Sprint(int(d.Hours())/24))
}

// upTo writes a count that ends one above most.
func (v *view) upTo(n, most int64) string {
	if n > most {
		return v.T("more than %s", fmt.Sprint(most))
	}
	return fmt.Sprint(n)
}

// Letter is the sign of a status alone.
func (v *view) Letter(status string) string { return signs[status] }

// Deed names what was done; a ruling keeps the words of the database.
func (v *view) Deed(deed string) string {
	if rest, ok := strings.CutPrefix(deed, "rule "); ok {
		return v.T("rule") + ": " + rest
	}
	return v.T(deed)
}

// Days31 are the days of a month, as the form offers them.
func (v *view) Days31() []string {
	days := make([]string, 31)
	for i := range days {
		days[i] = fmt.Sprint(i + 1)
	}
	return days
}

// Weekday names days 1 to 7 of a week; others have no name.
func (v *view) Weekday(day string) string {
	return map[string]string{"1": v.T("Mon"), "2": v.T("Tue"), "3": v.T("Wed"), "4": v.T("Thu"), "5": v.T("Fri"), "6": v.T("Sat"), "7": v.T("Sun")}[day]
}

// signs stand for statuses, so that an outcome is never told by colour alone.
var signs = map[string]string{
	"pending": "○", "running": "▶", "succeeded": "✓", "failed": "✗", "missed": "M", "cancelled": "–", "unknown": "?", "held": "‖", "planned": "◌",
	"active": "▶", "paused": "‖", "finished": "■", "rejected": "✗",
}

// Statuses are all that the calendar counts.
func (v *view) Statuses() []string { return append(slices.Clone(taskStatuses), "planned") }

// Mark is the sign and the word of a status.
func (v *view) Mark(status string) template.HTML {
	return template.HTML(fmt.Sprintf(`<span class="status %s"><span aria-hidden="true">%s</span> <span class="word">%s</span></span>`, //nolint:gosec // a word of ours
		template.HTMLEscapeString(status), signs[status], template.HTMLEscapeString(v.T(status))))
}

// A pageName is a page in one language.
type pageName struct{ lang, page string }

// pages are parsed once for each language: the layout with each page.
func parsePages(files embed.FS) (map[pageName]*template.Template, error) {
	names, err := files.ReadDir("pages")
	if err != nil {
		return nil, err
	}
	pages := make(map[pageName]*template.Template)
	for _, f := range names {
		name := strings.TrimSuffix(f.Name(), ".html")
		if name == "layout" {
			continue
		}
		for _, printer := range words.Printers() {
			t, err := template.New("layout.html").Funcs(template.FuncMap{"query": query, "dict": dict}).ParseFS(files, "pages/layout.html", path.Join("pages", f.Name()))
			if err != nil {
				return nil, fmt.Errorf("page %s: %w", name, err)
			}
			for _, part := range t.Templates() {
				if part.Tree != nil {
					translate(part.Tree.Root, printer)
				}
			}
			pages[pageName{printer.Lang(), name}] = t
		}
	}
	return pages, nil
}

// translate replaces each {{.T "Tasks"}} below a node by the text in the printer's
// language. A page has dozens, and T is called by reflection: for light pages that
// was half of what they allocated.
func translate(n parse.Node, printer words.Printer) {
	branches := func(b *parse.BranchNode) {
		translate(b.List, printer)
		if b.ElseList != nil {
			translate(b.ElseList, printer)
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		for i, part := range n.Nodes {
			if text, ok := wholeText(part); ok {
				n.Nodes[i] = &parse.TextNode{NodeType: parse.NodeText, Pos: part.Position(), Text: []byte(template.HTMLEscapeString(printer.T(text)))}
			} else {
				translate(part, printer)
			}
		}
	case *parse.IfNode:
		branches(&n.BranchNode)
	case *parse.RangeNode:
		branches(&n.BranchNode)
	case *parse.WithNode:
		branches(&n.BranchNode)
	}
}

// wholeText returns the text of an action that is {{.T "Tasks"}}, of the page's data or of
// a variable's, and has no other arguments.
func wholeText(n parse.Node) (text string, ok bool) {
	action, ok := n.(*parse.ActionNode)
	if !ok || len(action.Pipe.Decl) > 0 || len(action.Pipe.Cmds) != 1 || len(action.Pipe.Cmds[0].Args) != 2 {
		return "", false
	}
	var called []string
	switch f := action.Pipe.Cmds[0].Args[0].(type) {
	case *parse.FieldNode:
		called = f.Ident
	case *parse.VariableNode:
		called = f.Ident[1:]
	}
	literal, ok := action.Pipe.Cmds[0].Args[1].(*parse.StringNode)
	if !ok || !slices.Equal(called, []string{"T"}) {
		return "", false
	}
	return literal.Text, true
}

// query writes pairs as a query, leaving out those without a value.
func query(pairs ...string) template.URL {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return ""
	}
	return template.URL("?" + q.Encode()) //nolint:gosec // Encode escapes
}

// dict passes named values to a template.
func dict(pairs ...any) map[string]any {
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1] //nolint:forcetypeassert // templates are ours
	}
	return m
}

// render writes a page, whole or not at all.
func (c *Console) render(x *exchange, status int, page string, data any) error {
	var b bytes.Buffer
	err := c.pages[pageName{x.Lang(), page}].Execute(&b, struct {
		*view
		Page string
		D    any
	}{x.view, page, data})
	if err != nil {
		return fmt.Errorf("page %s: %w", page, err)
	}
	x.done()
	x.ResponseWriter.Header().Set("Content-Type", "text/html; charset=utf-8")
	x.ResponseWriter.Header().Set("Content-Language", x.Lang())
	x.WriteHeader(status)
	_, _ = x.ResponseWriter.Write(b.Bytes())
	return nil
}

// preferences keeps how the reader likes pages, in cookies.
func (c *Console) preferences(x *exchange) error {
	keep := func(name, value string) {
		http.SetCookie(x.ResponseWriter, &http.Cookie{
			Name: name, Value: value, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, Secure: c.Secure, SameSite: http.SameSiteLaxMode,
		})
	}
	if lang := x.PostFormValue("language"); lang == "en" || lang == "zh" {
		keep("language", lang)
	}
	if _, given := x.PostForm["zone"]; given {
		if zone := x.PostFormValue("zone"); zone == "" || isZone(zone) {
			keep("zone", zone)
		}
	}
	return x.seeOther(next(x.PostFormValue("back")))
}

// isZone says whether the name is one of the IANA database.
func isZone(name string) bool {
	_, err := time.LoadLocation(name)
	return err == nil && name != "Local" && name != ""
}
