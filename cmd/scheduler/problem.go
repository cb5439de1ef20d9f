package main

import (
	"fmt"
	"strings"

	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/internal/plain"
)

// A problem is one reason why a campaign would be refused.
type problem = judge.Problem

// refuse shows the problems of something and returns the error that ends the
// command with exit status 1.
func (p *program) refuse(what string, problems []problem, asJSON bool) error {
	if asJSON {
		if err := p.writeJSON(map[string][]problem{"problems": problems}); err != nil {
			return err
		}
		return errReported
	}
	return fmt.Errorf("%s has %s:\n%s", what, count(len(problems), "problem"), list(problems, "  "))
}

// list writes one problem a line.
func list(problems []problem, indent string) string {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = indent + plain.Line(p.Field+": "+p.Message)
	}
	return strings.Join(lines, "\n")
}
