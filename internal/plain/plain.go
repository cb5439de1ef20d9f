// Package plain makes what others wrote (names, notes, reasons, answers) safe to
// show: on a terminal, which would obey it, in a probe's body, and in a
// spreadsheet, which would run it.
package plain

import (
	"fmt"
	"strings"
	"unicode"
)

// Text replaces what would command a terminal or turn the reading direction.
// Lines stay lines.
func Text(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && commands(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// Line is Text on one line, so that no part of it passes for another line: for
// every value that stands in a line of ours.
func Line(text string) string { return Text(lineEnds.Replace(text)) }

// lineEnds puts the lines of a text into one. The database's driver indents those
// after the first with a tab.
var lineEnds = strings.NewReplacer("\n\t", " ", "\n", " ")

// JSON escapes what Text replaces, in a document that is JSON already: its
// encoder leaves some of it as it is.
func JSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r != '\n' && commands(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// commands says whether a rune is obeyed rather than shown. Line and paragraph
// separators end a line for some readers.
func commands(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// Cell is a text that a spreadsheet takes for text: what it would take for a
// formula gets an apostrophe in front, as OWASP advises.
func Cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
