package engine

import (
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// night is from 22:00 until 08:00 in UTC; at is an instant of its evening, and from 00:00
// on of the day after.
var night = strategy.NewQuietHours(22*time.Hour, 8*time.Hour, "UTC")

func at(clock string) time.Time {
	t, err := time.Parse("15:04:05", clock)
	if err != nil {
		panic(err)
	}
	t = t.AddDate(2026, 10, 28)
	if t.Hour() < 12 {
		t = t.AddDate(0, 0, 1)
	}
	return t
}

func TestLate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		quiet    strategy.QuietHours
		due, now string
		late     time.Duration
		held     bool
	}{
		{"no quiet hours", strategy.QuietHours{}, "23:00:00", "23:30:00", 30 * time.Minute, false},
		{"before them", night, "21:50:00", "21:55:00", 5 * time.Minute, false},
		{"a window that ends before them", night, "20:00:00", "21:30:00", 90 * time.Minute, false},
		{"overtaken by them", night, "21:50:00", "23:00:00", 0, false},
		{"overtaken by them, and over", night, "21:50:00", "08:00:00", 0, true},
		{"a window that ended before them, within", night, "20:00:00", "23:00:00", 3 * time.Hour, false},
		{"due within, within", night, "23:00:00", "02:00:00", 0, false},
		{"due within, and over", night, "23:00:00", "08:20:00", 20 * time.Minute, true},
		{"due as they end", night, "08:00:00", "08:20:00", 20 * time.Minute, false},
	} {
		got, held := late(c.quiet, at(c.due), time.Hour, at(c.now))
		if got != c.late || held != c.held {
			t.Errorf("%s: %v late, held %v; want %v, %v", c.name, got, held, c.late, c.held)
		}
	}
}

func TestExpired(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy, due, now, want string
	}{
		{"hold", "23:00:00", "23:00:00", ""},
		{"hold", "23:00:00", "09:00:00", ""},
		{"hold", "23:00:00", "09:00:01", "older than the catch-up window of 1h0m0s"},
		{"hold", "20:00:00", "21:00:01", "older than the catch-up window of 1h0m0s"},
		{"hold", "21:30:00", "08:59:59", ""},
		{"ignore", "23:00:00", "00:00:00", ""},
		{"ignore", "23:00:00", "00:00:01", "older than the catch-up window of 1h0m0s"},
		{"skip", "23:00:00", "22:59:59", ""},
		{"skip", "23:00:00", "23:00:00", store.QuietReason},
		{"skip", "23:00:00", "11:00:00", store.QuietReason},
		{"skip", "21:59:59", "23:00:00", ""},
	} {
		campaign := store.Campaign{QuietPolicy: c.policy, CatchUpWindow: time.Hour}
		if got := expired(&campaign, night, at(c.due), at(c.now)); got != c.want {
			t.Errorf("%s, due %s, at %s: %q, want %q", c.policy, c.due, c.now, got, c.want)
		}
	}
}

// A claimed call is held when quiet hours begin after its claim was asked for. Known hours
// that would have held the claim are old: the claim is newer.
func TestQuietHoursThatBeganAfterTheClaim(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, policy, asked, now string
		quiet                    strategy.QuietHours
		want                     bool
	}{
		{"none", "hold", "21:59:59", "22:00:00", strategy.QuietHours{}, false},
		{"still before them", "hold", "21:59:58", "21:59:59", night, false},
		{"they began", "hold", "21:59:59", "22:00:00", night, true},
		{"they began, and the campaign ignores them", "ignore", "21:59:59", "22:00:00", night, false},
		{"the claim found none any more", "hold", "22:00:00", "22:00:01", night, false},
		{"they are over", "hold", "21:59:59", "08:00:00", night, false},
	} {
		q := newQuietHours(nil, nil)
		q.known.Store(&map[int32]strategy.QuietHours{7: c.quiet})
		if got := q.began(&store.Campaign{AppNo: 7, QuietPolicy: c.policy}, at(c.asked), at(c.now)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// A delivery waits in the queue for the quiet hours that its own reading found. What the
// daemon read before may have been taken back since: the delivery would wait for an end
// that is hours away.
func TestADeliveryWaitsForQuietHoursOfItsReading(t *testing.T) {
	t.Parallel()
	const app = 7
	for name, c := range map[string]struct {
		policy string
		quiet  time.Duration // until their end, as the reading found it
		want   time.Duration
	}{
		"none":            {"hold", 0, 0},
		"not over":        {"hold", 2 * time.Hour, 2 * time.Hour},
		"campaign exempt": {"ignore", 2 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := newCompileCache(1, nil, nil, nil, nil)
			cache.put(&compiled{campaign: store.Campaign{ID: 1, AppNo: app, Revision: 1, QuietPolicy: c.policy}})
			s := newDeliveries(deliveriesParts{cache: cache, clock: new(Clock), quiet: newQuietHours(nil, nil)})
			all := strategy.NewQuietHours(time.Hour, time.Hour-time.Second, "UTC") // of nearly every moment
			s.quiet.known.Store(&map[int32]strategy.QuietHours{app: all})
			now := time.Now()
			quiet := map[int32]time.Time{}
			if c.quiet > 0 {
				quiet[app] = now.Add(c.quiet)
			}
			found := []store.WaitingDelivery{{ID: 1, AppNo: app, CampaignID: 1, Revision: 1, ReadyAt: now}}
			if err := s.enterSome(t.Context(), found, quiet); err != nil {
				t.Fatal(err)
			}
			next, ok := s.queue.next()
			if wait := next.Sub(now); !ok || (wait-c.want).Abs() > time.Minute {
				t.Errorf("queued: %v, to begin in %v, want %v", ok, wait, c.want)
			}
		})
	}
}
