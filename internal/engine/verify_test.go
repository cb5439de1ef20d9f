package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
)

// Whatever authors do to their campaigns, and whatever the push API answers,
// Verify finds an engine's record to be as it was promised.
func TestVerifyAfterEverything(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "mpaas", nil)
	r.app(t, "quota", "alipay", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 3 WHERE app_no = $1`, app)
	past := time.Now().UTC().AddDate(0, 0, -3)
	loop := r.insert(t, "app", "mpaas.push_broadcast", 2, daily(time.Now().AddDate(0, 0, 1), 5, "09:00:00"), "catch_up_window", "50 hours")
	r.backdate(t, loop, daily(past, 7, time.Now().UTC().Add(-time.Minute).Format(time.TimeOnly)), past)
	answer := func(campaign int64) dispatch.Outcome {
		return []dispatch.Outcome{accepted, notSent, unknown, permanent}[int(campaign-loop)%4]
	}
	r.pusher.answers(func(_ context.Context, c call) dispatch.Outcome { return answer(c.campaign) })
	for range 2 {
		cfg := r.config(t)
		cfg.Sweep = 200 * time.Millisecond
		start(t, cfg)
	}
	r.authors(t)
	for range 4 { // on a busy machine what the authors wrote may all be too late
		id, status := r.insert(t, "app", "mpaas.push_broadcast", 0, nil, "status", "paused"), "active"
		if answer(id).Class == dispatch.NotSent {
			status = "cancelled" // it would be tried for an hour
		}
		r.run(t, `UPDATE scheduler.campaigns SET status = $2 WHERE id = $1`, id, status)
	}
	until(t, "a record without findings", func() bool { return len(r.verify(t)) == 0 && r.quiet(t) })

	r.run(t, `DELETE FROM scheduler.decided_tasks WHERE campaign_id = $1`, loop)
	if got := r.verify(t); len(got) == 0 {
		t.Error("verify does not miss what was decided")
	}
}

// authors writes campaigns that fall due in a moment, and changes them.
func (r *rig) authors(t *testing.T) {
	t.Helper()
	soon := func() time.Time { return time.Now().Add(2 * time.Second) }
	change := func(sql string) {
		t.Helper()
		for i := range 3 {
			id := r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(soon().Add(time.Duration(i)*time.Second)), "catch_up_window", "2 seconds")
			r.run(t, fmt.Sprintf(sql, id))
		}
	}
	change(`SELECT %d`)
	change(`UPDATE scheduler.campaigns SET status = 'paused' WHERE id = %d`)
	change(`UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = %d`)
	change(`UPDATE scheduler.campaigns SET request = '{"bad": "no"}' WHERE id = %d`)
	change(`UPDATE scheduler.campaigns SET time_zone = 'Europe/Berlin' WHERE id = %d`)
	change(`DELETE FROM scheduler.campaigns WHERE id = %d`)
	for range 4 {
		r.insert(t, "app", "mpaas.push_broadcast", 0, nil, "catch_up_window", "2 seconds")
		id := r.insert(t, "app", "mpaas.push_broadcast", 2, daily(time.Now().AddDate(0, 0, 1), 9, "09:00:00"), "catch_up_window", "2 seconds")
		if _, _, err := r.store.Trigger(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
	}
	for range 7 {
		r.insert(t, "quota", "alipay.label_send", 1, fixed(soon()), "catch_up_window", "2 seconds")
	}
}

// verify returns what Verify finds, a line each.
func (r *rig) verify(t *testing.T) []string {
	t.Helper()
	v, err := r.store.Verify(t.Context(), store.VerifyOptions{Grace: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range v.Findings {
		lines = append(lines, fmt.Sprintf("%s %d %s: %s", f.Kind, f.CampaignID, f.DueAt, f.Detail))
	}
	return lines
}

// quiet says that nothing of the past is left to be done.
func (r *rig) quiet(t *testing.T) bool {
	t.Helper()
	left := get[int](t, r, `SELECT count(*) FROM scheduler.tasks WHERE status IN ('pending', 'running') AND due_at < now() + interval '10 seconds'`)
	decided := get[int](t, r, `SELECT count(DISTINCT status) FROM scheduler.tasks WHERE status IN ('failed', 'missed', 'succeeded', 'unknown')`)
	return left == 0 && decided == 4 &&
		get[int](t, r, `SELECT count(*) FROM scheduler.campaigns WHERE status = 'paused'
			AND NOT EXISTS (SELECT FROM scheduler.decided_tasks d WHERE d.campaign_id = campaigns.id)`) == 0
}
