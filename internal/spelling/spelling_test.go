package spelling_test

import (
	"strings"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/spelling"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"title", "expired_seconds", "templateName", "template_id"}
	for _, c := range []struct{ wrote, want string }{
		{"titel", "title"},
		{"tittle", "title"},
		{"expiredSeconds", "expired_seconds"},
		{"Template-Name", "templateName"},
		{"templateID", "template_id"},
		{"xyz", ""},
		{"", ""},
		{strings.Repeat("title", 1<<20), ""},
	} {
		if got := spelling.Nearest(c.wrote, names); got != c.want {
			t.Errorf("%.20q: %q, want %q", c.wrote, got, c.want)
		}
	}
}

// The cases that tell NearestKey from Nearest; package store holds it to the
// database's own.
func TestNearestKey(t *testing.T) {
	t.Parallel()
	keys := []string{"fixedTime", "startTime", "endTime", "circleType", "circleValue", "time"}
	for _, c := range []struct{ wrote, want string }{
		{"FIXED_TIME", "fixedTime"},
		{"start-tmie", "startTime"},
		{"strtTme", "startTime"},
		{"tmie", ""}, // two steps, and one is allowed of four
		{"tim", "time"},
		{"end.time", "endTime"},
		{"ENDTİME", "endTime"}, // one step: no case outside ASCII
		{"", ""},
		{strings.Repeat("_", 21) + "time", ""},
	} {
		if got := spelling.NearestKey(c.wrote, keys); got != c.want {
			t.Errorf("%.30q: %q, want %q", c.wrote, got, c.want)
		}
	}
}
