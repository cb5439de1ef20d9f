package forecast

import (
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/strategy"
)

// WithQuietNote adds to the note of an occurrence what quiet hours do to it, by the
// quiet_policy of its campaign; zone is the one that the words name times in.
func WithQuietNote(note string, q strategy.QuietHours, policy string, due time.Time, zone string) string {
	if quiet := quietNote(q, policy, due, zone); quiet != "" {
		return strings.TrimPrefix(note+"; "+quiet, "; ")
	}
	return note
}

func quietNote(q strategy.QuietHours, policy string, due time.Time, zone string) string {
	end := q.End(due)
	switch {
	case end.IsZero() || policy == "ignore":
		return ""
	case policy == "skip":
		return "left out: quiet hours"
	}
	if at, err := time.LoadLocation(zone); err == nil {
		end = end.In(at)
	}
	return "quiet hours: held until " + end.Format("2006-01-02 15:04:05")
}
