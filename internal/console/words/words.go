// Package words writes the console's texts in the reader's language. The key of
// a text is the text in English.
package words

import (
	"sync"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/message/catalog"
)

// languages that there are, the first for whoever reads none of them.
var languages = []language.Tag{language.English, language.SimplifiedChinese}

var (
	matcher = language.NewMatcher(languages)
	texts   = sync.OnceValue(newCatalog) // every command links this package, and few write such texts
)

func newCatalog() catalog.Catalog {
	b := catalog.NewBuilder(catalog.Fallback(language.English))
	for key, text := range chinese {
		if err := b.SetString(language.SimplifiedChinese, key, text); err != nil {
			panic("words: " + key + ": " + err.Error()) // a test reads every text
		}
	}
	return b
}

// A Printer writes texts in one language. It is safe for concurrent use.
type Printer struct {
	printer *message.Printer
	lang    string
}

// For chooses the language: the one that was chosen before, else by what the
// browser accepts.
func For(chosen, accepted string) Printer {
	_, i := language.MatchStrings(matcher, chosen, accepted)
	return newPrinter(languages[i])
}

func newPrinter(tag language.Tag) Printer {
	lang := "en"
	if tag == language.SimplifiedChinese {
		lang = "zh"
	}
	return Printer{message.NewPrinter(tag, message.Catalog(texts())), lang}
}

// Printers returns one for each language that there is.
func Printers() []Printer {
	out := make([]Printer, len(languages))
	for i, tag := range languages {
		out[i] = newPrinter(tag)
	}
	return out
}

// Lang is en or zh, as HTML names it.
func (p Printer) Lang() string { return p.lang }

// T writes the text of a key with its arguments. Give numbers that are names,
// such as ids, as strings: a number gets separators.
func (p Printer) T(key string, args ...any) string {
	return p.printer.Sprintf(message.Key(key, key), args...)
}
