package engine

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
)

// faults reports panics: each is counted, and the log has the stack of each kind
// once. The value of a panic may hold an author's text or a secret. So only its
// type is logged, except for errors of the runtime. faults is safe for concurrent
// use.
type faults struct {
	log     *slog.Logger
	metrics *Metrics

	mu   sync.Mutex
	seen map[[8]uintptr]bool
}

// silent reports nothing. It is for panics that are reported elsewhere.
var silent *faults

func newFaults(log *slog.Logger, m *Metrics) *faults {
	return &faults{log: log, metrics: m, seen: make(map[[8]uintptr]bool)}
}

// The places where a panic may be caught.
const (
	faultCompile = "compile"
	faultPlan    = "plan"
	faultBegin   = "begin"
	faultCall    = "call"
)

// caught reports a panic with the value r. It must be called by the deferred
// function that has recovered it.
func (f *faults) caught(ctx context.Context, where string, r any, about ...any) {
	if f == silent {
		return
	}
	f.metrics.Faults.WithLabelValues(where).Inc()
	var kind [8]uintptr
	runtime.Callers(3, kind[:]) // the frames of the panic, below this function and its caller
	f.mu.Lock()
	known := f.seen[kind]
	f.seen[kind] = true
	f.mu.Unlock()
	if known {
		return
	}
	f.log.ErrorContext(ctx, "a fault of this program", append([]any{"where", where, "panic", panicValue(r), "stack", string(debug.Stack())}, about...)...)
}

// panicValue returns the part of a panic's value that may be logged.
func panicValue(r any) string {
	if err, ok := r.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", r)
}

// unreadableRequest is why a campaign is rejected whose request made the program
// panic.
const unreadableRequest = "this program cannot read the request (a fault of the program)"

// guard returns compile without its panics: a campaign whose compilation panics
// counts as one that cannot be pushed. A row that could not be loaded is never
// compiled.
func (f *faults) guard(compile compileFunc) compileFunc {
	return func(c *store.Campaign) (m *dispatch.Message, problems []dispatch.Problem) {
		if c.Unreadable != "" {
			return nil, []dispatch.Problem{{Field: "campaign", Text: c.Unreadable}}
		}
		defer func() {
			if r := recover(); r != nil {
				f.caught(context.Background(), faultCompile, r, "campaign", c.ID, "revision", c.Revision)
				m, problems = nil, []dispatch.Problem{{Field: "request", Text: unreadableRequest}}
			}
		}()
		return compile(c)
	}
}
