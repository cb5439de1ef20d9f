package store_test

import (
	"testing"
	"time"

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
