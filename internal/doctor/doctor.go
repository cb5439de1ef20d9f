// Package doctor examines an installation: its configuration, its database, its
// credentials, the way to the push APIs, and the work that waits for somebody.
// It changes nothing and sends nothing.
package doctor

import (
	"context"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

// A Grade says how bad something is.
type Grade string

// The grades. Attention is what works, but that somebody should look at.
const (
	OK        Grade = "ok"
	Attention Grade = "attention"
	Wrong     Grade = "wrong"
)

// A Check is one thing that was examined.
type Check struct {
	Name  string `json:"check"`
	Grade Grade  `json:"grade"`
	Found string `json:"found"`
	ToDo  string `json:"to_do"` // empty: nothing
}

// Options say what to examine. Now is this machine's clock.
type Options struct {
	Config      *config.Config
	Adapters    []dispatch.Adapter
	DatabaseURL string // may hold a password, which is never shown
	Now         func() time.Time
	// Timeout bounds each attempt to reach something; zero means 5 s.
	Timeout time.Duration
}

// An examination collects checks.
type examination struct {
	Options
	checks []Check
}

// Examine looks at everything and returns what it found, in the order in which
// it should be fixed: the configuration first.
func Examine(ctx context.Context, o Options) []Check {
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	e := &examination{Options: o}
	e.configuration()
	e.database(ctx)
	e.apps(ctx)
	e.api(ctx)
	e.console(ctx)
	return e.checks
}

func (e *examination) note(name string, grade Grade, found, toDo string) {
	e.checks = append(e.checks, Check{Name: name, Grade: grade, Found: found, ToDo: toDo})
}

func (e *examination) ok(name, found string)              { e.note(name, OK, found, "") }
func (e *examination) attention(name, found, toDo string) { e.note(name, Attention, found, toDo) }
func (e *examination) wrong(name, found, toDo string)     { e.note(name, Wrong, found, toDo) }
