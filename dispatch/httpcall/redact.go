package httpcall

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// redacted stands where a secret was.
const redacted = "[redacted]"

// maxCode bounds the provider's codes and ids, in bytes.
const maxCode = 128

// A Redactor makes the texts of outcomes fit to be stored and shown: no secret,
// no control characters, no more than they may hold. The zero value knows no
// secrets.
type Redactor struct{ secrets *strings.Replacer }

// NewRedactor returns a Redactor of secrets. Empty ones are ignored.
func NewRedactor(secrets ...string) Redactor {
	// The longest first: one secret may begin with another.
	secrets = slices.SortedFunc(slices.Values(secrets), func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range secrets {
		if s != "" {
			pairs = append(pairs, s, redacted)
		}
	}
	if pairs == nil {
		return Redactor{}
	}
	return Redactor{secrets: strings.NewReplacer(pairs...)}
}

// Outcome returns o with its texts made fit.
func (r Redactor) Outcome(o dispatch.Outcome) dispatch.Outcome {
	o.Code = r.clean(o.Code, maxCode)
	o.Message = r.clean(o.Message, dispatch.MaxMessage)
	o.RequestID = r.clean(o.RequestID, maxCode)
	o.MessageID = r.clean(o.MessageID, maxCode)
	return o
}

// clean removes secrets before it cuts, since a cut could leave half of one.
func (r Redactor) clean(s string, limit int) string {
	if r.secrets != nil {
		s = r.secrets.Replace(s)
	}
	return cut(strings.Map(printable, strings.ToValidUTF8(s, "\uFFFD")), limit)
}

func printable(c rune) rune {
	if unicode.IsControl(c) {
		return ' '
	}
	return c
}

// cut shortens s to at most limit bytes without splitting a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
