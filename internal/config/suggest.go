package config

import (
	"fmt"

	"github.com/campaign-scheduler/scheduler/dispatch/spelling"
)

// didYouMean returns " (did you mean …?)" when one of the names is near to what
// was written, else nothing.
func didYouMean(written string, names []string) string {
	best, bestDistance := "", len(written)/3+2
	for _, name := range names {
		if d := spelling.Distance(written, name); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}
