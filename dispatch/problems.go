package dispatch

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Bounds of a list of problems. An author who made one mistake 20,000 times sees it
// in the first problems. The others would only fill the database and the log.
const (
	// MaxProblems is the number of problems of one request that are kept. Further
	// problems are counted.
	MaxProblems = 20
	// maxField and maxText bound a Problem's texts, and maxQuoted each text of the
	// author's that is quoted in one, in bytes.
	maxField  = 128
	maxText   = 400
	maxQuoted = 128
)

// Problems collects the problems of a request. It keeps the first MaxProblems and
// counts the others. The zero value is ready for use. It is not safe for concurrent
// use.
type Problems struct {
	list []Problem
	more int
}

// Add adds a problem of a field. Strings and byte slices in args are cut before they
// are formatted, so that the cost does not grow with their length.
func (p *Problems) Add(field, format string, args ...any) {
	if p.Full() {
		p.more++
		return
	}
	for i, a := range args {
		switch v := a.(type) {
		case string:
			args[i] = Clip(v, maxQuoted)
		case []byte:
			args[i] = Clip(string(v[:min(len(v), maxQuoted+utf8.UTFMax)]), maxQuoted)
		}
	}
	p.list = append(p.list, Problem{Field: Clip(field, maxField), Text: Clip(fmt.Sprintf(format, args...), maxText)})
}

// Full reports whether further problems are only counted. Their texts then need not
// be made.
func (p *Problems) Full() bool { return len(p.list) >= MaxProblems }

// Len returns how many problems were added.
func (p *Problems) Len() int { return len(p.list) + p.more }

// List returns the problems that were kept. If others were counted, a last entry
// says how many.
func (p *Problems) List() []Problem {
	if p.more == 0 {
		return p.list
	}
	return append(slices.Clip(p.list), Problem{Field: "request", Text: "… and " + grouped(p.more) + " more problems"})
}

// grouped writes a number with a comma for each thousand: 19,980.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Clip shortens s to at most limit bytes, the mark "…" included, without
// splitting a character.
func Clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const mark = "…"
	end := max(limit-len(mark), 0)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}
