package store_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// Every way to end a waiting delivery says that it is unknown when an earlier
// attempt may have arrived (fault 7).
func TestEveryEndOfWhatMayHaveArrivedIsUnknown(t *testing.T) {
	t.Parallel()
	place := func(t *testing.T, _ *pgtest.DB, s *store.Store) {
		t.Helper()
		if _, err := s.PlaceDeliveries(t.Context(), time.Time{}, 100); err != nil {
			t.Fatal(err)
		}
	}
	change := func(sql string) func(*testing.T, *pgtest.DB, *store.Store) {
		return func(t *testing.T, db *pgtest.DB, s *store.Store) {
			t.Helper()
			run(t, db, sql)
			place(t, db, s)
		}
	}
	for name, c := range map[string]struct {
		end       func(t *testing.T, db *pgtest.DB, s *store.Store)
		otherwise string
	}{
		"cancel":       {change(`UPDATE scheduler.campaigns SET status = 'cancelled'`), "cancelled"},
		"delete":       {change(`DELETE FROM scheduler.campaigns`), "cancelled"},
		"window":       {change(`UPDATE scheduler.campaigns SET catch_up_window = '1 second'`), "missed"},
		"late in time": {change(`UPDATE scheduler.running_tasks SET due_at = due_at - interval '1 day'`), "missed"},
		"skip_overdue": {func(t *testing.T, _ *pgtest.DB, s *store.Store) {
			t.Helper()
			if _, err := s.HoldAll(t.Context(), "test", ""); err != nil {
				t.Fatal(err)
			}
			held, skipped, err := s.Release(t.Context(), true)
			if err != nil || !held || skipped != (store.Skipped{Missed: 1, Unknown: 1}) {
				t.Errorf("released %v, %+v, %v; want one missed and one unknown", held, skipped, err)
			}
		}, "missed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			id := campaign(t, db)
			run(t, db, `UPDATE scheduler.campaigns SET resend_unknown = true`)
			sliced(t, db, id, time.Now().Add(-time.Minute), "waiting", "waiting")
			run(t, db, `UPDATE scheduler.slices SET maybe_sent = true, attempts = 1 WHERE slice_no = 1`)
			c.end(t, db, s)
			rows, _ := db.Query(t.Context(), `SELECT slice_no || ' ' || status FROM scheduler.slices ORDER BY slice_no`)
			got, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"1 unknown", "2 " + c.otherwise}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			settled, err := s.Settle(t.Context(), enlisted(t, s), nil, 10)
			if err != nil || len(settled) != 1 || settled[0].Status != "unknown" {
				t.Errorf("settled %+v, %v; want unknown, for a ruling", settled, err)
			}
		})
	}
}

// ended says the same for every status that a delivery can get.
func TestEndedIsTotal(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	got := one[string](t, db, `
		SELECT string_agg(s || '>' || scheduler.ended(s, true) || ',' || scheduler.ended(s, false), ' ' ORDER BY s)
		  FROM unnest(enum_range(NULL::scheduler.slice_status)) s`)
	want := "waiting>waiting,waiting held>held,held running>running,running accepted>accepted,accepted failed>unknown,failed " +
		"unknown>unknown,unknown cancelled>unknown,cancelled missed>unknown,missed"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A task that has a decision already, which cannot be, stops nobody: not an
// author, not the settling of others, not a release (fault 18). What was refused
// is told of.
func TestSecondDecisionStopsNobody(t *testing.T) {
	t.Parallel()
	due := time.Now().Add(-time.Minute).Truncate(time.Second)
	plant := func(t *testing.T, db *pgtest.DB, campaign int64) {
		t.Helper()
		run(t, db, `INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, attempts, slices, accepted, target_count, reason)
			SELECT 7, app_no, id, 1, 1, 'scheduled', 'missed', $2, 0, 0, 0, 0, 'planted' FROM scheduler.campaigns WHERE id = $1`, campaign, due)
	}
	for name, decide := range map[string]func(t *testing.T, db *pgtest.DB, s *store.Store, planted, other int64){
		"cancel": func(t *testing.T, db *pgtest.DB, _ *store.Store, planted, other int64) {
			t.Helper()
			pend(t, db, planted, 1, due)
			pend(t, db, other, 2, due)
			run(t, db, `UPDATE scheduler.campaigns SET status = 'cancelled'`)
		},
		"delete": func(t *testing.T, db *pgtest.DB, _ *store.Store, planted, other int64) {
			t.Helper()
			pend(t, db, planted, 1, due)
			pend(t, db, other, 2, due)
			run(t, db, `DELETE FROM scheduler.campaigns`)
		},
		"release --skip-overdue": func(t *testing.T, db *pgtest.DB, s *store.Store, planted, other int64) {
			t.Helper()
			pend(t, db, planted, 1, due)
			pend(t, db, other, 2, due)
			if _, err := s.HoldAll(t.Context(), "test", ""); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Release(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		},
		"missed": func(t *testing.T, db *pgtest.DB, s *store.Store, planted, other int64) {
			t.Helper()
			pend(t, db, planted, 1, due)
			pend(t, db, other, 2, due)
			rows, _ := db.Query(t.Context(), `SELECT id FROM scheduler.pending_tasks`)
			ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil {
				t.Fatal(err)
			}
			misses := []store.Decision{{TaskID: ids[0], Revision: 1, Reason: "late"}, {TaskID: ids[1], Revision: 1, Reason: "late"}}
			if done, err := s.Missed(t.Context(), enlisted(t, s), misses); err != nil || len(done) != 1 {
				t.Errorf("missed %+v, %v; want one", done, err)
			}
		},
		"settle": func(t *testing.T, db *pgtest.DB, s *store.Store, planted, other int64) {
			t.Helper()
			sliced(t, db, planted, due, "failed")
			sliced(t, db, other, due, "failed")
			if done, err := s.Settle(t.Context(), enlisted(t, s), nil, 10); err != nil || len(done) != 1 {
				t.Errorf("settled %+v, %v; want one", done, err)
			}
		},
		"reap": func(t *testing.T, db *pgtest.DB, s *store.Store, planted, other int64) {
			t.Helper()
			pend(t, db, planted, 1, due)
			pend(t, db, other, 2, due)
			rows, _ := db.Query(t.Context(), `SELECT id FROM scheduler.pending_tasks`)
			ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil {
				t.Fatal(err)
			}
			daemon := enlisted(t, s)
			if _, tasks, err := s.Claim(t.Context(), daemon, time.Time{}, ids); err != nil || len(tasks) != 2 {
				t.Fatalf("claimed %v, %v", tasks, err)
			}
			if err := s.Retire(t.Context(), daemon); err != nil {
				t.Fatal(err)
			}
			// Not seen by claimed_tasks any more; it is here for what others decide.
			if r, err := s.Reap(t.Context(), nil); err != nil || r.Unknown != 1 {
				t.Errorf("reaped %+v, %v; want one unknown", r, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			planted, other := campaign(t, db), campaign(t, db)
			plant(t, db, planted)
			decide(t, db, s, planted, other)
			if got := one[string](t, db, `SELECT reason FROM scheduler.decided_tasks WHERE campaign_id = $1`, planted); got != "planted" {
				t.Errorf("the first decision became %q", got)
			}
			if n := one[int](t, db, `SELECT count(*) FROM scheduler.decided_tasks WHERE campaign_id = $1`, other); n != 1 {
				t.Errorf("%d decisions of the other task, want 1", n)
			}
			if name == "reap" {
				return
			}
			var refused []store.Refused
			app := one[int32](t, db, `SELECT app_no FROM scheduler.apps WHERE app_id = 'hook'`)
			for range 2 { // each is taken once
				changes, campaigns := unplanned(t, s, app, 100)
				_, err := s.PlanApp(t.Context(), app, time.Time{}, func(tx *store.PlanTx) error {
					_, err := tx.Changes(t.Context(), changes, campaigns)
					refused = append(refused, tx.Refused...)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if len(refused) != 1 || refused[0].CampaignID != planted {
				t.Errorf("refused %+v, want the planted one", refused)
			}
		})
	}
}

// A release with --skip-overdue binds what was written before it, a release
// without ends the bound, and each decision is told of (fault 14).
func TestReleaseEndsItsBound(t *testing.T) {
	t.Parallel()
	insert := func(t *testing.T, db *pgtest.DB, s *store.Store, campaign int64, due time.Time) (decided []store.Decision) {
		t.Helper()
		app := one[int32](t, db, `SELECT app_no FROM scheduler.campaigns WHERE id = $1`, campaign)
		_, err := s.PlanApp(t.Context(), app, time.Time{}, func(tx *store.PlanTx) error {
			_, err := tx.Insert(t.Context(), []store.NewTask{{CampaignID: campaign, Revision: 1, Origin: "immediate", DueAt: due}})
			decided = tx.Decided
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return decided
	}
	hold := func(t *testing.T, s *store.Store) {
		t.Helper()
		if _, err := s.HoldAll(t.Context(), "test", ""); err != nil {
			t.Fatal(err)
		}
	}
	release := func(t *testing.T, s *store.Store, skip bool) {
		t.Helper()
		if held, _, err := s.Release(t.Context(), skip); err != nil || !held {
			t.Fatalf("released %v, %v", held, err)
		}
	}
	t.Run("binds what was written before", func(t *testing.T) {
		t.Parallel()
		db := surface(t)
		s := opened(t, db.URL)
		before := campaign(t, db)
		hold(t, s)
		release(t, s, true)
		decided := insert(t, db, s, before, time.Now().Add(-time.Minute))
		if len(decided) != 1 || decided[0].Status != "missed" || !strings.HasPrefix(decided[0].Reason, "overdue when the hold") {
			t.Errorf("decided %+v, want it to be missed, and told of", decided)
		}
	})
	t.Run("not what is written after", func(t *testing.T) {
		t.Parallel()
		db := surface(t)
		s := opened(t, db.URL)
		hold(t, s)
		release(t, s, true)
		if decided := insert(t, db, s, campaign(t, db), time.Now().Add(-time.Minute)); len(decided) != 0 {
			t.Errorf("decided %+v, want a pending task", decided)
		}
	})
	t.Run("not after a plain release", func(t *testing.T) {
		t.Parallel()
		db := surface(t)
		s := opened(t, db.URL)
		before := campaign(t, db)
		hold(t, s)
		run(t, db, `SELECT scheduler.hold_skips_overdue()`) // and no more: the command died
		release(t, s, false)
		if decided := insert(t, db, s, before, time.Now().Add(-time.Minute)); len(decided) != 0 {
			t.Errorf("decided %+v, want a pending task", decided)
		}
	})
	t.Run("told of", func(t *testing.T) {
		t.Parallel()
		db := surface(t)
		s := opened(t, db.URL)
		id := campaign(t, db)
		pend(t, db, id, 1, time.Now().Add(-time.Minute))
		hold(t, s)
		release(t, s, true)
		app := one[int32](t, db, `SELECT app_no FROM scheduler.campaigns`)
		var told []store.Decision
		for range 2 {
			changes, campaigns := unplanned(t, s, app, 100)
			_, err := s.PlanApp(t.Context(), app, time.Time{}, func(tx *store.PlanTx) error {
				_, err := tx.Changes(t.Context(), changes, campaigns)
				told = append(told, tx.Decided...)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(told) != 1 || told[0].CampaignID != id || told[0].Status != "missed" || told[0].Channel != "webhook" {
			t.Errorf("told of %+v, want the missed task, once", told)
		}
	})
}

// An occurrence whose claim commits while a planner stores it is in the claim and
// nowhere else (fault 17).
func TestInsertBesideACommittingClaim(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := campaign(t, db)
	due := time.Now().Add(-time.Second).Truncate(time.Second)
	pend(t, db, id, 1, due)
	claim := author(t, db, `
		WITH begun AS (DELETE FROM scheduler.pending_tasks RETURNING *)
		INSERT INTO scheduler.claims (daemon_id, task_ids, app_nos, campaign_ids, revisions, origins, due_ats)
		SELECT 1, ARRAY[id], ARRAY[app_no], ARRAY[campaign_id], ARRAY[revision], ARRAY[origin], ARRAY[due_at] FROM begun`)
	app := one[int32](t, db, `SELECT app_no FROM scheduler.campaigns`)
	stored := make(chan error, 1)
	go func() {
		_, err := s.PlanApp(t.Context(), app, time.Time{}, func(tx *store.PlanTx) error {
			n, err := tx.Insert(t.Context(), []store.NewTask{{CampaignID: id, Revision: 1, Origin: "scheduled", Slot: 2, DueAt: due}})
			if err == nil && n != 0 {
				err = fmt.Errorf("%d tasks were stored that have begun", n)
			}
			return err
		})
		stored <- err
	}()
	for !one[bool](t, db, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`) {
		select {
		case err := <-stored:
			t.Fatalf("the planner did not wait for the claim: %v", err)
		default:
		}
	}
	if err := claim.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, db, `SELECT count(*) FROM scheduler.pending_tasks`); n != 0 {
		t.Errorf("the claimed occurrence is pending %d times again", n)
	}
}

// A release that skips what is overdue leaves alone what ended while it waited.
func TestSkipOverdueLeavesWhatEndedMeanwhile(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := campaign(t, db)
	sliced(t, db, id, time.Now().Add(-time.Minute), "waiting", "waiting")
	if _, err := s.HoldAll(t.Context(), "test", ""); err != nil {
		t.Fatal(err)
	}
	settling := author(t, db, `UPDATE scheduler.slices SET status = 'cancelled', finished_at = now(), reason = 'campaign cancelled' WHERE slice_no = 1`)
	type released struct {
		skipped store.Skipped
		err     error
	}
	end := make(chan released, 1)
	go func() {
		_, skipped, err := s.Release(t.Context(), true)
		end <- released{skipped, err}
	}()
	for !one[bool](t, db, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`) {
		select {
		case got := <-end:
			t.Fatalf("the release did not wait: %+v", got)
		default:
		}
	}
	if err := settling.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-end; got.err != nil || got.skipped != (store.Skipped{Missed: 1}) {
		t.Errorf("skipped %+v, want the one that still waited", got)
	}
	if got := one[string](t, db, `SELECT string_agg(slice_no || ' ' || status || ': ' || reason, ', ' ORDER BY slice_no) FROM scheduler.slices`); got != "1 cancelled: campaign cancelled, 2 missed: overdue when the hold was released with --skip-overdue" {
		t.Errorf("got %s", got)
	}
}

// A call that was under way when its daemon was killed goes, by ruling, to those
// it was meant for, however many targets have come since (fault 8).
func TestRulingReachesWhomTheCallWasMeantFor(t *testing.T) {
	t.Parallel()
	for name, resendUnknown := range map[string]bool{"by ruling": false, "by itself": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			id := campaign(t, db)
			run(t, db, `UPDATE scheduler.campaigns SET resend_unknown = $1`, resendUnknown)
			run(t, db, `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, 'b' || n FROM generate_series(1, 50) n`, id)
			pend(t, db, id, 1, time.Now().Add(-time.Second))
			daemon := enlisted(t, s)
			task := one[int64](t, db, `SELECT id FROM scheduler.pending_tasks`)
			_, claimed, err := s.ClaimListed(t.Context(), daemon, time.Time{}, []int64{task})
			if err != nil || len(claimed) != 1 || len(claimed[0].Names) != 50 {
				t.Fatalf("claimed %+v, %v; want 50 names", claimed, err)
			}
			run(t, db, `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, 'a' || n FROM generate_series(1, 100) n`, id)
			if err := s.Retire(t.Context(), daemon); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Reap(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if !resendUnknown {
				if n := one[int](t, db, `SELECT targets FROM scheduler.tasks WHERE status = 'unknown'`); n != 50 {
					t.Errorf("the record says %d targets, want 50", n)
				}
				if _, err := s.Resolve(t.Context(), store.Ruling{TaskID: task, Resend: true}); err != nil {
					t.Fatal(err)
				}
			}
			got := one[string](t, db, `
				SELECT format('%s deliveries of %s targets, %s of them new', count(*), sum(cardinality(x.targets)),
				       sum(cardinality(ARRAY(SELECT t FROM unnest(x.targets) t WHERE t LIKE 'a%'))))
				  FROM scheduler.slices s JOIN scheduler.slice_targets x ON x.slice_id = s.id`)
			if want := "1 deliveries of 50 targets, 0 of them new"; got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if n := one[int](t, db, `SELECT targets FROM scheduler.tasks`); n != 50 {
				t.Errorf("the task says %d targets, want 50", n)
			}
		})
	}
}

// The same where the request names them: whatever became of the campaign since,
// the record says how many they were, and a resend reaches nobody else.
func TestRulingReachesWhomTheRequestNamed(t *testing.T) {
	t.Parallel()
	const request = `{"targetMsgs": [%s]}`
	named := func(names ...string) string {
		return fmt.Sprintf(request, `{"target": "`+strings.Join(names, `"}, {"target": "`)+`"}`)
	}
	compiled := func(c *store.Campaign) []string {
		var r struct{ TargetMsgs []struct{ Target string } }
		if err := json.Unmarshal(c.Request, &r); err != nil {
			t.Error(err)
		}
		var names []string
		for _, m := range r.TargetMsgs {
			names = append(names, m.Target)
		}
		return names
	}
	for name, c := range map[string]struct {
		change []string
		resent bool // it can be
	}{
		"untouched":                         {nil, true},
		"others came":                       {[]string{`SET request = '` + named("ann", "bob", "cy") + `'`}, true},
		"others came in their place, twice": {[]string{`SET request = '` + named("cy") + `'`, `SET request = '` + named("dan") + `'`}, true},
		"paused and resumed":                {[]string{`SET status = 'paused'`, `SET status = 'active', request = '` + named("cy") + `'`}, true},
		"rows in the request's place":       {[]string{`SET request = '` + fmt.Sprintf(request, "") + `'`}, true},
		"cancelled":                         {[]string{`SET status = 'cancelled'`}, false},
	} {
		for _, resendUnknown := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", resend_unknown ", resendUnknown), func(t *testing.T) {
				t.Parallel()
				db := surface(t)
				s := opened(t, db.URL)
				id := campaign(t, db)
				run(t, db, `UPDATE scheduler.campaigns SET resend_unknown = $1, request = $2`, resendUnknown, named("ann", "bob"))
				pend(t, db, id, 1, time.Now().Add(-time.Second))
				daemon := enlisted(t, s)
				task := one[int64](t, db, `SELECT id FROM scheduler.pending_tasks`)
				if _, claimed, err := s.Claim(t.Context(), daemon, time.Time{}, []int64{task}); err != nil || len(claimed) != 1 {
					t.Fatalf("claimed %+v, %v", claimed, err)
				}
				for _, change := range c.change {
					run(t, db, `UPDATE scheduler.campaigns `+change)
				}
				if err := s.Retire(t.Context(), daemon); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Reap(t.Context(), compiled); err != nil {
					t.Fatal(err)
				}
				if n := one[int](t, db, `SELECT targets FROM scheduler.tasks`); n != 2 {
					t.Errorf("the record says %d targets, want 2", n)
				}
				if !resendUnknown || !c.resent {
					if got := one[string](t, db, `SELECT status || ' ' || (SELECT targets::text FROM scheduler.decided_tasks) FROM scheduler.tasks`); got != "unknown {ann,bob}" {
						t.Errorf("the record says %s", got)
					}
				}
				if !c.resent {
					return
				}
				if !resendUnknown {
					if _, err := s.Resolve(t.Context(), store.Ruling{TaskID: task, Resend: true}); err != nil {
						t.Fatal(err)
					}
				}
				if got := one[string](t, db, `SELECT string_agg(targets::text, ' ') FROM scheduler.slice_targets`); got != "{ann,bob}" {
					t.Errorf("it is sent again to %s", got)
				}
			})
		}
	}
}

// An audience of more than one call has no names in its claim: it is cut.
func TestClaimNamesNoMoreThanOneCallCarries(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	var ids []int64
	for i, n := range []int{0, 1, 100, 101} {
		id := campaign(t, db)
		run(t, db, `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, n FROM generate_series(1, $2) n`, id, n)
		pend(t, db, id, i+1, time.Now().Add(-time.Second))
		ids = append(ids, one[int64](t, db, `SELECT id FROM scheduler.pending_tasks WHERE campaign_id = $1`, id))
	}
	_, tasks, err := s.ClaimListed(t.Context(), enlisted(t, s), time.Time{}, ids)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[int64]string)
	for _, c := range tasks {
		got[c.ID] = fmt.Sprint(c.Listed, " ", len(c.Names))
	}
	want := map[int64]string{ids[0]: "false 0", ids[1]: "true 1", ids[2]: "true 100", ids[3]: "true 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
