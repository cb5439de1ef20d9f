//go:build linux

package chaos_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/chaos"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// The oracle ties a call to its occurrence by the message keys of the journal.
func TestKeysNameTheirOccurrence(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		campaign := rapid.Int64Range(1, 1<<40).Draw(t, "campaign")
		due := time.UnixMicro(rapid.Int64Range(1, 1<<52).Draw(t, "due"))
		keys := engine.Keys{Installation: rapid.StringMatching(`([0-9a-f]{10})?`).Draw(t, "installation")}
		key := keys.Message(campaign, due, rapid.String().Draw(t, "target"), rapid.StringMatching(`(k[0-9]{1,5})?`).Draw(t, "author"))
		if c, d, ok := chaos.ParseKey(key); !ok || c != campaign || d != due.UnixMicro() {
			t.Fatalf("%s is of campaign %d at %d, read %d at %d, %v", key, campaign, due.UnixMicro(), c, d, ok)
		}
	})
}

// What arrives shortly after the clock was set may have begun before.
func TestClockBesideAnother(t *testing.T) {
	t.Parallel()
	noon := time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)
	moments := []time.Time{noon, noon.Add(time.Minute), noon.Add(2 * time.Minute)}
	settings := []time.Duration{3 * time.Minute, 30 * time.Second, time.Hour}
	for _, c := range []struct {
		at, least, most time.Duration
	}{
		{-time.Minute, 0, 0},
		{time.Second, 3 * time.Minute, 3 * time.Minute},
		{time.Minute + 2*time.Second, 30 * time.Second, 3 * time.Minute},
		{time.Minute + 9*time.Second, 30 * time.Second, 30 * time.Second},
		{time.Hour, time.Hour, time.Hour},
	} {
		least, most := chaos.Ahead(moments, settings, noon.Add(c.at))
		if least != c.least || most != c.most {
			t.Errorf("at %s the clock was ahead by %s to %s, want %s to %s", c.at, least, most, c.least, c.most)
		}
	}
}
