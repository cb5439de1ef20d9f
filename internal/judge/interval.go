package judge

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/strategy"
)

// units are the words of an interval as psql prints and takes them. A month has
// no length of its own, so there is none.
var units = map[string]time.Duration{
	"second": time.Second, "sec": time.Second,
	"minute": time.Minute, "min": time.Minute,
	"hour": time.Hour,
	"day":  24 * time.Hour,
	"week": 7 * 24 * time.Hour,
}

// Interval reads a duration as Go writes it (1h30m) or as SQL does: 1 hour
// 30 minutes, 2 days, 01:30:00.
func Interval(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	var total time.Duration
	words := strings.Fields(text)
	for i := 0; i < len(words); i++ {
		if d, ok := clock(words[i]); ok {
			total += d
			continue
		}
		n, err := strconv.ParseUint(words[i], 10, 15)
		if err != nil || i+1 == len(words) {
			return 0, errNotInterval(text)
		}
		i++
		unit, ok := units[strings.TrimSuffix(words[i], "s")]
		if !ok {
			return 0, errNotInterval(text)
		}
		if n > uint64(strategy.MaxCatchUpWindow/unit) || total > strategy.MaxCatchUpWindow {
			return strategy.MaxCatchUpWindow + 1, nil // too long for whatever it is for, and soon for an int64
		}
		total += time.Duration(n) * unit
	}
	if len(words) == 0 {
		return 0, errNotInterval(text)
	}
	return total, nil
}

// clock reads HH:MM:SS, the form that SQL prints hours in.
func clock(word string) (time.Duration, bool) {
	parts := strings.Split(word, ":")
	if len(parts) != 3 {
		return 0, false
	}
	var total time.Duration
	for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second} {
		n, err := strconv.ParseUint(parts[i], 10, 16)
		if err != nil {
			return 0, false
		}
		total += time.Duration(n) * unit
	}
	return total, true
}

func errNotInterval(text string) error {
	return fmt.Errorf("must be an interval such as 1h30m or '1 hour', not %q", text)
}
