package config

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/campaign-scheduler/scheduler/internal/spelling"
)

// A Problem is one thing wrong with the configuration.
type Problem struct {
	// File, Line and Column (both from 1) say where; File is empty when the
	// value came from the environment or is missing altogether.
	File         string
	Line, Column int
	// Key is the setting's path, or the variable that set it; empty when the
	// text as a whole cannot be read.
	Key string
	// Text names the rule and the fix. It never holds a secret.
	Text string
	// Excerpt shows the line and points at the column.
	Excerpt string
}

// String returns the problem as the user sees it, on one line or with the
// excerpt below.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	if p.Excerpt != "" {
		b.WriteString("\n" + p.Excerpt)
	}
	return b.String()
}

// Problems is the error of Load: everything wrong, in the order of the file.
type Problems []Problem

// Error lists the problems, one below the other.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// An origin says where a value came from. The zero origin is a default.
type origin struct {
	env          string
	line, column int
	// shown says that the value may be seen in an excerpt.
	shown bool
}

// keyPart matches a line up to the colon of its key.
var keyPart = regexp.MustCompile(`^\s*(- )*\s*["']?[A-Za-z_][\w.\-]*["']?:`)

// crowded matches a line with more than one key, as the flow style {a: 1, b: 2}
// writes them: beside a harmless value there may stand a secret one.
var crowded = regexp.MustCompile(`:\s.*:(\s|$)|(^|[^$])\{`)

// excerpt returns the line of o with a mark below the column. Unless the value
// may be seen only the key is shown, since what stands beside an unknown or
// broken key is as likely as not a secret.
func excerpt(lines []string, o origin) string {
	if o.line < 1 || o.line > len(lines) {
		return ""
	}
	text := strings.ReplaceAll(lines[o.line-1], "\t", " ")
	if !o.shown || crowded.MatchString(text) {
		key := keyPart.FindString(text)
		if key == "" {
			return ""
		}
		if rest := strings.TrimSpace(text[len(key):]); rest != "" {
			key += " …"
		}
		text = key
	}
	number := fmt.Sprintf("%5d | ", o.line)
	out := number + text
	if o.column >= 1 && o.column <= len([]rune(text)) {
		out += "\n" + strings.Repeat(" ", len(number)-2) + "| " + strings.Repeat(" ", o.column-1) + "^"
	}
	return out
}

// didYouMean returns " (did you mean …?)" when one of the names is near to what
// was written, else nothing.
func didYouMean(written string, names []string) string {
	if near := spelling.Nearest(written, names); near != "" {
		return fmt.Sprintf(" (did you mean %s?)", near)
	}
	return ""
}
