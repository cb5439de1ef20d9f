package store_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/store"
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

// The database counts a window as the daemon does, whatever the session's time
// zone: across a change of clocks, and in months of any length.
func TestWindowEndIsTheSameInSQL(t *testing.T) {
	t.Parallel()
	db := surface(t)
	zones := []string{"UTC", "Europe/Berlin", "Asia/Shanghai", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"}
	rapid.Check(t, func(rt *rapid.T) {
		window := pgtype.Interval{
			Microseconds: rapid.Int64Range(-86_400_000_000, 40*86_400_000_000).Draw(rt, "microseconds"),
			Days:         rapid.Int32Range(-40, 400).Draw(rt, "days"),
			Months:       rapid.Int32Range(-3, 40).Draw(rt, "months"),
			Valid:        true,
		}
		due := time.UnixMicro(rapid.Int64Range(0, 4_102_444_800_000_000).Draw(rt, "due")).UTC()
		zone := rapid.SampledFrom(zones).Draw(rt, "zone")
		var got time.Time
		err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `SELECT set_config('TimeZone', $1, true)`, zone); err != nil {
				return err
			}
			return tx.QueryRow(t.Context(), `SELECT scheduler.window_end($1, $2)`, due, window).Scan(&got)
		})
		if err != nil {
			rt.Fatal(err)
		}
		length, err := store.LengthOf(window)
		if err != nil {
			rt.Fatal(err)
		}
		if want := due.Add(length); !got.Equal(want) {
			rt.Errorf("%v after %v in %s: the database says %v, the daemon %v", window, due, zone, got.UTC(), want)
		}
	})
}

// Paused on 1 February with a window of a month, the occurrence is over after 30
// days, not after 28: until then there is nothing to revisit.
func TestPausedCampaignIsNotRevisitedBeforeItsWindowEnds(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, catch_up_window)
		VALUES ('n', 'hook', 'webhook', 2, $1, '1 month') RETURNING id`, loop(10))
	due := time.Date(2027, 2, 1, 9, 0, 0, 0, time.UTC)
	run(t, db, `DELETE FROM scheduler.campaign_changes`)
	run(t, db, `INSERT INTO scheduler.campaign_cursors (campaign_id, app_no, revision, active, next_due_at)
		SELECT id, app_no, revision, false, $2 FROM scheduler.campaigns WHERE id = $1`, id, due)
	for days, want := range map[int]int64{29: 0, 31: 1} {
		n, err := s.RevisitPaused(t.Context(), due.AddDate(0, 0, days), 10)
		if err != nil || n != want {
			t.Errorf("after %d days %d are revisited (%v), want %d", days, n, err, want)
		}
		run(t, db, `DELETE FROM scheduler.campaign_changes`)
	}
}
