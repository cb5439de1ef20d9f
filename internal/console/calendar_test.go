package console

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// inCells sums up what a calendar's cells say of a status.
func inCells(page, status string) (n int) {
	for _, m := range regexp.MustCompile(`</span> <span class="word">`+status+`</span></span> (\d+)`).FindAllStringSubmatch(page, -1) {
		k, _ := strconv.Atoi(m[1]) // digits
		n += k
	}
	return n
}

// The calendar shows what is to come beyond the stored tasks, the same
// occurrences as the database works out, and never one of them twice.
func TestCalendarShowsWhatIsPlanned(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.as(t, "mei")
	b.post("/campaigns", with(weekly(), "circle", "1", "time", "23:59:59", "do", "insert"), http.StatusOK)
	zone := time.FixedZone("CST", 8*3600)
	monday := time.Now().In(zone)
	monday = time.Date(monday.Year(), monday.Month(), monday.Day()-(int(monday.Weekday())+6)%7+7, 0, 0, 0, 0, zone) // of next week
	week := "/calendar?view=week&at=" + monday.Format(time.DateOnly)
	check := func(planned, pending, cancelled int) {
		t.Helper()
		page := b.get(week)
		for status, want := range map[string]int{"planned": planned, "pending": pending, "cancelled": cancelled} {
			if got := inCells(page, status); got != want {
				t.Errorf("%d are %s, want %d:\n%s", got, status, want, page)
			}
		}
	}
	check(7, 0, 0)
	day := b.get("/calendar?view=day&at=" + monday.Format(time.DateOnly))
	has(t, day, "planned</h2>", monday.Add(24*time.Hour-time.Second).UTC().Format(time.RFC3339), "weekly news")

	// As the planner does: the first occurrences become tasks.
	exec(t, r.db, `INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		SELECT c.app_no, row_number() OVER (ORDER BY o), c.id, 1, 'scheduled', o, o FROM scheduler.campaigns c, scheduler.occurrences(c.id, now(), $1::timestamptz) o`, monday.AddDate(0, 0, 2))
	check(5, 2, 0)
	skipped := monday.AddDate(0, 0, 4).Add(-time.Second).UTC().Format(time.RFC3339Nano)
	b.post("/campaigns/1/skip", url.Values{"at": {skipped}}, http.StatusOK)
	check(4, 2, 1)
	if has := inCells(r.as(t, "li").get(week), "planned"); has != 0 {
		t.Errorf("another author sees %d planned occurrences", has)
	}
	if n := inCells(b.get(week+"&app=other"), "planned"); n != 0 {
		t.Errorf("%d are planned of another app", n)
	}
	b.post("/campaigns/1/pause", url.Values{"revision": {"1"}}, http.StatusOK)
	if n := inCells(b.get(week), "planned"); n != 0 {
		t.Errorf("%d are planned of a paused campaign", n)
	}
	b.post("/campaigns/1/resume", url.Values{"revision": {"2"}}, http.StatusOK)

	// The pause took the tasks back. To the end of the loop it is what the database counts, but for the skip.
	total := 0
	for at := monday; at.Before(monday.AddDate(0, 2, 0)); at = at.AddDate(0, 0, 7) {
		total += inCells(b.get("/calendar?view=week&at="+at.Format(time.DateOnly)), "planned")
	}
	if want := count(t, r.db, fmt.Sprintf(`SELECT count(*) - 1 FROM scheduler.occurrences(1, '%s', now() + interval '60 days')`, monday.Format(time.RFC3339))); int64(total) != want {
		t.Errorf("%d are planned in all, the database says %d", total, want)
	}
}
