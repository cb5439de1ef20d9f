//go:build linux

package chaos

import (
	"testing"
	"time"
)

// What arrives shortly after the clock was set may have begun before.
func TestClockBesideAnother(t *testing.T) {
	t.Parallel()
	noon := time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)
	set := &clock{history: []setting{
		{noon, 3 * time.Minute},
		{noon.Add(time.Minute), 30 * time.Second},
		{noon.Add(2 * time.Minute), time.Hour},
	}}
	for _, c := range []struct {
		at, least, most time.Duration
	}{
		{-time.Minute, 0, 0},
		{time.Second, 3 * time.Minute, 3 * time.Minute},
		{time.Minute + 2*time.Second, 30 * time.Second, 3 * time.Minute},
		{time.Minute + 9*time.Second, 30 * time.Second, 30 * time.Second},
		{time.Hour, time.Hour, time.Hour},
	} {
		least, most := set.ahead(noon.Add(c.at))
		if least != c.least || most != c.most {
			t.Errorf("at %s the clock was ahead by %s to %s, want %s to %s", c.at, least, most, c.least, c.most)
		}
	}
}

// A clock that cannot be laid over the standard library moves nothing.
func TestWallClockFitsTheStandardLibrary(t *testing.T) {
	t.Parallel()
	edits, err := wallEdits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		fits(t, "wall clock", e.File, e)
	}
}
