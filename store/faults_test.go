package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	other := campaign(t, db)
	run(t, db, `DELETE FROM scheduler.campaign_changes`)
	pend(t, db, other, 1, time.Now().Add(time.Minute))
	pend(t, db, id, 2, time.Now().Add(time.Hour))
	run(t, db, `UPDATE scheduler.apps SET pending_limit = 1 WHERE app_no = (SELECT app_no FROM scheduler.campaigns LIMIT 1)`)
	if n := one[int](t, db, `SELECT count(*) FROM scheduler.pending_tasks`); n != 1 {
		t.Fatalf("%d tasks are left, want one", n)
	}
	if _, err := s.FinishCampaigns(t.Context(), []int64{id}); err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, db, `SELECT status FROM scheduler.campaigns WHERE id = $1`, id); got != "active" {
		t.Errorf("the campaign is %s although its occurrence is still to come", got)
	}
	run(t, db, `DELETE FROM scheduler.campaign_changes`)
	if ids, err := s.FinishCampaigns(t.Context(), []int64{id}); err != nil || len(ids) != 1 {
		t.Errorf("finished %v, %v: want the campaign to be finished once nothing is left", ids, err)
	}
}

// claimed makes a daemon claim one pending task of a campaign, due a minute ago.
func claimed(t *testing.T, db *pgtest.DB, s *store.Store, campaignID int64) (daemon int64) {
	t.Helper()
	daemon = enlisted(t, s)
	pend(t, db, campaignID, 1, time.Now().Add(-time.Minute))
	id := one[int64](t, db, `SELECT id FROM scheduler.pending_tasks`)
	if _, tasks, err := s.Claim(t.Context(), daemon, time.Time{}, []int64{id}); err != nil || len(tasks) != 1 {
		t.Fatalf("claimed %v, %v", tasks, err)
	}
	return daemon
}

// A claim whose answer was lost is given back, unless its campaign was paused or
// cancelled in between: that was pushed after the cancel.
func TestLostClaimObeysTheCampaign(t *testing.T) {
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
			if n, err := s.ReturnLostClaims(t.Context(), daemon, time.Now().Add(time.Minute), []int64{}, []int64{}); err != nil || n != 1 {
				t.Fatalf("gave back %d, %v; want 1", n, err)
			}
			place(t, s)
			if got := one[string](t, db, `SELECT status::text FROM scheduler.slices`); got != want {
				t.Errorf("after %q the delivery is %s, want %s", change, got, want)
			}
		})
	}
}

// A request to give claims back that the network held up must not take those
// that were made since.
func TestReturnedClaimsLeaveLaterOnesAlone(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	before := one[time.Time](t, db, `SELECT clock_timestamp()`)
	daemon := claimed(t, db, s, campaign(t, db))
	if n, err := s.ReturnLostClaims(t.Context(), daemon, before, []int64{}, []int64{}); err != nil || n != 0 {
		t.Errorf("gave back %d, %v; want nothing", n, err)
	}
}

// What a dead daemon had begun is begun again where its author allows it, though
// the author has the campaign open at that moment; not when the change forbids
// it. The change does not see it, so that its claim has to.
func TestReapMeetsAnAuthor(t *testing.T) {
	t.Parallel()
	for change, want := range map[string]string{
		`SET status = 'cancelled'`: "unknown", `SET status = 'paused'`: "held", `SET name = 'other'`: "waiting", `SET resend_unknown = false`: "unknown",
	} {
		t.Run(change, func(t *testing.T) {
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
			tx := author(t, db, `UPDATE scheduler.campaigns `+change)
			if _, err := s.Reap(t.Context(), nil); err != nil {
				t.Error(err)
			}
			other := enlisted(t, s)
			if n := len(begin(t, s, other)); n != 0 {
				t.Errorf("%d deliveries began while the author's transaction was open", n)
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := len(begin(t, s, other)); (n == 2) != (change == `SET name = 'other'`) {
				t.Errorf("%d deliveries began after the change", n)
			}
			if change == `SET name = 'other'` {
				return
			}
			looked(t, db, s)
			place(t, s)
			if got := one[string](t, db, `SELECT string_agg(status::text, ' ') FROM scheduler.slices`); got != want+" "+want {
				t.Errorf("the deliveries are %s, want both %s", got, want)
			}
		})
	}
}

// An author who takes resend_unknown back does not want to see made again what
// may have arrived already.
func TestResendTakenBack(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"active", "paused"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			id := campaign(t, db)
			run(t, db, `UPDATE scheduler.campaigns SET resend_unknown = true`)
			sliced(t, db, id, time.Now().Add(-time.Minute), "waiting", "waiting")
			run(t, db, `UPDATE scheduler.slices SET maybe_sent = true WHERE slice_no = 1`)
			run(t, db, `UPDATE scheduler.campaigns SET status = $1`, status)
			run(t, db, `UPDATE scheduler.campaigns SET resend_unknown = false`)
			run(t, db, `UPDATE scheduler.campaigns SET status = 'active'`)
			place(t, s)
			if got := begin(t, s, enlisted(t, s)); len(got) != 1 || got[0].SliceNo != 2 {
				t.Errorf("began %+v, want the delivery that was not sent", got)
			}
			if got := one[string](t, db, `SELECT status::text FROM scheduler.slices WHERE slice_no = 1`); got != "unknown" {
				t.Errorf("what may have arrived is %s, want unknown", got)
			}
		})
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
	place(t, s)
	settled, err := s.Settle(t.Context(), 1, nil, 10)
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

// A task without quota waits for a minute at most, since a booking may be given
// back; never before its time, and never past the end of its window, where it is
// missed.
func TestTaskWithoutQuotaWaitsWithinItsWindow(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	for _, c := range []struct {
		name       string
		usedAgo    time.Duration // when the one call of the quota was made
		window     string
		dueAgo     time.Duration
		wantsAfter time.Duration // after now
	}{
		{"frees up late", time.Hour, "1 hour", time.Minute, time.Minute},
		{"frees up soon", 7*24*time.Hour - 5*time.Second, "1 hour", time.Minute, 5*time.Second + time.Microsecond},
		{"window ends first", time.Hour, "90 seconds", time.Minute, 30 * time.Second},
		{"window ended", time.Hour, "30 seconds", time.Minute, -30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			id := campaign(t, db)
			run(t, db, `UPDATE scheduler.campaigns SET catch_up_window = $1::interval`, c.window)
			run(t, db, `INSERT INTO scheduler.app_quotas SELECT app_no, channel, 1 FROM scheduler.campaigns`)
			run(t, db, `INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota) SELECT app_no, channel, $1, 1 FROM scheduler.campaigns`,
				now.Add(-c.usedAgo))
			pend(t, db, id, 1, now.Add(-c.dueAgo))
			second := store.Start{TaskID: one[int64](t, db, `SELECT id FROM scheduler.pending_tasks`), Revision: one[int32](t, db, `SELECT revision FROM scheduler.campaigns`), Quota: true}
			started, err := s.StartTask(t.Context(), enlisted(t, s), now, second)
			if err != nil || started.Begun || !started.NoQuota {
				t.Fatalf("started %+v, %v; want it to wait", started, err)
			}
			ready := one[time.Time](t, db, `SELECT ready_at FROM scheduler.pending_tasks WHERE waits_for = 'quota'`)
			if got := ready.Sub(now); got != c.wantsAfter {
				t.Errorf("the task is looked at again after %s, want %s", got, c.wantsAfter)
			}
		})
	}
}

// An outcome that comes too late does not touch the booking of the attempt that
// another daemon has made since.
func TestLateOutcomeLeavesTheBookingAlone(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]store.DeliveryOutcome{
		"not sent":  {Status: "waiting", Sent: true},
		"given up":  {Status: "missed"},
		"put off":   {Status: "waiting"},
		"delivered": {Status: "accepted", Sent: true, KeepQuota: true},
		"unknown":   {Status: "waiting", Sent: true, KeepQuota: true, MaybeSent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			id := campaign(t, db)
			run(t, db, `UPDATE scheduler.campaigns SET resend_unknown = true`)
			run(t, db, `INSERT INTO scheduler.app_quotas SELECT app_no, channel, 5 FROM scheduler.campaigns`)
			sliced(t, db, id, time.Now().Add(-time.Minute), "waiting")
			dead := enlisted(t, s)
			late.Delivery, late.DaemonID = begin(t, s, dead)[0], dead
			if err := s.Retire(t.Context(), dead); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Reap(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if n := len(begin(t, s, enlisted(t, s))); n != 1 {
				t.Fatalf("%d deliveries were taken over, want 1", n)
			}
			const bookings = `SELECT string_agg(concat_ws('|', id, slice_id, used_at), ' ' ORDER BY id) FROM scheduler.quota_uses`
			before := one[string](t, db, bookings)
			if recorded, err := s.RecordDeliveries(t.Context(), []store.DeliveryOutcome{late}); err != nil || len(recorded) != 0 {
				t.Fatalf("recorded %v, %v; want it fenced", recorded, err)
			}
			if diff := cmp.Diff(before, one[string](t, db, bookings)); diff != "" {
				t.Errorf("the bookings changed (-want +got):\n%s", diff)
			}
			if n := one[int](t, db, `SELECT count(*) FROM scheduler.quota_uses`); n != 2 {
				t.Errorf("%d calls are booked, want the lost one and the one made again", n)
			}
		})
	}
}

// What may have arrived is unknown in the end, whatever ends it: it was recorded
// as cancelled, or as missed.
func TestWhatMayHaveArrivedEndsUnknown(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *pgtest.DB, *store.Store){
		"window": func(*testing.T, *pgtest.DB, *store.Store) {},
		"cancel": func(t *testing.T, db *pgtest.DB, _ *store.Store) {
			t.Helper()
			run(t, db, `UPDATE scheduler.campaigns SET status = 'cancelled'`)
		},
		"delete": func(t *testing.T, db *pgtest.DB, _ *store.Store) {
			t.Helper()
			run(t, db, `DELETE FROM scheduler.campaigns`)
		},
		"pause, then cancel": func(t *testing.T, db *pgtest.DB, _ *store.Store) {
			t.Helper()
			run(t, db, `UPDATE scheduler.campaigns SET status = 'paused'`)
			run(t, db, `UPDATE scheduler.campaigns SET status = 'cancelled'`)
		},
		"pause until the window ends": func(t *testing.T, db *pgtest.DB, _ *store.Store) {
			t.Helper()
			run(t, db, `UPDATE scheduler.campaigns SET status = 'paused'`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			id := campaign(t, db)
			sliced(t, db, id, time.Now().Add(-2*time.Hour), "waiting")
			run(t, db, `UPDATE scheduler.slices SET maybe_sent = true, attempts = 1`)
			end(t, db, s)
			place(t, s)
			settled, err := s.Settle(t.Context(), 1, nil, 10)
			if err != nil || len(settled) != 1 || settled[0].Status != "unknown" {
				t.Errorf("settled %+v, %v; want unknown", settled, err)
			}
		})
	}
}

// A retry whose answer was lost is stored again: one delivery comes of it.
func TestRetryStoredTwiceIsOne(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"retry", "cut"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			daemon := enlisted(t, s)
			r := claimedTask(t, db, s, daemon, campaign(t, db))
			for range 2 {
				if name == "retry" {
					if stored, err := s.RetryClaimed(t.Context(), daemon, []*store.Retry{&r}, nil); err != nil || !stored[r.TaskID] {
						t.Fatalf("stored %v, %v", stored, err)
					}
					continue
				}
				cut := store.Start{TaskID: r.TaskID, Revision: r.Revision, PerCall: 100, Inline: []string{"a", "b"}}
				if started, err := s.CutClaimed(t.Context(), daemon, r.ClaimID, cut); err != nil || !started.Begun {
					t.Fatalf("cut %+v, %v", started, err)
				}
			}
			if n := one[int](t, db, `SELECT count(*) FROM scheduler.slices`); n != 1 {
				t.Errorf("%d deliveries are stored, want 1", n)
			}
			if stored, err := s.RetryClaimed(t.Context(), daemon, nil, []int64{r.ClaimID}); err != nil || len(stored) != 0 {
				t.Fatalf("stored %v, %v", stored, err)
			}
			if n := len(begin(t, s, daemon)); n != 1 {
				t.Errorf("%d deliveries begin, want 1", n)
			}
		})
	}
}

// Attempts whose answer was lost, those of deliveries too, are given back as if
// they had not been; those that the daemon knows of, or has made since, stay.
func TestLostAttemptIsGivenBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		known, before bool // the daemon knows of it; it is older than the request
		want          string
	}{
		{"lost", false, true, "waiting 0"},
		{"known", true, true, "running 1"},
		{"made since", false, false, "running 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			daemon := enlisted(t, s)
			id := campaign(t, db)
			sliced(t, db, id, time.Now().Add(-time.Minute), "waiting")
			r := claimedTask(t, db, s, daemon, id)
			before := one[time.Time](t, db, `SELECT clock_timestamp()`)
			slice := begin(t, s, daemon)[0]
			claims, running := []int64{r.ClaimID}, []int64{}
			if c.known {
				running = append(running, slice.ID)
			}
			if c.before {
				before = before.Add(time.Minute)
			}
			if _, err := s.ReturnLostClaims(t.Context(), daemon, before, claims, running); err != nil {
				t.Fatal(err)
			}
			if got := one[string](t, db, `SELECT status || ' ' || attempts FROM scheduler.slices`); got != c.want {
				t.Errorf("the delivery is %s, want %s", got, c.want)
			}
			if n := one[int](t, db, `SELECT count(*) FROM scheduler.claims`); n != 1 {
				t.Error("a claim that the daemon knows of was given back")
			}
			if again := begin(t, s, daemon); (c.want == "waiting 0") != (len(again) == 1) {
				t.Errorf("%d deliveries begin again", len(again))
			}
		})
	}
}

// A daemon that was frozen or cut off in the middle of planning kept its locks
// for a minute. The server now ends its session in seconds.
func TestSessionsDoNotKeepLocksForLong(t *testing.T) {
	t.Parallel()
	s := opened(t, surface(t).URL)
	for setting, want := range map[string]string{
		"idle_in_transaction_session_timeout": "10s", "lock_timeout": "5s", "statement_timeout": "30s", "default_transaction_isolation": "read committed",
	} {
		if got, err := s.Setting(t.Context(), setting); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %s", setting, got, err, want)
		}
	}
}

// The targets of a delivery are looked up by their names. The server compared
// each of a campaign's targets with each name: for minutes, where they are many.
func TestNamedTargetsAreLookedUp(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := campaign(t, db)
	const add = `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, 'u' || i FROM generate_series($2::int, $3) i`
	run(t, db, add, id, 1, 1)
	run(t, db, `ANALYZE scheduler.campaign_targets`) // the server takes it for small
	run(t, db, add, id, 2, 5000)
	run(t, db, `DELETE FROM scheduler.campaign_targets WHERE target LIKE 'u1_%'`) // so that u1 and u2 follow each other
	s := opened(t, db.URL)
	run(t, db, `UPDATE scheduler.campaign_targets SET msg_key = 'k', extended_params = '{"a": 1}' WHERE target = 'u9'`)
	run(t, db, `INSERT INTO scheduler.slice_targets (slice_id, targets) VALUES (1, '{gone,u4999,u7}'), (2, '{u1,u2}'), (3, '{u8,u9}')`)
	got, err := s.NamedTargets(t.Context(), []store.Delivery{
		{ID: 1, CampaignID: id, Targets: []string{"gone", "u4999", "u7"}},
		{ID: 2, CampaignID: id, Targets: []string{"u1", "u2"}},
		{ID: 3, CampaignID: id, Targets: []string{"u8", "u9"}},
		{ID: 4, CampaignID: id, Targets: []string{"gone"}},
	})
	want := map[int64][]store.Target{
		1: {{CampaignID: id, Target: "u4999"}, {CampaignID: id, Target: "u7"}}, 2: {{CampaignID: id, Target: "u1"}, {CampaignID: id, Target: "u2"}},
		3: {{CampaignID: id, Target: "u8"}, {CampaignID: id, Target: "u9", MsgKey: "k", ExtendedParams: []byte(`{"a": 1}`)}}, 4: {},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	plan, err := s.Explain(t.Context(), store.NamedTargetsSQL, []int64{1}, []int64{id}, []string{"u7"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(plan, "AND (target = u.name)") {
		t.Errorf("targets are not looked up one by one:\n%s", plan)
	}
}
