package app

import (
	"os"
	"runtime/debug"
)

// RelaxCollector lets the heap grow to four times what is in use before it is
// collected, unless the environment's GOGC says otherwise. A daemon keeps little,
// some ten megabytes, and each call leaves garbage: collecting at twice as much,
// Go's default, takes a tenth of a call's processor time. A program calls it at
// its start.
func RelaxCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
}
