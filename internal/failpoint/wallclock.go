//go:build wallclock

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"time"
	_ "unsafe" // for go:linkname
)

// wallAhead is how many seconds this process's wall clock is ahead of the
// machine's. The chaos harness lays it over the standard library's package time
// when it builds a scheduler with the tag "wallclock".
//
//go:linkname wallAhead time.wallAhead
var wallAhead int64

// The file that CHAOS_CLOCK names holds the seconds, and may change at any time.
func init() {
	file := os.Getenv("CHAOS_CLOCK")
	if file == "" {
		return
	}
	read := func() {
		text, err := os.ReadFile(file)
		if n, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil {
			wallAhead = n
		}
	}
	read()
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			read()
		}
	}()
}
