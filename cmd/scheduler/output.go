package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/internal/plain"
)

// A choice is a flag that takes one of a few words.
type choice struct {
	value   string
	allowed []string
}

// String returns the word chosen.
func (c *choice) String() string { return c.value }

// Type returns the word that the help shows for the value.
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

// A table is rows of columns for people. It is not written by text/tabwriter, which
// counts the codes of colours as width.
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
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
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
		b.WriteString(cell + strings.Repeat(" ", widths[i]-runewidth.StringWidth(cell)+2))
	}
	return strings.TrimRight(b.String(), " ")
}

// print writes a text to the standard output. It removes control sequences, since
// much of the text was written by others. The caller puts a value through
// plain.Line where it could look like a line of this program.
func (p *program) print(text string) error { return p.printStyled(plain.Text(text)) }

// printStyled is print for a text with styles of this program. The caller has put
// every value in it through package plain.
func (p *program) printStyled(text string) error {
	if _, err := io.WriteString(p.stdout, text); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// bold makes a text bold on a terminal. It changes nothing in a pipe, under
// NO_COLOR (no-color.org), and on a terminal without styles.
func (p *program) bold(text string) string {
	if !p.coloured() {
		return text
	}
	return "\x1b[1m" + text + "\x1b[0m"
}

func (p *program) coloured() bool { return p.getenv("NO_COLOR") == "" && p.terminal() }

// terminal reports whether the output is a terminal with styles and cursor movement.
func (p *program) terminal() bool {
	file, ok := p.stdout.(*os.File)
	if !ok || p.getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// appName writes an app as one word.
func appName(appID, workspaceID string) string {
	if workspaceID == "" {
		return appID
	}
	return appID + "/" + workspaceID
}

// campaignName writes a campaign's number and, when it is still there, its name.
func campaignName(id int64, name string) string {
	switch {
	case id == 0:
		return ""
	case name == "":
		return strconv.FormatInt(id, 10)
	}
	return fmt.Sprintf("%d %s", id, runewidth.Truncate(name, 32, "…"))
}

// number writes an id, and "" for 0.
func number(id int64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatInt(id, 10)
}

// words are the meanings of the short reasons of a call's outcome. quota is also the
// reason for which a task waits. Any other stored reason is a sentence already.
var words = map[string]string{
	"connect":         "no connection to the push API",
	"throttled":       "the push API limits the rate",
	"quota":           "the weekly quota is used up",
	"waits for quota": "waits until the weekly quota frees up",
	"refused":         "refused by the push API",
	"auth":            "the push API refused the signature or the credentials",
	"invalid":         "the request cannot be pushed",
	"timeout":         "no answer in time; it may have been pushed",
	"cut":             "the connection broke before the answer; it may have been pushed",
	"cancelled":       "given up before it was sent",
	"server error":    "the push API failed; it may have been pushed",
	"redirect":        "the push API's address redirects, which is not followed",
	"bad answer":      "the answer cannot be read; it may have been pushed",
	"bad signature":   "the answer's signature is wrong; it may have been pushed",
}

// tooLate is the start of the reason of a task that was given up after attempts.
const tooLate = "not sent within the catch-up window: "

// reasonInWords writes a stored reason for people. A stored reason has the form
// "reason", "reason: code" or "reason: code: message". Only its first part is
// replaced.
func reasonInWords(reason string) string {
	if last, ok := strings.CutPrefix(reason, tooLate); ok {
		return tooLate + reasonInWords(last)
	}
	head, rest, more := strings.Cut(reason, ": ")
	text, known := words[head]
	switch {
	case !known:
		return reason
	case !more:
		return text
	}
	return text + " (" + rest + ")"
}

// facts are lines of a name and a value that describe one thing.
type facts struct{ rows [][2]string }

// add adds a line, unless the value is empty.
func (f *facts) add(name, value string) {
	if value != "" {
		f.rows = append(f.rows, [2]string{name, plain.Text(value)})
	}
}

func (f *facts) write(p *program) error {
	widest := 0
	for _, r := range f.rows {
		widest = max(widest, runewidth.StringWidth(r[0]))
	}
	var b strings.Builder
	for _, r := range f.rows {
		indent := strings.Repeat(" ", widest+2)
		name := r[0] + indent[runewidth.StringWidth(r[0]):]
		b.WriteString(p.bold(strings.TrimRight(name, " ")) + name[len(strings.TrimRight(name, " ")):])
		b.WriteString(strings.ReplaceAll(r[1], "\n", "\n"+indent) + "\n")
	}
	return p.printStyled(b.String())
}

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
