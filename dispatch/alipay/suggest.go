package alipay

import (
	"fmt"
	"strings"

	"github.com/campaign-scheduler/scheduler/dispatch/spelling"
)

// suggest returns a sentence that names the word nearest to what the author
// wrote, or nothing when none is near.
func suggest(wrote string, words []string) string {
	best, bestDistance := "", 1+max(1, len(wrote)/3)
	for _, w := range words {
		if d := spelling.Distance(plain(wrote), plain(w)); d < bestDistance {
			best, bestDistance = w, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// plain strips what the spellings of one word differ by: msgType, msg-type.
func plain(word string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(word))
}
