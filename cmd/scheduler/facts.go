package main

import (
	"strings"

	"github.com/campaign-scheduler/scheduler/internal/plain"
)

// facts are lines of a name and a value, for one thing looked at closely.
type facts struct{ rows [][2]string }

// add adds a line, unless there is nothing to say.
func (f *facts) add(name, value string) {
	if value != "" {
		f.rows = append(f.rows, [2]string{name, plain.Text(value)})
	}
}

func (f *facts) write(p *program) error {
	widest := 0
	for _, r := range f.rows {
		widest = max(widest, width(r[0]))
	}
	var b strings.Builder
	for _, r := range f.rows {
		indent := strings.Repeat(" ", widest+2)
		name := r[0] + indent[width(r[0]):]
		b.WriteString(p.bold(strings.TrimRight(name, " ")) + name[len(strings.TrimRight(name, " ")):])
		b.WriteString(strings.ReplaceAll(r[1], "\n", "\n"+indent) + "\n")
	}
	return p.printStyled(b.String())
}
