package console

import (
	"context"
	"fmt"
	"html"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// A rig is a console over a database of its own, with two authors: mei has the
// app shop, li has the app hook.
type rig struct {
	db      *pgtest.DB
	console *Console
	url     string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db := pgtest.New(t)
	exec(t, db, `INSERT INTO scheduler.apps (app_id, workspace_id, provider, time_zone) VALUES
		('shop', 'test', 'mpaas', 'Asia/Shanghai'), ('life', '', 'alipay', 'Asia/Shanghai'), ('hook', '', 'webhook', 'UTC')`)
	exec(t, db, `INSERT INTO scheduler.channels (channel, provider, max_targets, weekly_quota)
		VALUES ('mpaas.push_multiple', 'mpaas', 100, 0), ('webhook', 'webhook', 100, 0), ('alipay.label_send', 'alipay', 0, 5) ON CONFLICT DO NOTHING`)
	suffix := strconv.FormatInt(time.Now().UnixNano(), 36)
	for name, app := range map[string]string{"mei": "shop", "li": "hook"} {
		exec(t, db, fmt.Sprintf(`CREATE ROLE %s_%s LOGIN PASSWORD 'secret' IN ROLE scheduler_author`, name, suffix))
		exec(t, db, `SELECT scheduler.grant_app(app_id, workspace_id, $1) FROM scheduler.apps WHERE app_id = $2`, name+"_"+suffix, app)
	}
	owner, err := store.Open(t.Context(), store.Config{URL: db.URL, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(owner.Close)
	c, err := New(Config{
		Owner: owner, Log: slog.New(slog.DiscardHandler), Judge: judge.Judge{Adapters: []dispatch.Adapter{mpaas.Adapter{}, alipay.Adapter{}, webhook.Adapter{}}},
		SignIn: func(ctx context.Context, user, password string) (*store.Store, error) {
			if password != "secret" {
				return nil, ErrSignIn
			}
			return store.Open(ctx, store.Config{URL: db.URLAs(t, user+"_"+suffix, password), MaxConns: 2})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	server := httptest.NewServer(c.Handler())
	t.Cleanup(server.Close)
	t.Cleanup(func() {
		for _, name := range []string{"mei", "li"} {
			exec(t, db, fmt.Sprintf(`DELETE FROM scheduler.app_grants WHERE role = '%[1]s_%[2]s'`, name, suffix))
			exec(t, db, fmt.Sprintf(`DROP OWNED BY %[1]s_%[2]s; DROP ROLE %[1]s_%[2]s`, name, suffix))
		}
	})
	return &rig{db: db, console: c, url: server.URL}
}

func exec(t *testing.T, db *pgtest.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(context.WithoutCancel(t.Context()), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// A browser keeps cookies and follows redirects, and has no JavaScript.
type browser struct {
	t      *testing.T
	url    string
	client *http.Client
}

func (r *rig) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, r.url, &http.Client{Jar: jar}}
}

// as signs an author in.
func (r *rig) as(t *testing.T, user string) *browser {
	t.Helper()
	b := r.browser(t)
	b.post("/sign-in", url.Values{"user": {user}, "password": {"secret"}}, http.StatusOK)
	return b
}

// owner signs the owner in with a link.
func (r *rig) owner(t *testing.T) *browser {
	t.Helper()
	b := r.browser(t)
	b.post(r.console.Link(), nil, http.StatusOK)
	return b
}

func (b *browser) get(path string) string {
	b.t.Helper()
	return b.do(http.MethodGet, path, nil, http.StatusOK)
}

func (b *browser) post(path string, form url.Values, want int) string {
	b.t.Helper()
	return b.do(http.MethodPost, path, form, want)
}

func (b *browser) do(method, path string, form url.Values, want int) string {
	b.t.Helper()
	body, status := b.look(method, path, form)
	if status != want {
		b.t.Fatalf("%s %s: status %d, want %d\n%s", method, path, status, want, body)
	}
	return body
}

func has(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Errorf("the page lacks %q:\n%s", text, page)
		}
	}
}

// weekly is the form of a weekly campaign.
func weekly() url.Values {
	now := time.Now().In(time.FixedZone("CST", 8*3600))
	return url.Values{
		"name": {"weekly news"}, "app": {"shop test"}, "channel": {"mpaas.push_multiple"}, "type": {"2"}, "circle": {"2"}, "day": {"1", "4"}, "time": {"10:00:00"},
		"start": {now.Format(time.DateOnly)}, "end": {now.AddDate(0, 0, 28).Format(time.DateOnly)}, "misfire_policy": {"latest"}, "catch_up_window": {"1h"},
		"short_month_policy": {"skip"}, "dst_gap_policy": {"shift"}, "targets": {"user-1\r\nuser-2"},
		"request": {`{"deliveryType": 3, "expiredSeconds": 600, "templateName": "weekly"}`},
	}
}

// with returns the form with other values.
func with(form url.Values, pairs ...string) url.Values {
	out := url.Values{}
	maps.Copy(out, form)
	for i := 0; i+1 < len(pairs); i += 2 {
		out.Set(pairs[i], pairs[i+1])
	}
	return out
}

// A campaign with several times a day: written, refused beside its field, stored,
// shown in both languages, edited and copied.
func TestSeveralTimesADay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.as(t, "mei")
	form := with(weekly(), "times", "18:00, 09:00:00，12:30")
	wrong := b.post("/campaigns", with(form, "times", "09:00 9am", "do", "insert"), http.StatusUnprocessableEntity)
	has(t, wrong, `name="times" value="09:00 9am" placeholder="09:00, 12:30, 18:00" aria-invalid="true"`, "must hold times of day from 00:00:00 to 23:59:59")
	preview := b.post("/campaigns", with(form, "do", "preview"), http.StatusOK)
	has(t, preview, "every Monday and Thursday at 09:00:00, 12:30:00 and 18:00:00", html.EscapeString("ARRAY['18:00:00', '09:00:00', '12:30:00']"))
	has(t, b.post("/campaigns", with(form, "do", "insert"), http.StatusOK), "every Monday and Thursday at 09:00:00, 12:30:00 and 18:00:00")
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaigns WHERE times = '{09:00:00,12:30:00,18:00:00}' AND NOT strategy_content ? 'time'`); n != 1 {
		t.Fatalf("%d campaigns with these times are stored, want 1", n)
	}
	at := fmt.Sprintf("/campaigns/%d", count(t, r.db, `SELECT max(id) FROM scheduler.campaigns`))
	for _, page := range []string{at + "/edit", at + "/copy"} {
		has(t, b.get(page), `name="times" value="09:00:00, 12:30:00, 18:00:00"`)
	}
	edit := b.post(at, with(form, "revision", "1", "times", "09:00, 20:00", "do", "preview"), http.StatusOK)
	has(t, edit, "<td>times</td><td><pre>09:00:00, 12:30:00, 18:00:00</pre></td><td><pre>09:00:00, 20:00:00</pre></td>", html.EscapeString("times = ARRAY['09:00:00', '20:00:00']"))
	b.post("/preferences", url.Values{"language": {"zh"}}, http.StatusOK)
	has(t, b.post(at, with(form, "revision", "1", "times", "09:00, 20:00", "do", "update"), http.StatusOK), "每周一和周四 09:00:00和20:00:00")
	page := b.post(at, with(form, "revision", "2", "times", "", "do", "update"), http.StatusOK)
	has(t, page, "每周一和周四 10:00:00")
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaigns WHERE times IS NULL AND strategy_content ->> 'time' = '10:00:00'`); n != 1 {
		t.Errorf("%d campaigns went back to a single time, want 1", n)
	}
}

// Quiet hours of an app: the form says what becomes of an occurrence within them, and
// the campaign's page, the calendar and the limits show it, in both languages.
func TestQuietHours(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.as(t, "mei")
	form := weekly() // at 10:00
	if _, err := r.db.Exec(t.Context(), `UPDATE scheduler.apps SET quiet_from = '09:00', quiet_until = '11:00'`); err != nil {
		t.Fatal(err)
	}
	has(t, b.get("/campaigns/new"), `name="quiet_policy"`, "is held until they end")
	preview := b.post("/campaigns", with(form, "do", "preview"), http.StatusOK)
	has(t, preview, "quiet hours: held until ", " 11:00:00")
	has(t, b.post("/campaigns", with(form, "quiet_policy", "skip", "do", "preview"), http.StatusOK), "left out: quiet hours", html.EscapeString("'skip'"))
	refused := b.post("/campaigns", with(form, "quiet_policy", "ignore", "do", "insert"), http.StatusUnprocessableEntity)
	has(t, refused, "has to be allowed by an admin")
	page := b.post("/campaigns", with(form, "do", "insert"), http.StatusOK)
	has(t, page, "Quiet hours", "09:00:00–11:00:00", "what is due within them is held until they end", "quiet hours: held until ")
	at := fmt.Sprintf("/campaigns/%d", count(t, r.db, `SELECT max(id) FROM scheduler.campaigns`))
	has(t, b.get("/limits"), "Held until quiet hours end", "09:00:00–11:00:00")
	has(t, b.get("/calendar"), "☾")
	edit := b.post(at, with(form, "revision", "1", "quiet_policy", "skip", "do", "preview"), http.StatusOK)
	has(t, edit, "<td>quiet_policy</td><td><pre></pre></td><td><pre>skip</pre></td>", html.EscapeString("quiet_policy = 'skip'"))
	page = b.post(at, with(form, "revision", "1", "quiet_policy", "skip", "do", "update"), http.StatusOK)
	has(t, page, "what is due within them is left out", "left out: quiet hours")
	has(t, b.get("/limits"), "Left out for quiet hours")
	b.post("/preferences", url.Values{"language": {"zh"}}, http.StatusOK)
	has(t, b.get(at), "免打扰时段", "因免打扰时段跳过")
	has(t, b.get(at+"/edit"), `<option value="skip" selected>跳过</option>`)
}

// A campaign with a spread: written, refused beside its field, stored, shown in both
// languages, edited and copied; and an app's ceiling of targets on the page of limits.
func TestSpreadInTheForm(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.as(t, "mei")
	form := with(weekly(), "spread", "30 minutes")
	wrong := b.post("/campaigns", with(form, "spread", "2h", "do", "insert"), http.StatusUnprocessableEntity)
	has(t, wrong, `name="spread" value="2h" placeholder="30m" aria-invalid="true"`, "must not be longer than catch_up_window", "<details open>")
	preview := b.post("/campaigns", with(form, "do", "preview"), http.StatusOK)
	has(t, preview, html.EscapeString("'1800 seconds'"))
	has(t, b.post("/campaigns", with(form, "do", "insert"), http.StatusOK), "<dt>Spread</dt><dd>30m0s</dd>")
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaigns WHERE spread = '30 minutes'`); n != 1 {
		t.Fatalf("%d campaigns have the spread, want 1", n)
	}
	at := fmt.Sprintf("/campaigns/%d", count(t, r.db, `SELECT max(id) FROM scheduler.campaigns`))
	for _, page := range []string{at + "/edit", at + "/copy"} {
		has(t, b.get(page), `name="spread" value="30m0s"`)
	}
	edit := b.post(at, with(form, "revision", "1", "spread", "10m", "do", "preview"), http.StatusOK)
	has(t, edit, "<td>spread</td><td><pre>30m0s</pre></td><td><pre>10m0s</pre></td>", html.EscapeString("spread = '600 seconds'"))
	b.post("/preferences", url.Values{"language": {"zh"}}, http.StatusOK)
	has(t, b.post(at, with(form, "revision", "1", "spread", "3d", "do", "update"), http.StatusUnprocessableEntity), "必须是时长")
	has(t, b.post(at, with(form, "revision", "1", "spread", "2h", "do", "update"), http.StatusUnprocessableEntity), "不能比 catch_up_window 更长", "请缩短分散时长")
	b.post(at, with(form, "revision", "1", "spread", "", "do", "update"), http.StatusOK)
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaigns WHERE spread IS NULL AND revision = 2`); n != 1 {
		t.Errorf("%d campaigns went back to none, want 1", n)
	}
	if _, err := r.db.Exec(t.Context(), `UPDATE scheduler.apps SET targets_per_second = 250.5`); err != nil {
		t.Fatal(err)
	}
	has(t, b.get("/limits"), "每秒目标数", `<td class="number">250.5</td>`)
}

// A campaign with a calendar: chosen from a list, shown with what it moves and why,
// refused beside its field, edited, and on the pages of calendars.
func TestACalendarOfOpenDays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.as(t, "mei")
	has(t, b.get("/calendars"), "There is none yet.")
	zone := time.FixedZone("CST", 8*3600)
	day := time.Now().In(zone).AddDate(0, 0, 3)
	exec(t, r.db, `INSERT INTO scheduler.calendars (name, open_weekdays) VALUES ('china', '{1,2,3,4,5,6,7}')`)
	exec(t, r.db, `INSERT INTO scheduler.calendar_days (calendar, day, why) VALUES ('china', $1::date, 'day of <rest>')`, day)
	closed := time.Date(day.Year(), day.Month(), day.Day(), 10, 0, 0, 0, zone).UTC()

	form := with(weekly(), "circle", "1", "calendar", "china", "calendar_policy", "next_open")
	preview := b.post("/campaigns", with(form, "do", "preview"), http.StatusOK)
	has(t, preview, "what falls on a closed day of calendar china moves to the next open day", "On closed days of calendar china", "day of &lt;rest&gt;",
		closed.Format(time.RFC3339), html.EscapeString("'china', 'next_open'"), `<option selected>china</option>`)
	wrong := b.post("/campaigns", with(form, "calendar", "none"), http.StatusUnprocessableEntity)
	has(t, wrong, `name="calendar" aria-invalid="true"`, "must be a calendar in scheduler.calendars")
	exec(t, r.db, `UPDATE scheduler.calendars SET open_weekdays = '{}'`)
	has(t, b.post("/campaigns", with(form, "do", "insert"), http.StatusUnprocessableEntity), "must yield at least one occurrence from now on", "calendar china closes days among these")
	exec(t, r.db, `UPDATE scheduler.calendars SET open_weekdays = '{1,2,3,4,5,6,7}'`)
	has(t, b.post("/campaigns", with(form, "do", "insert"), http.StatusOK), "moves to the next open day", "day of &lt;rest&gt;", `<a href="/calendars?name=china">china</a>`)
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaigns WHERE calendar = 'china' AND calendar_policy = 'next_open'`); n != 1 {
		t.Fatalf("%d campaigns with the calendar are stored, want 1", n)
	}
	edit := b.post("/campaigns/1", with(form, "revision", "1", "calendar_policy", "skip", "do", "preview"), http.StatusOK)
	has(t, edit, "<td>calendar_policy</td><td><pre>next_open</pre></td><td><pre>skip</pre></td>", "left out")
	has(t, b.post("/campaigns/1", with(form, "revision", "1", "calendar", "", "do", "update"), http.StatusOK), "every day at 10:00:00")
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaigns WHERE calendar IS NULL AND calendar_policy IS NULL`); n != 1 {
		t.Errorf("%d campaigns went back to no calendar, want 1", n)
	}

	has(t, b.get("/calendar?at="+day.Format(time.DateOnly)), "closed (china): day of &lt;rest&gt;")
	has(t, b.get("/calendars?name=china&year="+day.Format("2006")), day.Format(time.DateOnly), "day of &lt;rest&gt;", "Mon, Tue, Wed, Thu, Fri, Sat, Sun")
	b.post("/preferences", url.Values{"language": {"zh"}}, http.StatusOK)
	has(t, b.post("/campaigns", with(form, "do", "preview"), http.StatusOK), "日历 china 的休息日顺延到下一个开放日", "在日历 china 的休息日")
}

// A person's first ten minutes: sign in, see what to do, write a weekly campaign
// with two mistakes, fix them at their fields, store it, see it in the calendar,
// pause and resume it, skip one day, change it, and see who did that.
func TestFirstTenMinutes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.as(t, "mei")
	has(t, b.get("/"), "There is no campaign yet.", "/campaigns/new")
	has(t, b.get("/campaigns/new"), "shop test")

	wrong := b.post("/campaigns", with(weekly(), "time", "25:00:00", "request", `{"deliveryType": 3, "expiredSeconds": 600}`, "do", "insert"), http.StatusUnprocessableEntity)
	has(t, wrong, `name="time" type="time" step="1" value="25:00:00" aria-invalid="true"`, "must be a time of day", "templateName")
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaigns`); n != 0 {
		t.Fatalf("%d campaigns are stored after a refused form", n)
	}

	b.post("/preferences", url.Values{"language": {"zh"}}, http.StatusOK)
	has(t, b.post("/campaigns", with(weekly(), "time", "25:00:00"), http.StatusUnprocessableEntity), "必须是 00:00:00 至 23:59:59 的时刻")
	has(t, b.post("/campaigns", with(weekly(), "do", "preview"), http.StatusOK), "每周一和周四 10:00:00")
	b.post("/preferences", url.Values{"language": {"en"}}, http.StatusOK)
	preview := b.post("/campaigns", with(weekly(), "do", "preview"), http.StatusOK)
	has(t, preview, "every Monday and Thursday at 10:00:00", "INSERT INTO scheduler.campaigns", `value="insert"`)
	page := b.post("/campaigns", with(weekly(), "do", "insert"), http.StatusOK)
	has(t, page, "weekly news", "every Monday and Thursday at 10:00:00")
	id := count(t, r.db, `SELECT max(id) FROM scheduler.campaigns`)
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaign_targets`); n != 2 {
		t.Errorf("%d targets are stored, want 2", n)
	}
	at := fmt.Sprintf("/campaigns/%d", id)

	// It is in the calendar, on the day of its first occurrence; not while it is paused.
	due := html.UnescapeString(regexp.MustCompile(`name="at" value="([^"]+)"`).FindStringSubmatch(page)[1])
	first, err := time.Parse(time.RFC3339, due)
	if err != nil {
		t.Fatal(err)
	}
	day := "/calendar?view=day&at=" + first.In(time.FixedZone("CST", 8*3600)).Format(time.DateOnly)
	has(t, b.get(day), "weekly news", "planned", due)

	page = b.post(at+"/pause", url.Values{"revision": {"1"}, "note": {"wrong week"}}, http.StatusOK)
	has(t, page, "paused", "wrong week")
	if n := inCells(b.get(day), "planned"); n != 0 {
		t.Errorf("%d occurrences are planned of a paused campaign", n)
	}
	b.post(at+"/resume", url.Values{"revision": {"1"}}, http.StatusConflict) // somebody else's page
	page = b.post(at+"/resume", url.Values{"revision": {"2"}}, http.StatusOK)
	has(t, page, "active")

	has(t, b.post(at+"/skip", url.Values{"at": {due}, "note": {"a holiday"}}, http.StatusOK), "skipped by mei_", "a holiday")
	if page := b.get(day); inCells(page, "planned") != 0 || inCells(page, "cancelled") != 1 {
		t.Errorf("the skipped day in the calendar:\n%s", page)
	}

	edit := b.post(at, with(weekly(), "revision", "3", "name", "weekly offers", "do", "preview"), http.StatusOK)
	has(t, edit, "What changes", "weekly news", "weekly offers")
	b.post(at, with(weekly(), "revision", "2", "name", "lost", "do", "update"), http.StatusConflict)
	page = b.post(at, with(weekly(), "revision", "3", "name", "weekly offers", "note", "new name", "do", "update"), http.StatusOK)
	has(t, page, "weekly offers", "new name", "mei_")

	page = b.post(at+"/cancel", url.Values{"revision": {"4"}}, http.StatusOK)
	has(t, page, "cancelled")
	has(t, b.get("/audit"), "pause", "resume", "update", "cancel", "skip", "a holiday", "mei_")
}

func count(t *testing.T, db *pgtest.DB, sql string) (n int64) {
	t.Helper()
	if err := db.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Every route, taken from the router's own list, with the number of another
// author's campaign or task: as if there were none.
func TestForeignRowsAreNotThere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	mei := r.as(t, "mei")
	mei.post("/campaigns", with(weekly(), "name", "only mei's", "do", "insert"), http.StatusOK)
	id := count(t, r.db, `SELECT max(id) FROM scheduler.campaigns`)
	exec(t, r.db, `INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, attempts, slices, accepted, target_count, reason)
		SELECT 77, c.app_no, c.id, 1, ch.channel_no, 'scheduled', 'unknown', now() - interval '1 hour', 1, 1, 0, 1, 'timeout of only mei''s'
		  FROM scheduler.campaigns c JOIN scheduler.channels ch USING (channel)`)
	has(t, mei.get("/tasks/77"), "timeout of only mei")
	li := r.as(t, "li")
	deeds := map[string][]string{"/campaigns": {"pause", "resume", "cancel", "trigger", "skip", "unskip"}, "/tasks": {"sent", "not-sent", "resend", "revoke"}}
	tried := 0
	for _, route := range allRoutes() {
		method, path, _ := strings.Cut(route.pattern, " ")
		if !strings.Contains(path, "{id}") {
			continue
		}
		number := strconv.FormatInt(id, 10)
		if strings.HasPrefix(path, "/tasks") {
			number = "77"
		}
		path = strings.Replace(path, "{id}", number, 1)
		paths := []string{path}
		if before, _, ok := strings.Cut(path, "{deed}"); ok {
			paths = nil
			for _, deed := range deeds["/"+strings.Split(path, "/")[1]] {
				paths = append(paths, before+deed)
			}
		}
		for _, p := range paths {
			tried++
			body, status := li.look(method, p, url.Values{"revision": {"1"}, "note": {"mine"}, "do": {"update"}, "at": {time.Now().AddDate(0, 0, 1).UTC().Format(time.RFC3339)}})
			if status != http.StatusNotFound && status != http.StatusForbidden || strings.Contains(body, "only mei") {
				t.Errorf("%s %s as another author: status %d\n%s", method, p, status, body)
			}
		}
	}
	if tried < 12 {
		t.Fatalf("tried only %d routes", tried)
	}
	for _, list := range []string{"/", "/campaigns", "/tasks", "/calendar", "/calendar?view=day", "/unknown", "/limits", "/lateness", "/audit"} {
		if page := li.get(list); strings.Contains(page, "only mei") || strings.Contains(page, "shop") {
			t.Errorf("%s shows another author's rows:\n%s", list, page)
		}
	}
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaign_history`); n != 0 {
		t.Errorf("%d changes were made by another author", n)
	}
}

// look asks and says what came.
func (b *browser) look(method, path string, form url.Values) (string, int) {
	b.t.Helper()
	if method == http.MethodGet {
		form = nil
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(body), res.StatusCode
}

// sixtyOutcomes are decided tasks of every campaign, one each seven hours.
const sixtyOutcomes = `INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, sent_at, attempts, slices, accepted, target_count, reason)
		SELECT 100 + n, c.app_no, c.id, 1, ch.channel_no, 'scheduled', (ARRAY['succeeded','failed','missed','unknown'])[1 + n % 4]::scheduler.decision,
		       now() - n * interval '7 hours', now() - n * interval '7 hours' + interval '3 ms', 1, 1, CASE WHEN n % 4 = 0 THEN 1 ELSE 0 END, 1, CASE WHEN n % 4 > 0 THEN 'why' END
		  FROM scheduler.campaigns c JOIN scheduler.channels ch USING (channel), generate_series(1, 60) n`

// Every page in both languages, as the owner, over some rows.
func TestEveryPageInBothLanguages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.owner(t)
	b.post("/campaigns", with(weekly(), "do", "insert"), http.StatusOK)
	id := count(t, r.db, `SELECT max(id) FROM scheduler.campaigns`)
	exec(t, r.db, sixtyOutcomes)
	number := regexp.MustCompile(`\{id\}`)
	for _, lang := range []string{"en", "zh"} {
		b.post("/preferences", url.Values{"language": {lang}, "zone": {"Asia/Shanghai"}, "back": {"/"}}, http.StatusOK)
		for _, route := range allRoutes() {
			method, path, _ := strings.Cut(route.pattern, " ")
			if method != http.MethodGet || strings.Contains(path, "{token}") || strings.HasPrefix(path, "/sign-in") {
				continue
			}
			of, deed := strconv.FormatInt(id, 10), "cancel"
			if strings.HasPrefix(path, "/tasks") {
				of, deed = "103", "sent"
			}
			path = strings.NewReplacer("{$}", "", "{deed}", deed).Replace(number.ReplaceAllString(path, of))
			page := b.get(path)
			has(t, page, `<html lang="`+lang+`">`, "</html>")
			if strings.Contains(page, "%!") || strings.Contains(page, "<no value>") {
				t.Errorf("%s in %s has a hole:\n%s", path, lang, page)
			}
			if lang == "zh" {
				has(t, page, "活动")
			}
		}
		for _, path := range []string{"/calendar?view=week", "/calendar?view=day", "/tasks?status=failed", "/tasks?since=2026-01-01", "/lateness?range=7d", "/campaigns?q=WEEK", "/campaigns/" + strconv.FormatInt(id, 10) + "/confirm/trigger"} {
			b.get(path)
		}
	}
	first := b.get("/tasks")
	older := regexp.MustCompile(`href="(/tasks\?[^"]*after=[^"]*)"`).FindStringSubmatch(first)
	if older == nil {
		t.Fatal("60 tasks have no second page")
	}
	if n := strings.Count(b.get(strings.ReplaceAll(older[1], "&amp;", "&")), `href="/tasks/1`); n < 10 {
		t.Errorf("the second page has %d tasks", n)
	}
}

// The deeds of an operator: hold, release, trigger, rule.
func TestOperatorsDeeds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.owner(t)
	b.post("/campaigns", with(weekly(), "do", "insert"), http.StatusOK)
	b.post("/hold", url.Values{}, http.StatusUnprocessableEntity)
	has(t, b.post("/hold", url.Values{"note": {"wrong template"}}, http.StatusOK), "Held since", "wrong template")
	has(t, b.get("/"), "Held: nothing begins on any daemon.")
	has(t, b.post("/release", url.Values{}, http.StatusOK), "Pushes go out")
	id := count(t, r.db, `SELECT max(id) FROM scheduler.campaigns`)
	has(t, b.post(fmt.Sprintf("/campaigns/%d/trigger", id), url.Values{"note": {"now"}}, http.StatusOK), "pending")
	exec(t, r.db, `INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, attempts, slices, accepted, target_count, reason)
		SELECT 77, c.app_no, c.id, 1, ch.channel_no, 'scheduled', 'unknown', now() - interval '1 hour', 1, 1, 0, 1, 'timeout'
		  FROM scheduler.campaigns c JOIN scheduler.channels ch USING (channel)`)
	has(t, b.get("/unknown"), "timeout", "/tasks/77/confirm/sent")
	b.post("/tasks/77/sent", url.Values{}, http.StatusUnprocessableEntity)
	has(t, b.post("/tasks/77/sent", url.Values{"note": {"seen in their console"}}, http.StatusOK), "succeeded", "seen in their console")
	has(t, b.get("/audit?what=hold"), "wrong template")
	mei := r.as(t, "mei")
	mei.post("/hold", url.Values{"note": {"no"}}, http.StatusForbidden)
	if page := mei.get("/hold"); strings.Contains(page, "<button class=\"main\">Hold") {
		t.Error("an author is offered a hold")
	}
}

// Who may come in, and how.
func TestSignIn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser(t)
	has(t, b.get("/campaigns?status=paused"), `name="next" value="/campaigns?status=paused"`)
	has(t, b.post("/sign-in", url.Values{"user": {"mei"}, "password": {"wrong"}}, http.StatusUnauthorized), "password is wrong")
	b.post("/campaigns/1/pause", url.Values{}, http.StatusUnauthorized)
	has(t, b.post("/sign-in", url.Values{"user": {"mei"}, "password": {"secret"}, "next": {"//evil.example/"}}, http.StatusOK), "Overview")
	b.post("/sign-out", nil, http.StatusOK)
	has(t, b.get("/"), "Database login")

	link := r.console.Link()
	has(t, b.get(link), "It works once")
	has(t, b.post(link, nil, http.StatusOK), "Overview")
	r.browser(t).post(link, nil, http.StatusGone)

	for range 2 * callerAttempts {
		if _, status := b.look(http.MethodPost, "/sign-in", url.Values{"user": {"mei"}, "password": {"wrong"}}); status == http.StatusTooManyRequests {
			return
		}
	}
	t.Error("attempts to sign in have no bound")
}

// Another site can neither post here nor be told anything, and no page may be
// framed or run a script of its own.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.owner(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/hold", strings.NewReader("note=x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a form of another site: status %d", res.StatusCode)
	}
	look, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	page, err := b.client.Do(look)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	for name, part := range map[string]string{
		"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
	} {
		if !strings.Contains(page.Header.Get(name), part) {
			t.Errorf("%s: %q", name, page.Header.Get(name))
		}
	}
	body, err := io.ReadAll(page.Body)
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?i) style=|<script>|onclick=| on[a-z]+=`).Match(body) {
		t.Errorf("the page has a script or a style of its own:\n%s", body)
	}
}

// What an author writes is text on every page.
func TestTextIsText(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.owner(t)
	name := `<script>alert(1)</script>"'&`
	page := b.post("/campaigns", with(weekly(), "name", name, "do", "insert"), http.StatusOK)
	if strings.Contains(page, "<script>alert") {
		t.Errorf("a name is not escaped:\n%s", page)
	}
	if list := b.get("/campaigns"); strings.Contains(list, "<script>alert") {
		t.Errorf("a name is not escaped in the list:\n%s", list)
	}
}

// An author takes one coming occurrence out, sees it marked, takes that back, and
// finds both in the audit.
func TestSkipAnOccurrence(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.as(t, "mei")
	page := b.post("/campaigns", with(weekly(), "do", "insert"), http.StatusOK)
	at := fmt.Sprintf("/campaigns/%d", count(t, r.db, `SELECT max(id) FROM scheduler.campaigns`))
	values := regexp.MustCompile(`name="at" value="([^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(values) < 8 {
		t.Fatalf("%d occurrences can be skipped:\n%s", len(values), page)
	}
	due := html.UnescapeString(values[1][1])
	page = b.post(at+"/skip", url.Values{"at": {due}, "note": {"holiday"}}, http.StatusOK)
	has(t, page, at+"/unskip", "skipped by mei_", ": holiday", "Take the skip back")
	if n := strings.Count(page, "<s>"); n != 1 {
		t.Errorf("%d occurrences are struck out, want 1", n)
	}
	page = b.post(at+"/unskip", url.Values{"at": {due}, "note": {"no holiday"}}, http.StatusOK)
	if strings.Contains(page, "<s>") {
		t.Error("the occurrence is still struck out")
	}
	has(t, b.get("/audit"), "skip", "holiday", "unskip", "no holiday")
	b.post(at+"/skip", url.Values{"at": {"soon"}}, http.StatusBadRequest)
	b.post(at+"/skip", url.Values{"at": {time.Now().AddDate(0, 0, 1).Format(time.RFC3339)}}, http.StatusUnprocessableEntity)
	b.post(at+"/cancel", url.Values{"revision": {"1"}}, http.StatusOK)
	if page := b.get(at); strings.Contains(page, "Skip this occurrence") {
		t.Error("occurrences of a cancelled campaign can be skipped")
	}
}

// What was accepted is taken back after a question, with a reason, and its page
// says what came of it.
func TestTakeATaskBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.as(t, "mei")
	b.post("/campaigns", with(weekly(), "do", "insert"), http.StatusOK)
	exec(t, r.db, `INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, attempts, slices, accepted, target_count, message_id, reason)
		SELECT x.id, c.app_no, c.id, 1, ch.channel_no, 'scheduled', x.status::scheduler.decision, now() - x.id * interval '1 hour', 1, 1, x.accepted, 1, 'm-1', x.reason
		  FROM scheduler.campaigns c JOIN scheduler.channels ch USING (channel), (VALUES (77, 'succeeded', 1, NULL), (78, 'failed', 0, 'why')) x (id, status, accepted, reason)`)
	has(t, b.get("/tasks/77"), "/tasks/77/confirm/revoke")
	has(t, b.get("/tasks/77/confirm/revoke"), "Take back what was accepted", `action="/tasks/77/revoke"`)
	has(t, b.post("/tasks/77/revoke", url.Values{}, http.StatusUnprocessableEntity), "Say why")
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.revocations`); n != 0 {
		t.Fatal("it was taken back without a reason")
	}
	has(t, b.post("/tasks/77/revoke", url.Values{"note": {"wrong price"}}, http.StatusOK), "Taken back", "waiting", "revoke", "wrong price", "succeeded")
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.revocation_calls WHERE message_id = 'm-1'`); n != 1 {
		t.Errorf("%d deliveries are asked to be taken back, want 1", n)
	}
	has(t, b.post("/tasks/77/revoke", url.Values{"target": {"user-1"}}, http.StatusUnprocessableEntity), `name="target" maxlength="1000" value="user-1"`)
	b.post("/tasks/77/revoke", url.Values{"note": {"wrong name"}, "target": {" user-1 "}}, http.StatusOK)
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.revocation_calls WHERE target = 'user-1'`); n != 1 {
		t.Errorf("%d deliveries are asked to be taken back for one target, want 1", n)
	}
	if page := b.get("/tasks/78"); strings.Contains(page, "confirm/revoke") {
		t.Error("a task of which nothing was accepted can be taken back")
	}
	has(t, b.post("/tasks/78/revoke", url.Values{"note": {"x"}}, http.StatusUnprocessableEntity), "accepted nothing")
}

// A target that is written twice is told of as a rule, and nothing is stored.
func TestTargetTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	page := r.as(t, "mei").post("/campaigns", with(weekly(), "targets", "user-1\r\nuser-1", "do", "insert"), http.StatusUnprocessableEntity)
	has(t, page, "must not name a target twice")
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaigns`); n != 0 {
		t.Errorf("%d campaigns are stored", n)
	}
}

// What was done with a task stays on its page, however much was done with its
// campaign since.
func TestTaskShowsItsOwnAudit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.owner(t)
	b.post("/campaigns", with(weekly(), "do", "insert"), http.StatusOK)
	exec(t, r.db, sixtyOutcomes)
	unknown := count(t, r.db, `SELECT min(id) FROM scheduler.decided_tasks WHERE status = 'unknown'`)
	b.post(fmt.Sprintf("/tasks/%d/sent", unknown), url.Values{"note": {"the provider's own list has it"}}, http.StatusOK)
	exec(t, r.db, `DO $$ BEGIN FOR i IN 1..60 LOOP UPDATE scheduler.campaigns SET name = 'edit ' || i; END LOOP; END $$`)
	has(t, b.get(fmt.Sprintf("/tasks/%d", unknown)), "the provider&#39;s own list has it")
	has(t, b.get("/audit?what=rule"), "the provider&#39;s own list has it")
}

// The apps of another configuration count from when they are given.
func TestAppsOfAnotherConfiguration(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.as(t, "mei")
	audience := with(weekly(), "channel", "mpaas.push_broadcast", "targets", "", "do", "preview",
		"request", `{"deliveryType": 1, "expiredSeconds": 600, "templateName": "weekly", "bindPeriod": 1, "tagId": "t"}`)
	has(t, b.post("/campaigns", audience, http.StatusUnprocessableEntity), "allow_audience_schedules")
	r.console.SetApps([]config.App{{AppID: "shop", WorkspaceID: "test", AllowAudienceSchedules: true}})
	b.post("/campaigns", audience, http.StatusOK)
}
