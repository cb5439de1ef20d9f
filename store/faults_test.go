package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// What the chaos harness found, one case each (docs/reliability.md). Each fails
// without its fix.

// opened returns a Store on the database, beside the test's own connections.
func opened(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: url, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// A limit that was lowered takes a campaign's last pending task back. Until the
// planner has seen that, the campaign looks as if nothing were left of it; it
// was marked finished, and its occurrence was lost.
func TestCampaignWithWithdrawnTaskIsNotFinished(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := campaign(t, db)
	run(t, db, `DELETE FROM scheduler.campaign_changes`)
	run(t, db, `INSERT INTO scheduler.campaign_cursors (campaign_id, app_no, revision, active) SELECT id, app_no, revision, true FROM scheduler.campaigns`)
	pend(t, db, id, 2, time.Now().Add(time.Hour))
	run(t, db, `UPDATE scheduler.apps SET pending_limit = 1 WHERE app_no = (SELECT app_no FROM scheduler.campaigns)`)
	if n := one[int](t, db, `SELECT count(*) FROM scheduler.pending_tasks`); n != 0 {
		t.Fatalf("%d tasks are left over the limit", n)
	}
	if _, err := s.FinishCampaigns(t.Context(), []int64{id}); err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, db, `SELECT status FROM scheduler.campaigns`); got != "active" {
		t.Errorf("the campaign is %s although its occurrence is still to come", got)
	}
	run(t, db, `DELETE FROM scheduler.campaign_changes`)
	if n, err := s.FinishCampaigns(t.Context(), []int64{id}); err != nil || n != 1 {
		t.Errorf("finished %d, %v: want the campaign to be finished once nothing is left", n, err)
	}
}

// claimed makes a daemon claim one pending task of a campaign, due a minute ago.
func claimed(t *testing.T, db *pgtest.DB, s *store.Store, campaignID int64) (daemon int64) {
	t.Helper()
	d, err := s.Enlist(t.Context(), store.Newcomer{Name: "d", Version: "v", Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	pend(t, db, campaignID, 1, time.Now().Add(-time.Minute))
	id := one[int64](t, db, `SELECT id FROM scheduler.pending_tasks`)
	if _, tasks, err := s.Claim(t.Context(), d.ID, time.Time{}, []int64{id}); err != nil || len(tasks) != 1 {
		t.Fatalf("claimed %v, %v", tasks, err)
	}
	return d.ID
}

// A claim whose answer was lost is given back, unless its campaign was paused or
// cancelled in between: that was pushed after the cancel.
func TestUnheardClaimObeysTheCampaign(t *testing.T) {
	t.Parallel()
	for change, want := range map[string]string{
		`SELECT $1::bigint`: "waiting",
		`UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`:    "held",
		`UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`: "cancelled",
		`DELETE FROM scheduler.campaigns WHERE id = $1`:                     "cancelled",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			id := campaign(t, db)
			daemon := claimed(t, db, s, id)
			run(t, db, change, id)
			if n, err := s.Unhear(t.Context(), daemon, time.Now().Add(time.Minute), []int64{}, []int64{}); err != nil || n != 1 {
				t.Fatalf("gave back %d, %v; want 1", n, err)
			}
			if got := one[string](t, db, `SELECT status::text FROM scheduler.slices`); got != want {
				t.Errorf("after %q the delivery is %s, want %s", change, got, want)
			}
		})
	}
}

// A request to give claims back that the network held up must not take those
// that were made since.
func TestUnheardLeavesLaterClaimsAlone(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	before := one[time.Time](t, db, `SELECT clock_timestamp()`)
	daemon := claimed(t, db, s, campaign(t, db))
	if n, err := s.Unhear(t.Context(), daemon, before, []int64{}, []int64{}); err != nil || n != 0 {
		t.Errorf("gave back %d, %v; want nothing", n, err)
	}
}

// What a dead daemon had begun is not begun again while an author is cancelling
// its campaign: the change would not see it.
func TestReapDoesNotResendWhatIsBeingCancelled(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := campaign(t, db)
	run(t, db, `UPDATE scheduler.campaigns SET resend_unknown = true`)
	daemon := claimed(t, db, s, id)
	sliced(t, db, id, time.Now().Add(-2*time.Minute), "running")
	run(t, db, `UPDATE scheduler.slices SET daemon_id = $1`, daemon)
	if err := s.Retire(t.Context(), daemon); err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reap(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, db, `SELECT count(*) FROM scheduler.slices WHERE status = 'waiting'`); n != 0 {
		t.Errorf("%d deliveries of a cancelled campaign wait for another attempt", n)
	}
}

// A server whose disk is full refuses sessions with an internal error. A daemon
// that was started in that moment gave up.
func TestNoRoomForASessionIsAnOutage(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"XX000": true, // could not write init file
		"25P03": true, // the session of a daemon that was frozen
		"53100": true, "53300": true, "57P01": true, "57P03": true, "25006": true, "08006": true, "58030": true,
		"55P03": false, // a lock; see IsBlocked
		"28P01": false, "3D000": false, "42501": false, "23514": false, "42P01": false,
	} {
		err := fmt.Errorf("check schema: %w", &pgconn.PgError{Code: code})
		if got := store.IsOutage(err); got != want {
			t.Errorf("IsOutage of %s is %v, want %v", code, got, want)
		}
	}
}

// An author's transaction that stays open holds its own campaign's deliveries.
// Those of all others were held up with them: giving up on what had expired
// waited for its locks.
func TestSettleIsNotHeldUpByAnAuthor(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	edited, other := campaign(t, db), campaign(t, db)
	due := time.Now().Add(-2 * time.Hour)
	sliced(t, db, edited, due, "waiting")
	sliced(t, db, other, due, "waiting")
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`, edited); err != nil {
		t.Fatal(err)
	}
	settled, err := s.Settle(t.Context(), 1, time.Time{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(settled) != 1 || settled[0].CampaignID != other || settled[0].Status != "missed" {
		t.Errorf("settled %+v, want the other campaign's task, missed", settled)
	}
}

// Two tasks of one campaign that fall due together, as after an outage, are
// claimed together. Each call then named every target twice.
func TestTargetsOfTwoTasksAreNotDoubled(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := campaign(t, db)
	run(t, db, `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, 'u' || i FROM generate_series(1, 3) i`, id)
	targets, err := s.StoredTargets(t.Context(), []int64{id, id}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(targets[id]); n != 3 {
		t.Errorf("%d targets, want 3", n)
	}
}
