package store_test

import (
	"testing"
	"time"
)

// A catch-up window is as long for the daemon as it is for the rules in SQL,
// which count with extract(epoch).
func TestCatchUpWindowIsAsLongAsInSQL(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	for _, window := range []string{
		"1 hour", "90 days 00:00:00.000001", "1 month", "11 months 3 days", "12 months", "2 years 14 months 1 day 04:05:06.789", "1 month -3 days", "2 days -1 hour",
	} {
		id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, catch_up_window)
			VALUES ('n', 'hook', 'webhook', 2, $1, $2::text::interval) RETURNING id`, loop(10), window)
		got, err := s.Campaigns(t.Context(), []int64{id})
		if err != nil {
			t.Fatal(err)
		}
		want := time.Duration(one[int64](t, db, `SELECT (extract(epoch FROM catch_up_window) * 1e6)::bigint FROM scheduler.campaigns WHERE id = $1`, id)) * time.Microsecond
		if got[0].CatchUpWindow != want {
			t.Errorf("%s: got %v, want %v", window, got[0].CatchUpWindow, want)
		}
	}
}
