// Package plain makes texts of others (names, notes, reasons, answers) safe to
// show: on a terminal, which would obey control sequences, in a probe's body,
// and in a spreadsheet, which would run formulas.
package plain

import (
	"fmt"
	"strings"
	"unicode"
)

// Text replaces characters that would command a terminal or turn the reading
// direction. Lines stay lines.
func Text(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && commands(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// Line is Text on one line, so that no part of it looks like another line. Use
// it for every value within a line of this program.
func Line(text string) string { return Text(lineEnds.Replace(text)) }

// lineEnds puts the lines of a text into one. The database's driver indents those
// after the first with a tab.
var lineEnds = strings.NewReplacer("\n\t", " ", "\n", " ")

// JSON escapes the characters that Text replaces, in a document that is JSON
// already. JSON's encoder leaves some of them as they are.
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

// commands says whether a rune is a command, and not shown. Line and paragraph
// separators end a line for some readers.
func commands(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// Cell returns a text that a spreadsheet shows as text. A text that would be a
// formula gets an apostrophe in front, as OWASP advises.
func Cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
