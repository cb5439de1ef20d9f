package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/store"
)

// A delivery whose first call was certainly not sent books again for the second
// attempt. When that one is put off, and the task then ends without it, nothing
// may stay booked: the call was never made.
func TestBookingOfAnAttemptNeverMadeIsGivenBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(t *testing.T, s *store.Store, ended func(sql string))
	}{
		{"too late", func(t *testing.T, s *store.Store, _ func(string)) {
			t.Helper()
			if _, err := s.PlaceDeliveries(t.Context(), time.Now().Add(2*time.Hour), 10); err != nil {
				t.Fatal(err)
			}
		}},
		{"cancelled", func(_ *testing.T, _ *store.Store, ended func(string)) {
			ended(`UPDATE scheduler.campaigns SET status = 'cancelled'`)
		}},
		{"deleted", func(_ *testing.T, _ *store.Store, ended func(string)) { ended(`DELETE FROM scheduler.campaigns`) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := surface(t)
			s := opened(t, db.URL)
			daemon := enlisted(t, s)
			id := campaign(t, db)
			run(t, db, `INSERT INTO scheduler.app_quotas SELECT app_no, channel, 5 FROM scheduler.campaigns`)
			sliced(t, db, id, time.Now().Add(-time.Minute), "waiting")
			attempt := func(o store.DeliveryOutcome) {
				t.Helper()
				begun := begin(t, s, daemon)
				if len(begun) != 1 {
					t.Fatalf("claimed %d deliveries", len(begun))
				}
				if n := one[int](t, db, `SELECT count(*) FROM scheduler.quota_uses`); n != 1 {
					t.Fatalf("%d uses are booked for one attempt", n)
				}
				o.Delivery, o.DaemonID, o.Status, o.ReadyAt = begun[0], daemon, "waiting", time.Now().Add(-time.Second)
				if recorded, err := s.RecordDeliveries(t.Context(), []store.DeliveryOutcome{o}); err != nil || !recorded[begun[0].ID] {
					t.Fatalf("recorded %v, %v", recorded, err)
				}
			}
			attempt(store.DeliveryOutcome{Sent: true}) // refused before it was taken
			attempt(store.DeliveryOutcome{})           // put off: no call was made
			c.end(t, s, func(sql string) { run(t, db, sql) })
			if n := one[int](t, db, `SELECT count(*) FROM scheduler.quota_uses`); n != 0 {
				t.Errorf("%d uses stay booked for calls that were never made", n)
			}
		})
	}
}

// Tasks that wait for a quota take turns: each is asked again when its own turn
// comes, whoever asks first. The second is not put off for a minute because the
// first had not asked yet.
func TestTasksThatWaitForAQuotaTakeTurns(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	daemon := enlisted(t, s)
	id := campaign(t, db)
	now := one[time.Time](t, db, `SELECT clock_timestamp()`)
	due := now.Add(-time.Minute).Truncate(time.Second)
	run(t, db, `INSERT INTO scheduler.app_quotas SELECT app_no, channel, 3 FROM scheduler.campaigns`)
	// At now one call is free, half a second later the second is, an hour later the third.
	run(t, db, `INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota)
		SELECT app_no, channel, $1::timestamptz - interval '168 hours' + a, 3 FROM scheduler.campaigns,
		       unnest(ARRAY[interval '-1 second', interval '500 ms', interval '1 hour']) a`, now)
	for i := range 3 {
		pend(t, db, id, i+1, due.Add(time.Duration(i)*time.Second))
	}
	tasks := make([]int64, 3)
	for i := range tasks {
		tasks[i] = one[int64](t, db, `SELECT id FROM scheduler.pending_tasks WHERE slot = $1`, i+1)
	}
	var got []string
	for _, i := range []int{2, 1, 0} { // the last one asks first
		started, err := s.StartTask(t.Context(), daemon, now, store.Start{TaskID: tasks[i], Revision: 1, Inline: []string{"a", "b"}, PerCall: 1, Quota: true})
		if err != nil {
			t.Fatal(err)
		}
		if started.Begun {
			got = append(got, fmt.Sprintf("%d begun", i+1))
			continue
		}
		ready := one[time.Time](t, db, `SELECT ready_at FROM scheduler.pending_tasks WHERE id = $1`, tasks[i])
		got = append(got, fmt.Sprintf("%d waits %v", i+1, ready.Sub(now).Round(time.Millisecond)))
	}
	if diff := cmp.Diff([]string{"3 waits 1m0s", "2 waits 500ms", "1 begun"}, got); diff != "" {
		t.Error(diff)
	}
}
