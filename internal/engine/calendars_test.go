package engine_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// What is pending follows a changed calendar; a campaign with no day left is finished,
// and comes back with a day that opens.
func TestAChangedCalendarIsPlannedAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "webhook", nil)
	r.run(t, `INSERT INTO scheduler.calendars (name, time_zone, open_weekdays) VALUES ('open', 'UTC', '{1,2,3,4,5,6,7}')`)
	cfg := r.config(t)
	cfg.Sweep = time.Second // nothing but the sweep finishes a campaign whose tasks go without a decision
	startReady(t, cfg)
	now := time.Now().UTC()
	// At noon of four days after the next, so that midnight may pass.
	id := r.insert(t, "app", "webhook", 2, daily(now.AddDate(0, 0, 2), 4, "12:00:00"), "time_zone", "UTC", "calendar", "open")
	moves := r.insert(t, "app", "webhook", 2, daily(now.AddDate(0, 0, 2), 4, "13:00:00"), "time_zone", "UTC", "calendar", "open", "calendar_policy", "previous_open")
	pending := func(campaign int64) []string {
		rows, _ := r.Query(t.Context(), `SELECT to_char(due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM scheduler.pending_tasks WHERE campaign_id = $1 ORDER BY due_at`, campaign)
		days, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return days
	}
	status := func(campaign int64) string {
		return get[string](t, r, `SELECT status FROM scheduler.campaigns WHERE id = $1`, campaign)
	}
	day := func(n int) string { return now.AddDate(0, 0, n).Format(time.DateOnly) }
	becomes := func(campaign int64, want ...string) {
		t.Helper()
		var got []string
		until(t, "the pending tasks to follow", func() bool { got = pending(campaign); return cmp.Equal(want, got) })
	}
	becomes(id, day(2), day(3), day(4), day(5))
	becomes(moves, day(2), day(3), day(4), day(5))
	r.run(t, `INSERT INTO scheduler.calendar_days (calendar, day) VALUES ('open', $1::date)`, now.AddDate(0, 0, 4))
	becomes(id, day(2), day(3), day(5))
	becomes(moves, day(2), day(3), day(5))
	r.run(t, `UPDATE scheduler.calendars SET open_weekdays = '{}'`)
	for _, campaign := range []int64{id, moves} {
		until(t, "the campaign to be finished", func() bool { return status(campaign) == "finished" })
	}
	r.run(t, `INSERT INTO scheduler.calendar_days (calendar, day, open) VALUES ('open', $1::date, true)`, now.AddDate(0, 0, 3))
	becomes(id, day(3))
	becomes(moves, day(3))
	if got := status(id); got != "active" {
		t.Errorf("the campaign is %s", got)
	}
}
