package console

import (
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// row matches a row of the table of effects: what, without, with, limit.
func row(what, before, after, limit string) *regexp.Regexp {
	const cell = `</td><td class="number">`
	return regexp.MustCompile(regexp.QuoteMeta(what) + cell + before + cell + after + cell + limit)
}

// Before a campaign is stored its author sees what it does to the pending cap and
// to the quota, with others of the app and with what is used already.
func TestFormShowsTheEffectOnCapAndQuota(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	fillScreens(t, r)
	b := r.owner(t)
	quiet := b.post("/campaigns", with(weekly(), "do", "preview"), http.StatusOK)
	has(t, quiet, "Effect on cap and quota", "Nothing waits or is missed through it until")

	peak := with(weekly(), "app", "hook", "channel", "webhook", "circle", "1", "targets", "", "time", "09:00:00", "request", `{"text": "hello"}`, "do", "preview")
	page := b.post("/campaigns", peak, http.StatusOK)
	has(t, page, "Something waits or is missed through it until", "More due in one second than may be pending")
	if !row("Due in its fullest second", "5", "6 ▲", "3").MatchString(page) || !row("Pending tasks, the earliest of them", "3", "3", "3").MatchString(page) {
		t.Errorf("the cap is not told of:\n%s", page)
	}

	label := with(weekly(), "name", "spring", "app", "life", "channel", "alipay.label_send", "circle", "1", "targets", "", "do", "preview", "request",
		`{"filter": {"template": "${a}", "context": {"a": {"column_name": "label_id_list", "op": "=", "values": ["100509"]}}},
			"material": {"msg_type": "text", "text": {"title": "t", "content": "c"}}}`)
	page = b.post("/campaigns", label, http.StatusOK)
	has(t, page, "Missed by a quota", "<b>spring</b>", "members&#39; day</a>", "It reaches the same users")
	if !row("Calls of alipay.label_send in the fullest 7 days", `\d`, "5", "5").MatchString(page) {
		t.Errorf("the quota is not told of:\n%s", page)
	}
	// A catch-up window that outlasts the quota's week makes it wait.
	has(t, b.post("/campaigns", with(label, "catch_up_window", "240h"), http.StatusOK), "Waiting for a quota")
	has(t, b.post("/campaigns", with(label, "paused", "1"), http.StatusOK), "It is paused: this holds once it is resumed.")
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaigns WHERE name = 'spring'`); n != 0 {
		t.Errorf("%d campaigns are stored by a preview", n)
	}

	later := with(label, "start", time.Now().AddDate(0, 0, 40).Format(time.DateOnly), "end", time.Now().AddDate(0, 0, 60).Format(time.DateOnly))
	has(t, b.post("/campaigns", later, http.StatusOK), "It pushes nothing until then.")
	if page := b.post("/campaigns", with(label, "time", "25:00:00"), http.StatusUnprocessableEntity); regexp.MustCompile(`id="effect"`).MatchString(page) {
		t.Errorf("a form with a mistake shows an effect:\n%s", page)
	}
	b.post("/preferences", map[string][]string{"language": {"zh"}}, http.StatusOK)
	has(t, b.post("/campaigns", label, http.StatusOK), "对上限和配额的影响", "因配额而错过", "会触达同一用户")
}

// What the form takes for a new strategy is what the database does: whatever it
// compares is among the columns.
func TestEffectKnowsWhatChangesAStrategy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var sql string
	if err := r.db.QueryRow(t.Context(), `SELECT pg_get_functiondef('scheduler.strategy_changed'::regproc)`).Scan(&sql); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile(`\ba\.(\w+)`).FindAllStringSubmatch(sql, -1) {
		want = append(want, m[1])
	}
	if diff := cmp.Diff(want, ofStrategy); diff != "" {
		t.Errorf("the columns of a strategy (-database +form):\n%s", diff)
	}
}

// An edit is held against what is stored, which it replaces.
func TestEditShowsItsEffect(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.owner(t)
	daily := with(weekly(), "circle", "1", "do", "insert")
	b.post("/campaigns", daily, http.StatusOK)
	page := b.post("/campaigns/1", with(daily, "revision", "1", "name", "other", "do", "preview"), http.StatusOK)
	same := regexp.MustCompile(`Pushes of the app</td><td class="number">(\d+)</td><td class="number">(\d+)<`).FindStringSubmatch(page)
	if same == nil || same[1] != same[2] {
		t.Errorf("a new name alone changes the number of pushes: %q\n%s", same, page)
	}
	page = b.post("/campaigns/1", with(daily, "revision", "1", "circle", "2", "do", "preview"), http.StatusOK)
	fewer := regexp.MustCompile(`Pushes of the app</td><td class="number">(\d+)</td><td class="number">4<`).FindStringSubmatch(page)
	if fewer == nil || fewer[1] != same[1] {
		t.Errorf("twice a week instead of daily: %q\n%s", fewer, page)
	}
}
