package config

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/campaign-scheduler/scheduler/internal/spelling"
)

// A Problem is one thing wrong with the configuration.
type Problem struct {
	// File, Line and Column say where the value is. Line and Column start at 1. File
	// is empty when the value came from the environment or is missing.
	File         string
	Line, Column int
	// Key is the path of the setting, or the variable that set it. It is empty when
	// the file cannot be parsed.
	Key string
	// Text names the rule and the fix. It never holds a secret.
	Text string
	// Excerpt shows the line and marks the column.
	Excerpt string
}

// String returns the problem as the user sees it: one line, and the excerpt below
// if there is one.
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

// Problems is the error of Load: all problems, in the order of the file.
type Problems []Problem

// Error returns the problems, separated by newlines.
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

// crowded matches a line with more than one key, as in the flow style
// {a: 1, b: 2}. Such a line may hold a secret beside a harmless value.
var crowded = regexp.MustCompile(`:\s.*:(\s|$)|(^|[^$])\{`)

// excerpt returns the line of o with a mark below the column. Unless o.shown, only
// the key is shown, since the value of an unknown or malformed key may well be a
// secret.
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

// didYouMean returns " (did you mean …?)" with the nearest name, or "" when no name
// is near to the written one.
func didYouMean(written string, names []string) string {
	if near := spelling.Nearest(written, names); near != "" {
		return fmt.Sprintf(" (did you mean %s?)", near)
	}
	return ""
}
