package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/plain"
	"github.com/campaign-scheduler/scheduler/store"
)

// The exit statuses, as the root command's help documents them.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// errReported ends a command with exitFailed after it has said all there is to
// say on standard output.
var errReported = errors.New("problems were found")

// A usageError is a command line that cannot be meant.
type usageError string

func (e usageError) Error() string { return string(e) }

// report prints the error once, to standard error, and returns the exit status.
func (p *program) report(err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errReported) {
		return exitFailed
	}
	if _, usage := errors.AsType[usageError](err); usage || !p.running {
		p.complain(err.Error() + "\nRun with --help to see what is possible.")
		return exitUsage
	}
	if problems, ok := errors.AsType[config.Problems](err); ok {
		p.complain(fmt.Sprintf("the configuration has %s:\n%s", count(len(problems), "problem"), problems))
		return exitFailed
	}
	if store.IsDenied(err) {
		p.complain(err.Error() + "\nThe database login has not the right: an operator's is in scheduler_admin, a daemon's in scheduler_daemon.")
		return exitFailed
	}
	p.complain(err.Error())
	return exitFailed
}

func (p *program) complain(text string) {
	_, _ = fmt.Fprintln(p.stderr, "scheduler: "+plain.Text(strings.TrimSpace(text)))
}

// count writes a number with its noun: "1 problem", "2 problems".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
