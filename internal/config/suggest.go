package config

import (
	"fmt"

	"github.com/campaign-scheduler/scheduler/dispatch/spelling"
)

// didYouMean returns " (did you mean …?)" when one of the names is near to what
// was written, else nothing.
func didYouMean(written string, names []string) string {
	if near := spelling.Nearest(written, names); near != "" {
		return fmt.Sprintf(" (did you mean %s?)", near)
	}
	return ""
}
