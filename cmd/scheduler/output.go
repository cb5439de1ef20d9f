package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/plain"
)

// A choice is a flag that takes one of a few words.
type choice struct {
	value   string
	allowed []string
}

// String returns the word chosen.
func (c *choice) String() string { return c.value }

// Type is what the help shows for the value.
func (c *choice) Type() string { return strings.Join(c.allowed, "|") }

// Set refuses every other word.
func (c *choice) Set(word string) error {
	if !slices.Contains(c.allowed, word) {
		return fmt.Errorf("must be %s", strings.Join(c.allowed, " or "))
	}
	c.value = word
	return nil
}

// An outputFlag is --output.
type outputFlag struct{ choice }

func (o *outputFlag) json() bool { return o.value == "json" }

// addOutputFlag gives the command --output table|json.
func addOutputFlag(c *cobra.Command) *outputFlag {
	o := &outputFlag{choice{value: "table", allowed: []string{"table", "json"}}}
	c.Flags().VarP(o, "output", "o", "for people or for programs")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return o
}

// writeJSON writes v on one line. Texts keep their <, > and & as they are.
func (p *program) writeJSON(v any) error {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return p.printStyled(plain.JSON(b.String()))
}

// A table is rows of columns for people. It is not tabwriter's because that
// counts the bytes of colours as width.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) add(cells ...string) {
	for i, cell := range cells {
		cells[i] = plain.Line(cell)
	}
	t.rows = append(t.rows, cells)
}

func (t *table) write(p *program) error {
	widths := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], width(cell))
		}
	}
	var b strings.Builder
	b.WriteString(p.bold(line(t.header, widths)) + "\n")
	for _, row := range t.rows {
		b.WriteString(line(row, widths) + "\n")
	}
	return p.printStyled(b.String())
}

func line(cells []string, widths []int) string {
	var b strings.Builder
	for i, cell := range cells {
		b.WriteString(cell + strings.Repeat(" ", widths[i]-width(cell)+2))
	}
	return strings.TrimRight(b.String(), " ")
}

// print writes a text to the standard output. Much of it was written by others,
// so nothing of it commands the terminal; a value that must not pass for a line
// of ours goes through plain.Line before.
func (p *program) print(text string) error { return p.printStyled(plain.Text(text)) }

// printStyled is print for text with our own styles in it, whose values have gone
// through package plain.
func (p *program) printStyled(text string) error {
	if _, err := io.WriteString(p.stdout, text); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// bold marks a text on a terminal, and leaves it alone in a pipe, under
// NO_COLOR (no-color.org), and where the terminal says it can do nothing.
func (p *program) bold(text string) string {
	if !p.coloured() {
		return text
	}
	return "\x1b[1m" + text + "\x1b[0m"
}

func (p *program) coloured() bool { return p.getenv("NO_COLOR") == "" && p.terminal() }

// terminal says whether the output is a terminal that can do more than print.
func (p *program) terminal() bool {
	file, ok := p.stdout.(*os.File)
	if !ok || p.getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
