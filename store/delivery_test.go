package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// audience stores a running task with n waiting deliveries of one target each.
func audience(t *testing.T, db *pgtest.DB, campaignID int64, due time.Time, n int) (task int64) {
	t.Helper()
	task = one[int64](t, db, `INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
		SELECT nextval('scheduler.task_ids'), app_no, id, revision, 'scheduled', $2, $2, $3::integer, $3::integer FROM scheduler.campaigns WHERE id = $1 RETURNING id`, campaignID, due, n)
	run(t, db, `WITH d AS (
			INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at)
			SELECT $1, g, app_no, campaign_id, due_at FROM scheduler.running_tasks, generate_series(1, slices) g WHERE id = $1 RETURNING id, slice_no)
		INSERT INTO scheduler.slice_targets (slice_id, targets) SELECT id, ARRAY['u' || slice_no] FROM d`, task)
	return task
}

// writes is what a statement does to rows of a table, in its own transaction.
func writes(t *testing.T, db *pgtest.DB, table, sql string, args ...any) (n int) {
	t.Helper()
	const counts = `SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_xact_user_tables WHERE schemaname = 'scheduler' AND relname = $1`
	var before int // of earlier transactions of the session
	tx := author(t, db, `SELECT 1`)
	if err := tx.QueryRow(t.Context(), counts, table).Scan(&before); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
	if err := tx.QueryRow(t.Context(), counts, table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n - before
}

// Fault 1: what an author's change costs, and what one statement of a daemon's
// costs, does not grow with the deliveries that wait.
func TestFault1ChangesOfLargeAudiences(t *testing.T) {
	t.Parallel()
	const waits = 1200
	for name, c := range map[string]struct{ sql, want string }{
		"pause":  {`UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`, "held"},
		"cancel": {`UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, "cancelled"},
		"delete": {`DELETE FROM scheduler.campaigns WHERE id = $1`, "cancelled"},
		"narrow": {`UPDATE scheduler.campaigns SET catch_up_window = '1 second' WHERE id = $1`, "missed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			id := campaign(t, db)
			audience(t, db, id, time.Now().Add(-time.Minute), waits)
			if n := writes(t, db, "slices", c.sql, id); n != 0 {
				t.Errorf("the author's statement wrote %d deliveries", n)
			}
			if n := len(begin(t, s, enlisted(t, s))); n != 0 {
				t.Errorf("%d deliveries begin after it", n)
			}
			if name != "narrow" {
				if got := one[string](t, db, `SELECT DISTINCT status FROM scheduler.deliveries`); got != c.want {
					t.Errorf("people see %s right after it, want %s", got, c.want)
				}
			}
			var placed []int
			for {
				p, err := s.PlaceDeliveries(t.Context(), time.Time{}, 500)
				if err != nil {
					t.Fatal(err)
				}
				placed = append(placed, p.Rows)
				if p.Rows < 500 {
					break
				}
			}
			if diff := cmp.Diff([]int{500, 500, 200}, placed); diff != "" {
				t.Errorf("batches (-want +got):\n%s", diff)
			}
			if got := one[string](t, db, `SELECT DISTINCT status::text FROM scheduler.slices`); got != c.want {
				t.Errorf("deliveries are %s, want %s", got, c.want)
			}
		})
	}
}

// What is held waits again when its campaign is resumed, in batches as well.
func TestFault1ResumeOfALargeAudience(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := campaign(t, db)
	audience(t, db, id, time.Now().Add(-time.Minute), 30)
	for _, status := range []string{"paused", "active"} {
		run(t, db, `UPDATE scheduler.campaigns SET status = $1`, status)
		place(t, s)
	}
	if n := len(begin(t, s, enlisted(t, s))); n != 10 { // as many as begin asks for
		t.Errorf("%d deliveries begin", n)
	}
	run(t, db, `UPDATE scheduler.campaigns SET status = 'paused'`)
	place(t, s)
	if got := one[string](t, db, `SELECT string_agg(DISTINCT status::text, ' ') FROM scheduler.slices`); got != "held running" {
		t.Errorf("deliveries are %s", got)
	}
}

// Fault 4: the window is the campaign's as it stands, for running tasks too.
func TestFault4WindowOfARunningTask(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, before, after string
		begins              bool
	}{
		{"widened", "10 seconds", "1 hour", true},
		{"narrowed", "1 hour", "10 seconds", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			id := campaign(t, db)
			run(t, db, `UPDATE scheduler.campaigns SET catch_up_window = $1::interval`, c.before)
			audience(t, db, id, time.Now().Add(-time.Minute), 1)
			run(t, db, `UPDATE scheduler.campaigns SET catch_up_window = $1::interval`, c.after)
			read := readyNow(t, s)
			place(t, s)
			begun, err := s.ClaimDeliveries(t.Context(), enlisted(t, s), time.Time{}, read)
			if err != nil || (len(begun) == 1) != c.begins {
				t.Errorf("%d deliveries begin, %v", len(begun), err)
			}
			want := map[bool]string{true: "running", false: "missed"}[c.begins]
			if got := one[string](t, db, `SELECT status::text FROM scheduler.slices`); got != want {
				t.Errorf("the delivery is %s, want %s", got, want)
			}
		})
	}
}

// Fault 3: a claim names the campaign's revision and the delivery's attempts as
// they were read; when either has moved nothing begins.
func TestFault3ClaimIsFencedByWhatWasRead(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"revision": `UPDATE scheduler.campaigns SET request = '{"a": 1}'`,
		"attempt":  `UPDATE scheduler.slices SET attempts = attempts + 1`,
		"pause":    `UPDATE scheduler.campaigns SET status = 'paused'`,
		"hold":     `UPDATE scheduler.hold SET held_since = now(), reason = 'x'`,
		"lease":    `UPDATE scheduler.daemons SET ended_at = now()`,
		"quota":    `INSERT INTO scheduler.app_quotas SELECT app_no, channel, 5 FROM scheduler.campaigns`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			daemon := enlisted(t, s)
			audience(t, db, campaign(t, db), time.Now().Add(-time.Minute), 1)
			read := readyNow(t, s)
			run(t, db, change)
			begun, err := s.ClaimDeliveries(t.Context(), daemon, time.Time{}, read)
			if err != nil || len(begun) != 0 {
				t.Errorf("%d deliveries begin, %v", len(begun), err)
			}
		})
	}
}

// Fault 8: a delivery of which nobody knows to whom it goes is sliced anew, by
// the audience that stands.
func TestFault8SlicedAnew(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stands int
		want   string
	}{
		{0, "1 slices: accepted 1"},
		{3, "1 slices: waiting 1 {u1,u2,u3}"},
		{7, "3 slices: waiting 1 {u1,u2,u3} waiting 1 {u4,u5,u6} waiting 1 {u7}"},
	} {
		t.Run(fmt.Sprint(c.stands), func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			id := campaign(t, db)
			sliced(t, db, id, time.Now().Add(-time.Minute), "waiting")
			run(t, db, `UPDATE scheduler.slices SET attempts = 1`)
			run(t, db, `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT $1, 'u' || i FROM generate_series(1, $2::integer) i`, id, c.stands)
			read := readyNow(t, s)
			if len(read) != 1 || read[0].Named {
				t.Fatalf("read %+v", read)
			}
			if done, err := s.Recut(t.Context(), read[0], store.Start{PerCall: 3}); err != nil || !done {
				t.Fatal(done, err)
			}
			got := one[string](t, db, `SELECT r.slices || ' slices: ' || string_agg(concat_ws(' ', s.status, s.attempts, x.targets), ' ' ORDER BY s.slice_no)
				FROM scheduler.running_tasks r JOIN scheduler.slices s ON s.task_id = r.id LEFT JOIN scheduler.slice_targets x ON x.slice_id = s.id GROUP BY r.slices`)
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if n := one[int](t, db, `SELECT targets FROM scheduler.running_tasks`); n != c.stands {
				t.Errorf("the record says %d targets", n)
			}
			if done, err := s.Recut(t.Context(), read[0], store.Start{PerCall: 3}); err != nil || done {
				t.Errorf("sliced twice: %v, %v", done, err)
			}
		})
	}
}

// Fault 10: a booking is made by the claim, with the call's time. One that is
// older than its week is none, and counts for nobody.
func TestFault10QuotaIsBookedByTheClaim(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		used  []time.Duration // ago, of the calls made
		waits int
		want  int
	}{
		"five this week":      {[]time.Duration{1, 2, 3, 4, 5}, 1, 0},
		"one is eight days":   {[]time.Duration{1, 2, 3, 4, 192}, 1, 1},
		"two wait for one":    {[]time.Duration{1, 2, 3, 4}, 2, 1},
		"none used, six wait": {nil, 6, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			id := campaign(t, db)
			run(t, db, `INSERT INTO scheduler.app_quotas SELECT app_no, channel, 5 FROM scheduler.campaigns`)
			for _, hours := range c.used {
				run(t, db, `INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota) SELECT app_no, channel, $1, 5 FROM scheduler.campaigns`,
					time.Now().Add(-hours*time.Hour))
			}
			audience(t, db, id, time.Now().Add(-time.Minute), c.waits)
			before := one[int](t, db, `SELECT count(*) FROM scheduler.quota_uses`)
			if n := len(begin(t, s, enlisted(t, s))); n != c.want {
				t.Errorf("%d calls begin, want %d", n, c.want)
			}
			if n := one[int](t, db, `SELECT count(*) FROM scheduler.quota_uses`) - before; n != c.want {
				t.Errorf("%d calls are booked, want %d", n, c.want)
			}
			if n := one[int](t, db, `SELECT count(*) FROM scheduler.slices WHERE status = 'waiting' AND reason = 'quota' AND ready_at > now()`); n != c.waits-c.want {
				t.Errorf("%d deliveries wait for quota, want %d", n, c.waits-c.want)
			}
		})
	}
}

// Fault 19: what is not read costs nothing. A connection's plans must be right
// whatever the tables held when they were made: the statements on the way of a
// delivery are run on tables that are almost empty, then with many deliveries of
// another app and of the same task.
func TestFault19DeliveriesReadFewRows(t *testing.T) {
	t.Parallel()
	const many = 3000
	db := surface(t)
	for _, table := range []string{"slices", "slice_targets", "running_tasks"} {
		run(t, db, `ALTER TABLE scheduler.`+table+` SET (autovacuum_enabled = false)`)
	}
	run(t, db, `INSERT INTO scheduler.apps (app_id, provider) VALUES ('other', 'webhook')`)
	s, err := store.Open(t.Context(), store.Config{URL: db.URL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	daemon := enlisted(t, s)
	id := campaign(t, db)
	due := time.Now().Add(-time.Minute)
	work := func() {
		task := audience(t, db, id, due, 3)
		due = due.Add(time.Second)
		begun := begin(t, s, daemon)
		if len(begun) < 3 {
			t.Fatalf("%d deliveries begin", len(begun))
		}
		outcomes := make([]store.DeliveryOutcome, len(begun))
		for i, d := range begun {
			outcomes[i] = store.DeliveryOutcome{Delivery: d, DaemonID: daemon, Status: "accepted", Sent: true}
		}
		if recorded, err := s.RecordDeliveries(t.Context(), outcomes); err != nil || len(recorded) != len(begun) {
			t.Fatalf("recorded %v, %v", recorded, err)
		}
		place(t, s)
		if _, err := s.Settle(t.Context(), daemon, []int64{task}, 10); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
		work()
	}
	other := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('n', 'other', 'webhook') RETURNING id`)
	audience(t, db, other, time.Now().Add(-time.Minute), many)
	audience(t, db, id, time.Now().Add(time.Hour), many) // not ready yet
	for range 5 {
		work()
	}
	s.Close()
	awaitEnd(t, db)
	for _, table := range []string{"slices", "slice_targets"} {
		n := one[int](t, db, `SELECT t.seq_tup_read + (SELECT coalesce(sum(i.idx_tup_read), 0) FROM pg_stat_user_indexes i WHERE i.relid = t.relid)::bigint
			FROM pg_stat_user_tables t WHERE t.schemaname = 'scheduler' AND t.relname = $1`, table)
		if n >= many {
			t.Log(one[string](t, db, `SELECT string_agg(indexrelname || ' ' || idx_scan || ' ' || idx_tup_read, ', ') FROM pg_stat_user_indexes WHERE relname = $1`, table))
			t.Errorf("%d rows of %s were read, to find a few", n, table)
		}
	}
}
