package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// read lets a clock read a database whose clock is ahead of this machine's.
func read(c *engine.Clock, ahead, trip time.Duration) (jump time.Duration) {
	asked := time.Now()
	time.Sleep(trip / 2)
	db := time.Now().Add(ahead)
	time.Sleep(trip - trip/2)
	return c.Set(db, asked, time.Now())
}

func near(t *testing.T, what string, got, want, within time.Duration) {
	t.Helper()
	if (got - want).Abs() > within {
		t.Errorf("%s: %v, want %v within %v", what, got, want, within)
	}
}

func TestClockTellsTheDatabasesTime(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{0, 7 * time.Minute, -7 * time.Minute, 48 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			c := &engine.Clock{}
			near(t, "before the first reading", time.Until(c.Now()), 0, 0)
			if jump := read(c, ahead, 4*time.Millisecond); jump != 0 {
				t.Errorf("the first reading is a jump by %v", jump)
			}
			time.Sleep(3 * time.Hour)
			near(t, "the time", time.Until(c.Now()), ahead, 0)
			near(t, "this machine's offset", c.Offset(), -ahead, 0)
			if c.Now().Location() != time.UTC {
				t.Error("not in UTC")
			}
		})
	}
}

func TestClockPrefersShortTrips(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &engine.Clock{}
		read(c, time.Minute, 2*time.Millisecond)
		asked := time.Now()
		time.Sleep(800 * time.Millisecond) // all of it on the way back
		if jump := c.Set(asked.Add(time.Minute), asked, time.Now()); jump != 0 {
			t.Errorf("a slow answer is a jump by %v", jump)
		}
		near(t, "the time after a slow answer", time.Until(c.Now()), time.Minute, 0)
	})
}

func TestClockFollowsJumps(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{time.Second, -time.Second, 5 * time.Minute, -5 * time.Minute, 365 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			c := &engine.Clock{}
			for range 5 {
				read(c, 0, time.Millisecond)
				time.Sleep(time.Second)
			}
			near(t, "the jump", read(c, by, 6*time.Millisecond), by, time.Millisecond)
			near(t, "the time after it", time.Until(c.Now()), by, time.Millisecond)
			near(t, "the jump back", read(c, 0, 6*time.Millisecond), -by, time.Millisecond)
			near(t, "the time after that", time.Until(c.Now()), 0, time.Millisecond)
		})
	}
}

// TestClockFollowsDrift lets the database's clock run fast or slow by up to 200
// ppm, as bad crystals do, with trips of any length.
func TestClockFollowsDrift(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		ppm := rapid.IntRange(-200, 200).Draw(rt, "ppm")
		trips := rapid.SliceOfN(rapid.IntRange(1, 40), 30, 30).Draw(rt, "trips in ms")
		synctest.Test(t, func(*testing.T) {
			c := &engine.Clock{}
			began := time.Now()
			ahead := func() time.Duration { return time.Since(began) * time.Duration(ppm) / 1e6 }
			for range 20 {
				for _, trip := range trips {
					if jump := read(c, ahead(), time.Duration(trip)*time.Millisecond); jump.Abs() >= 500*time.Millisecond {
						rt.Fatalf("drift is a jump by %v", jump)
					}
					time.Sleep(time.Second)
				}
			}
			if off := (time.Until(c.Now()) - ahead()).Abs(); off > 50*time.Millisecond {
				rt.Fatalf("off by %v after 10 minutes", off)
			}
		})
	})
}
