package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// Authors may leave transactions open for minutes. Nobody who records what was
// pushed, or plans other campaigns, waits for them; and what their change
// forbids does not begin, however the two meet.

// enlisted returns a daemon with a lease.
func enlisted(t *testing.T, s *store.Store) int64 {
	t.Helper()
	d, err := s.Enlist(t.Context(), store.Newcomer{Name: "d", Version: "v", Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return d.ID
}

// author begins a transaction with one statement in it and leaves it open.
func author(t *testing.T, db *pgtest.DB, sql string, args ...any) pgx.Tx {
	t.Helper()
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
	return tx
}

// unplanned reads up to limit changes of an app, and their campaigns.
func unplanned(t *testing.T, s *store.Store, app int32, limit int) ([]store.Unplanned, map[int64]*store.Campaign) {
	t.Helper()
	changes, err := s.Unplanned(t.Context(), app, nil, limit)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]int64, len(changes))
	for i, c := range changes {
		ids[i] = c.CampaignID
	}
	loaded, err := s.Campaigns(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	campaigns := make(map[int64]*store.Campaign, len(loaded))
	for i := range loaded {
		campaigns[loaded[i].ID] = &loaded[i]
	}
	return changes, campaigns
}

// looked lets the planner take every change of the webhook app that it can have.
func looked(t *testing.T, db *pgtest.DB, s *store.Store) {
	t.Helper()
	app := one[int32](t, db, `SELECT app_no FROM scheduler.apps WHERE app_id = 'hook'`)
	unplanned, campaigns := unplanned(t, s, app, 100)
	_, err := s.PlanApp(t.Context(), app, time.Time{}, func(tx *store.PlanTx) error {
		_, err := tx.Changes(t.Context(), unplanned, campaigns)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// begin claims every delivery that is ready.
func begin(t *testing.T, s *store.Store, daemon int64) []store.Delivery {
	t.Helper()
	begun, err := s.ClaimDeliveries(t.Context(), daemon, time.Time{}, readyNow(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return begun
}

// readyNow reads every delivery that is ready.
func readyNow(t *testing.T, s *store.Store) []store.WaitingDelivery {
	t.Helper()
	apps, err := s.WaitingApps(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	readings := make([]store.Reading, len(apps))
	for i, a := range apps {
		readings[i] = store.Reading{AppNo: a.AppNo, Limit: 10}
	}
	list, err := s.WaitingDeliveries(t.Context(), time.Time{}, readings, nil)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// place lets what waits come to the place that its campaign has for it.
func place(t *testing.T, s *store.Store) {
	t.Helper()
	if _, err := s.PlaceDeliveries(t.Context(), time.Time{}, 100); err != nil {
		t.Fatal(err)
	}
}

// The ways in which a delivery comes to wait for another attempt, each with one
// of another campaign, which must not be held up. They are made ready to happen,
// and happen when the returned function is called.
var comebacks = map[string]func(*testing.T, *pgtest.DB, *store.Store, int64, int64, bool) func(){
	"delivery": func(t *testing.T, db *pgtest.DB, s *store.Store, mine, other int64, maybeSent bool) func() {
		t.Helper()
		daemon := enlisted(t, s)
		due := time.Now().Add(-time.Minute)
		sliced(t, db, mine, due, "waiting")
		sliced(t, db, other, due, "waiting")
		outcomes := make([]store.DeliveryOutcome, 2)
		for i, d := range begin(t, s, daemon) {
			outcomes[i] = store.DeliveryOutcome{Delivery: d, DaemonID: daemon, Status: "waiting", Sent: true, MaybeSent: maybeSent}
		}
		return func() {
			if recorded, err := s.RecordDeliveries(t.Context(), outcomes); err != nil || len(recorded) != 2 {
				t.Errorf("recorded %v, %v; want both", recorded, err)
			}
		}
	},
	"claimed task": func(t *testing.T, db *pgtest.DB, s *store.Store, mine, other int64, maybeSent bool) func() {
		t.Helper()
		daemon := enlisted(t, s)
		var retries []*store.Retry
		for _, id := range []int64{mine, other} {
			r := claimedTask(t, db, s, daemon, id)
			r.MaybeSent = maybeSent
			retries = append(retries, &r)
		}
		return func() {
			stored, err := s.RetryClaimed(t.Context(), daemon, retries, []int64{retries[0].ClaimID, retries[1].ClaimID})
			if err != nil || !stored[retries[0].TaskID] || !stored[retries[1].TaskID] {
				t.Errorf("stored %v, %v; want both", stored, err)
			}
		}
	},
	"lost claim": func(t *testing.T, db *pgtest.DB, s *store.Store, mine, other int64, _ bool) func() {
		t.Helper()
		daemon := enlisted(t, s)
		claimedTask(t, db, s, daemon, mine)
		claimedTask(t, db, s, daemon, other)
		return func() {
			if n, err := s.ReturnLostClaims(t.Context(), daemon, time.Now().Add(time.Minute), []int64{}, []int64{}); err != nil || n != 2 {
				t.Errorf("gave back %d, %v; want 2", n, err)
			}
		}
	},
}

// claimedTask makes the daemon claim a task of the campaign, due a minute ago,
// and returns what is needed to try it again.
func claimedTask(t *testing.T, db *pgtest.DB, s *store.Store, daemon, campaignID int64) store.Retry {
	t.Helper()
	due := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	pend(t, db, campaignID, int(campaignID), due)
	task := one[int64](t, db, `SELECT id FROM scheduler.pending_tasks WHERE campaign_id = $1`, campaignID)
	claim, tasks, err := s.Claim(t.Context(), daemon, time.Time{}, []int64{task})
	if err != nil || len(tasks) != 1 {
		t.Fatalf("claimed %v, %v", tasks, err)
	}
	return store.Retry{
		ClaimID: claim, TaskID: task, AppNo: one[int32](t, db, `SELECT app_no FROM scheduler.campaigns WHERE id = $1`, campaignID),
		CampaignID: campaignID, Revision: 1, Origin: "scheduled", DueAt: due,
		StartedAt: due, SentAt: due, ReadyAt: due, Reason: "throttled",
	}
}

// What comes back while an author's transaction is open is stored at once, does
// not begin before it ends, and then is where the change has it.
func TestRecordingNeverWaitsForAnAuthor(t *testing.T) {
	t.Parallel()
	const pause, cancel = `UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`
	for _, c := range []struct {
		name, change string
		back         bool // the author changes their mind
		maybeSent    bool
		begins       bool   // the delivery may begin once the author is done
		want         string // where it is in the end, when it does not
	}{
		{name: "pause", change: pause, want: "held"},
		{name: "cancel", change: cancel, want: "cancelled"},
		{name: "cancel of what may have arrived", change: cancel, maybeSent: true, want: "unknown"},
		{name: "delete", change: `DELETE FROM scheduler.campaigns WHERE id = $1`, want: "cancelled"},
		{name: "rename", change: `UPDATE scheduler.campaigns SET name = 'other' WHERE id = $1`, begins: true},
		{name: "pause rolled back", change: pause, back: true, begins: true},
	} {
		for how, comeback := range comebacks {
			if c.maybeSent && how == "lost claim" {
				continue // no call was made
			}
			t.Run(how+", "+c.name, func(t *testing.T) {
				t.Parallel()
				db := surface(t)
				s := opened(t, db.URL)
				mine, other := campaign(t, db), campaign(t, db)
				run(t, db, `UPDATE scheduler.campaigns SET resend_unknown = $1`, c.maybeSent)
				run(t, db, `DELETE FROM scheduler.campaign_changes`)
				store := comeback(t, db, s, mine, other, c.maybeSent)
				tx := author(t, db, c.change, mine)
				store()
				daemon := enlisted(t, s)
				if got := begin(t, s, daemon); len(got) != 1 || got[0].CampaignID != other {
					t.Errorf("began %+v while the author's transaction was open, want the other campaign's delivery", got)
				}
				looked(t, db, s)
				end := tx.Commit
				if c.back {
					end = tx.Rollback
				}
				if err := end(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := begin(t, s, daemon); c.begins != (len(got) == 1) {
					t.Errorf("began %+v when the author was done, want it to begin: %v", got, c.begins)
				}
				looked(t, db, s)
				place(t, s)
				if got := one[string](t, db, `SELECT status::text FROM scheduler.slices WHERE campaign_id = $1`, mine); !c.begins && got != c.want {
					t.Errorf("the delivery is %s, want %s", got, c.want)
				}
				if n := one[int](t, db, `SELECT count(*) FROM scheduler.campaign_changes`); n != 0 {
					t.Errorf("%d changes are left for the planner", n)
				}
			})
		}
	}
}

// What an author's pause sees being claimed stays locked by it, though it has
// begun and is none of the pause's. Its outcome then waited for the author. A
// change of an author's touches no delivery.
func TestAuthorDoesNotLockDeliveries(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := campaign(t, db)
	sliced(t, db, id, time.Now().Add(-time.Minute), "waiting")
	daemon := enlisted(t, s)
	begun := begin(t, s, daemon)
	tx := author(t, db, `UPDATE scheduler.campaigns SET status = 'paused'`)
	recorded, err := s.RecordDeliveries(t.Context(), []store.DeliveryOutcome{{Delivery: begun[0], DaemonID: daemon, Status: "accepted", Sent: true}})
	if err != nil || !recorded[begun[0].ID] {
		t.Errorf("recorded %v, %v: the outcome waits for the author", recorded, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A change made with an old snapshot did not see the tasks planned since, and
// they were pushed after its commit.
func TestChangeWithAnOldSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		for _, change := range []string{`UPDATE scheduler.campaigns SET status = 'paused'`, `DELETE FROM scheduler.campaigns`, `UPDATE scheduler.apps SET pending_limit = 1`} {
			t.Run(string(level)+", "+change[:22], func(t *testing.T) {
				t.Parallel()
				db := surface(t)
				id := campaign(t, db)
				tx, err := db.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
				if _, err := tx.Exec(t.Context(), `SELECT FROM scheduler.campaigns`); err != nil { // the snapshot
					t.Fatal(err)
				}
				pend(t, db, id, 2, time.Now())
				_, err = tx.Exec(t.Context(), change)
				if err == nil {
					err = tx.Commit(t.Context())
				}
				pg, ok := errors.AsType[*pgconn.PgError](err)
				if !ok || pg.Code != "25000" || !strings.Contains(pg.Hint, "READ COMMITTED") {
					n := one[int](t, db, `SELECT count(*) FROM scheduler.pending_tasks`)
					t.Errorf("the change gave %v and left %d tasks pending, want it refused with a fix", err, n)
				}
			})
		}
	}
}

// blocked waits until n sessions on the database wait for a lock.
func blocked(t *testing.T, db *pgtest.DB, n int) {
	t.Helper()
	eventually(t, db, fmt.Sprintf(`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' HAVING count(*) = %d`, n))
}
