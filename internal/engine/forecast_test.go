//go:build linux

package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// The forecast is held against the engine: random apps with random quotas, windows
// and loops are forecast from what is stored, and then the planner and the
// dispatcher live through the days. Nobody waits for days: the database's clock, by
// which the engine goes, is put ahead to each moment at which something is due.
// What waits for a quota, and what is missed by it, is what the forecast said.
func TestForecastIsWhatTheEngineDoes(t *testing.T) {
	t.Parallel()
	const loops, days = 7, 12 // the loops end after a week, and then the last windows close
	seed := rand.Uint64()     //nolint:gosec // no secret
	t.Logf("seed %d", seed)
	draw := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret
	one := func(of ...any) any { return of[draw.IntN(len(of))] }

	db, clock := pgtest.NewWithClock(t)
	recordZoneRules(t, db)
	r := newRigOn(t, db)
	today := get[time.Time](t, r, `SELECT clock_timestamp()`).UTC().Truncate(24 * time.Hour)
	for i := range 12 {
		id := fmt.Sprint("life-", i)
		no := r.app(t, id, "alipay", nil)
		r.run(t, `UPDATE scheduler.apps SET pending_limit = $2 WHERE app_no = $1`, no, 1+draw.IntN(8))
		r.run(t, `INSERT INTO scheduler.app_quotas VALUES ($1, 'alipay.label_send', $2)`, no, 1+draw.IntN(5))
		for range 1 + draw.IntN(3) {
			first := draw.IntN(3)
			r.insert(t, id, "alipay.label_send", 2, daily(today.AddDate(0, 0, 1+first), loops-first, one("10:00:00", "15:00:00").(string)),
				"catch_up_window", one("90 minutes", "27 hours", "50 hours", "100 hours"), "misfire_policy", "all")
		}
	}
	campaigns := get[int](t, r, `SELECT count(*) FROM scheduler.campaigns`)
	skip := get[time.Time](t, r, `SELECT min(o) FROM scheduler.occurrences(1, now() + interval '3 days', now() + interval '5 days') o`)
	r.run(t, `SELECT scheduler.skip_occurrence(1, $1, 'a holiday')`, skip)
	start(t, r.config(t))
	until(t, "every campaign to be planned", func() bool {
		return get[int](t, r, `SELECT count(*) FROM scheduler.campaign_cursors`) == campaigns && get[int](t, r, `SELECT count(*) FROM scheduler.campaign_changes`) == 0
	})

	now := get[time.Time](t, r, `SELECT clock_timestamp()`)
	f, err := forecast.Read(t.Context(), r.store, nil, "", now, today.AddDate(0, 0, days))
	if err != nil {
		t.Fatal(err)
	}
	if f.AtLeast || f.Occurrences == 0 {
		t.Fatalf("%d occurrences, at least %v", f.Occurrences, f.AtLeast)
	}
	for at := today.AddDate(0, 0, 1).Add(10 * time.Hour); at.Before(today.AddDate(0, 0, days)); at = at.Add(5 * time.Hour) {
		if at.Hour() != 10 && at.Hour() != 15 {
			at = at.Truncate(24*time.Hour).AddDate(0, 0, 1).Add(5 * time.Hour)
			continue
		}
		clock.Set(t, time.Until(at)-200*time.Millisecond)
		until(t, "what is due by "+at.String()+" to be decided, or to wait for a quota that is not free", func() bool {
			return r.holds(t, `
				SELECT clock_timestamp() > $1::timestamptz + interval '500 ms'
				   AND NOT EXISTS (SELECT FROM scheduler.claims) AND NOT EXISTS (SELECT FROM scheduler.running_tasks)
				   AND NOT EXISTS (SELECT FROM scheduler.pending_tasks p WHERE p.ready_at <= $1::timestamptz + interval '20 seconds') -- the others look again in a minute
				   AND NOT EXISTS (SELECT FROM scheduler.campaign_cursors k JOIN scheduler.apps a USING (app_no) WHERE k.active AND k.next_due_at <= $1
				                    AND (SELECT count(*) FROM scheduler.pending_tasks p WHERE p.app_no = k.app_no) < a.pending_limit)`, at)
		})
	}
	clock.Set(t, time.Until(today.AddDate(0, 0, days)))
	until(t, "the rest to be decided", func() bool {
		return r.holds(t, `SELECT NOT EXISTS (SELECT FROM scheduler.pending_tasks) AND NOT EXISTS (SELECT FROM scheduler.campaign_cursors WHERE active AND next_due_at IS NOT NULL)`)
	})

	lines := func(list []forecast.Push) (out []string) {
		for _, p := range list {
			out = append(out, fmt.Sprint("campaign ", p.CampaignID, " ", p.DueAt.UTC().Format(time.DateTime)))
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	const line = `'campaign ' || campaign_id || ' ' || to_char(due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')`
	// An hour is far more than a busy machine takes, and far less than any wait here.
	waited := list[string](t, r, `SELECT `+line+` FROM scheduler.tasks WHERE status = 'succeeded' AND lateness > interval '1 hour'`)
	missed := list[string](t, r, `SELECT `+line+` FROM scheduler.tasks WHERE status = 'missed'`)
	slices.Sort(waited)
	slices.Sort(missed)
	if diff := cmp.Diff(lines(f.Waiting), waited); diff != "" {
		t.Errorf("what waited (-forecast +engine):\n%s", diff)
	}
	if diff := cmp.Diff(lines(f.Missed), missed); diff != "" {
		t.Errorf("what was missed (-forecast +engine):\n%s", diff)
	}
	if len(waited) == 0 || len(missed) == 0 {
		t.Errorf("%d waited and %d were missed: the test shows nothing", len(waited), len(missed))
	}
	if all := get[int](t, r, `SELECT count(*) FROM scheduler.tasks`); all != f.Occurrences+1 { // and the skipped one
		t.Errorf("%d tasks, the forecast counted %d", all, f.Occurrences)
	}
}

// holds says whether the database answers true. A database that does not answer is
// asked again: a server whose clock is set by libfaketime may crash, since that
// library reads its file in signal handlers, and it is back in a second.
func (r *rig) holds(t testing.TB, sql string, args ...any) (ok bool) {
	t.Helper()
	err := r.QueryRow(t.Context(), sql, args...).Scan(&ok)
	if err != nil {
		t.Log(err)
	}
	return err == nil && ok
}

// A push to more targets than a call takes counts against a quota once for each
// call, in the forecast as in the engine.
func TestForecastCountsTheCallsOfAPush(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	no := r.app(t, "phone", "mpaas", nil)
	r.run(t, `INSERT INTO scheduler.app_quotas VALUES ($1, 'mpaas.push_multiple', 5)`, no)
	now := get[time.Time](t, r, `SELECT clock_timestamp()`)
	id := r.insert(t, "phone", "mpaas.push_multiple", 1, fixed(now.Add(time.Hour).Truncate(time.Second)), "catch_up_window", "1 hour")
	r.targets(t, id, 600) // six calls
	f, err := forecast.Read(t.Context(), r.store, nil, "", now, now.AddDate(0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Missed) != 1 {
		t.Errorf("%d occurrences are missed by the quota, want 1", len(f.Missed))
	}
}
