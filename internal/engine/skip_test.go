package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A skipped occurrence is decided, never planned again, and makes room for
// another; taken back it is planned like any other. Verify agrees throughout.
func TestSkippedOccurrenceIsNotPlanned(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int{"with room": 100, "at the cap": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			app := r.app(t, "app", "mpaas", nil)
			r.run(t, `UPDATE scheduler.apps SET pending_limit = $1`, limit)
			id := r.insert(t, "app", "mpaas.push_broadcast", 2, daily(time.Now().AddDate(0, 0, 1), 5, "09:00:00"))
			p := r.planner(t)
			settle := func() {
				t.Helper()
				plan(t, p, app, time.Time{})
				if found := r.verify(t); len(found) > 0 {
					t.Errorf("verify: %v", found)
				}
			}
			settle()
			dues := list[time.Time](t, r, `SELECT scheduler.occurrences($1, now(), 'infinity')`, id)
			pending := func() []time.Time {
				return list[time.Time](t, r, `SELECT due_at FROM scheduler.pending_tasks ORDER BY due_at`)
			}
			want := func(dues ...time.Time) {
				t.Helper()
				settle()
				if diff := cmp.Diff(dues[:min(len(dues), limit)], pending()); diff != "" {
					t.Error(diff)
				}
			}
			r.run(t, `SELECT scheduler.skip_occurrence($1, $2, 'holiday')`, id, dues[1]) // a task
			r.run(t, `SELECT scheduler.skip_occurrence($1, $2, 'holiday')`, id, dues[3]) // perhaps none yet
			want(dues[0], dues[2], dues[4])
			r.run(t, `UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`, id)
			settle()
			r.run(t, `UPDATE scheduler.campaigns SET status = 'active' WHERE id = $1`, id)
			want(dues[0], dues[2], dues[4])
			r.run(t, `SELECT scheduler.unskip_occurrence($1, $2, 'no holiday')`, id, dues[1])
			want(dues[0], dues[1], dues[2], dues[4])
			r.run(t, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, id)
			settle()
		})
	}
}

// A skipped occurrence takes no room: the plan that comes upon it goes on with the
// one after it, which would otherwise wait for the next count of all apps.
func TestSkippedOccurrenceTakesNoRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "mpaas", nil)
	r.run(t, `UPDATE scheduler.apps SET pending_limit = 1`)
	first := r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(time.Now().Add(time.Hour).Truncate(time.Second)))
	p := r.planner(t)
	plan(t, p, app, time.Time{})
	at := time.Now().Add(2 * time.Hour).Truncate(time.Second)
	skipped := r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(at))
	next := r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(at.Add(time.Second)))
	r.run(t, `SELECT scheduler.skip_occurrence($1, $2)`, skipped, at)
	plan(t, p, app, time.Time{})
	r.run(t, `DELETE FROM scheduler.pending_tasks WHERE campaign_id = $1`, first) // it has begun
	plan(t, p, app, time.Time{})
	if got := list[int64](t, r, `SELECT campaign_id FROM scheduler.pending_tasks`); !slices.Equal(got, []int64{next}) {
		t.Errorf("pending are the tasks of %v, want of %d", got, next)
	}
}

// A campaign whose last occurrence is skipped is not finished while that can be
// taken back.
func TestSkippedLastOccurrenceKeepsTheCampaign(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	app := r.app(t, "app", "mpaas", nil)
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	id := r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(at))
	p := r.planner(t)
	plan(t, p, app, time.Time{})
	r.run(t, `SELECT scheduler.skip_occurrence($1, $2)`, id, at)
	plan(t, p, app, time.Time{})
	s := r.open(t)
	if n, err := s.FinishCampaigns(t.Context(), []int64{id}); err != nil || len(n) != 0 {
		t.Errorf("finished %v, %v", n, err)
	}
	r.run(t, `SELECT scheduler.unskip_occurrence($1, $2)`, id, at)
	plan(t, p, app, time.Time{})
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks`); n != 1 {
		t.Errorf("%d tasks pending, want the one taken back", n)
	}
}
