package forecast

import (
	"time"

	"github.com/campaign-scheduler/scheduler/strategy"
)

// QuietNote says what quiet hours do to an occurrence, by the quiet_policy of its
// campaign; zone is the one that the words name times in. Empty: nothing.
func QuietNote(q strategy.QuietHours, policy string, due time.Time, zone string) string {
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
