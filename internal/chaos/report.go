//go:build linux

package chaos

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// A Report holds the findings and the figures of a run. It is safe for concurrent use.
type Report struct {
	mu         sync.Mutex
	counts     map[string]int
	violations map[string][]string // by promise
	unjudged   map[string]string   // promises that could not be judged, and why
	notes      []string
	excuses    []span
}

// A span is a stretch of time.
type span struct{ from, to time.Time }

// The promises that mutants are made to break.
const (
	decided       = "every occurrence is decided"
	twice         = "nothing is pushed twice"
	recorded      = "what was accepted is recorded"
	early         = "nothing is pushed early"
	quota         = "no quota is exceeded"
	afterChange   = "nothing begins after the commit that forbids it"
	afterDecision = "nothing is pushed that was decided"
	verified      = "scheduler verify is clean"
	inFlight      = "no more is begun than the app may have in flight"
	lost          = "what a kill leaves unknown was under way"
	bounded       = "no statement goes on for all that there is"
	neighbours    = "one app's large audience delays no other app"
	rated         = "no app is called faster than it may be"
	spread        = "no delivery begins before its part of the spread"
	agrees        = "a decision agrees with its deliveries"
	once          = "an occurrence is decided once"
	onePause      = "one throttled call stops an app for no longer than its pause"
	certain       = "resend_unknown pushes until an answer is certain"
	capped        = "no app is over its cap"
	hushed        = "no call begins in quiet hours"
	everything    = "all that the record tells"
)

// maxExamples bounds how many cases of one broken promise are kept.
const maxExamples = 5

func newReport() *Report {
	return &Report{counts: make(map[string]int), violations: make(map[string][]string), unjudged: make(map[string]string)}
}

func (r *Report) count(what string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what] += n
}

func (r *Report) counted(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[what]
}

// excuse marks a time in which calls may arrive later than they were allowed to
// begin: the network held them back, or their process was frozen.
func (r *Report) excuse(from, to time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.excuses = append(r.excuses, span{from, to})
}

func (r *Report) excused(at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.excuses, func(s span) bool { return at.After(s.from) && at.Before(s.to) })
}

// note adds a line to the figures.
func (r *Report) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// violate adds a case of a broken promise.
func (r *Report) violate(promise, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts["violations"]++
	list := append(r.violations[promise], "")
	if len(list) <= maxExamples {
		list[len(list)-1] = fmt.Sprintf(format, args...)
	}
	r.violations[promise] = list
}

// cannotJudge notes that this run proves nothing about a promise, and why.
func (r *Report) cannotJudge(promise, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unjudged[promise] = fmt.Sprintf(format, args...)
}

// Unjudged returns the promises about which the run proves nothing, with the reason.
func (r *Report) Unjudged() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.unjudged)
}

// Broken lists the promises that did not hold.
func (r *Report) Broken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.violations))
}

// Write prints the figures and then the findings.
func (r *Report) Write(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(r.counts)) {
		fmt.Fprintf(w, "  %-34s %8d\n", what, r.counts[what])
	}
	for _, n := range r.notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
	for _, promise := range slices.Sorted(maps.Keys(r.violations)) {
		list := r.violations[promise]
		fmt.Fprintf(w, "\nBROKEN %s: %d times\n", promise, len(list))
		for _, example := range list[:min(len(list), maxExamples)] {
			fmt.Fprintf(w, "  - %s\n", example)
		}
	}
	for _, promise := range slices.Sorted(maps.Keys(r.unjudged)) {
		fmt.Fprintf(w, "\nNOT JUDGED %s: %s\n", promise, r.unjudged[promise])
	}
}
