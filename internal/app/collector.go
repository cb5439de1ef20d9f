package app

import (
	"os"
	"runtime/debug"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// RelaxCollector lets the heap grow to four times what is in use before it is
// collected, unless the environment's GOGC says otherwise. A daemon keeps little,
// some ten megabytes, and each call leaves garbage: collecting at twice as much,
// Go's default, takes a tenth of a call's processor time. Beyond memoryLimit, and
// what more calls under way than by default may take, it is collected as often as
// need be, unless the environment's GOMEMLIMIT says otherwise: large campaigns must
// not take four times what they need. A program calls it at its start, and again
// when dispatch.max_in_flight has changed.
func RelaxCollector(maxInFlight int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit + int64(max(maxInFlight-config.Default().Dispatch.MaxInFlight, 0))*engine.LightCall)
	}
}

// memoryLimit is below the 512 MiB that docs/operations.md states, by what Go does
// not count: the program itself, and what was freed and is not given back yet.
const memoryLimit = 384 << 20
