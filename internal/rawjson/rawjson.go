// Package rawjson takes JSON apart. It keeps the order of an object's members,
// names that occur more than once, and each value as it was written, all of
// which encoding/json loses. It copies only names, and never more than its
// input.
//
// Its functions take valid JSON, with or without spaces around it, unless they
// say otherwise. [Check] tells whether a text is valid. They are safe for
// concurrent use.
package rawjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"unicode/utf8"
)

// Text is JSON text, or a part of one.
type Text interface{ ~string | ~[]byte }

// MaxDepth is how deep lists and objects may be nested for [Check]. No request
// is nearly as deep. Callers that descend read each level anew, so the bound
// keeps their time proportional to the length of the text.
const MaxDepth = 32

// Reasons of [Check]. They are worded to follow the name of a field.
var (
	ErrSyntax   = errors.New("is not JSON")
	ErrTrailing = errors.New("has text after the JSON value")
	ErrTooDeep  = errors.New("is nested too deeply")
)

// Check takes any bytes. It returns nil when they are one JSON value, with
// nothing after it, that is at most MaxDepth deep; else one of the three errors
// above.
func Check(raw []byte) error {
	switch {
	case json.Valid(raw):
		if tooDeep(raw) {
			return ErrTooDeep
		}
		return nil
	case json.NewDecoder(bytes.NewReader(raw)).Decode(new(json.RawMessage)) == nil:
		return ErrTrailing
	default:
		return ErrSyntax
	}
}

func tooDeep(raw []byte) bool {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = EndOfString(raw, i) - 1
		case '{', '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// A Kind is the type of a JSON value.
type Kind uint8

// The kinds. Invalid is the kind of an empty text.
const (
	Invalid Kind = iota
	Null
	Bool
	Number
	String
	List
	Object
)

// String names the kind for an author, to follow "must be".
func (k Kind) String() string {
	return [...]string{"invalid", "null", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// KindOf returns the kind of a value. It takes any text and looks only at the
// first byte after spaces. A text of no other kind counts as a number.
func KindOf[T Text](raw T) Kind {
	i := skipSpace(raw, 0)
	if i == len(raw) {
		return Invalid
	}
	switch raw[i] {
	case '"':
		return String
	case '{':
		return Object
	case '[':
		return List
	case 't', 'f':
		return Bool
	case 'n':
		return Null
	}
	return Number
}

// Members yields the names and values of an object, in the order and as often as
// they are written. Values have no spaces around them and share the object's
// memory.
func Members[T Text](object T) iter.Seq2[string, T] {
	return func(yield func(name string, value T) bool) {
		i, more := firstItem(object)
		for ; more; i, more = nextItem(object, i) {
			end := EndOfString(object, i)
			name, _ := Unquote(object[i:end])
			i = skipSpace(object, skipSpace(object, end)+1) // past the colon
			end = endOfValue(object, i)
			if !yield(name, object[i:end]) {
				return
			}
			i = end
		}
	}
}

// Elements yields the values of a list. They have no spaces around them and share
// the list's memory.
func Elements[T Text](list T) iter.Seq[T] {
	return func(yield func(T) bool) {
		i, more := firstItem(list)
		for ; more; i, more = nextItem(list, i) {
			end := endOfValue(list, i)
			if !yield(list[i:end]) {
				return
			}
			i = end
		}
	}
}

// firstItem returns the index of the first item of an object or a list; more is
// false when it is empty.
func firstItem[T Text](text T) (first int, more bool) {
	return nextItem(text, skipSpace(text, 0)+1)
}

// nextItem returns the index of the item after index i, which is the end of the
// item before; more is false after the last one.
func nextItem[T Text](text T, i int) (next int, more bool) {
	i = skipSpace(text, i)
	if text[i] == ',' {
		i = skipSpace(text, i+1)
	}
	return i, text[i] != '}' && text[i] != ']'
}

// skipSpace returns the index of the first byte from i on that is no space.
func skipSpace[T Text](text T, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r') {
		i++
	}
	return i
}

// EndOfString returns the index after the string that begins at start, or the
// text's length when the string does not end.
func EndOfString[T Text](text T, start int) int {
	for i := start + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// endOfValue returns the index after the value that begins at start, in an
// object or a list.
func endOfValue[T Text](text T, start int) int {
	depth := 0
	for i := start; ; i++ {
		switch text[i] {
		case '"':
			i = EndOfString(text, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // this bracket closes the list or object around the value
			}
			depth--
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
}

// Unquote returns the text of a string without spaces around it; ok is false for
// a value of another kind. Bytes that are not UTF-8 become U+FFFD.
func Unquote[T Text](raw T) (text string, ok bool) {
	if raw[0] != '"' {
		return "", false
	}
	if inner := string(raw[1 : len(raw)-1]); strings.IndexByte(inner, '\\') < 0 && utf8.ValidString(inner) {
		return inner, true // as most are
	}
	var unescaped string // text itself would be allocated at each call
	err := json.Unmarshal([]byte(raw), &unescaped)
	return unescaped, err == nil
}

// AppendQuoted appends any text as a JSON string, as JavaScript's JSON.stringify
// writes it: with only the escapes that JSON demands. encoding/json always
// escapes U+2028 and U+2029 as well.
func AppendQuoted(b []byte, text string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c >= ' ':
			b = utf8.AppendRune(b, c)
		case strings.ContainsRune("\b\f\n\r\t", c):
			b = append(b, '\\', "bfnrt"[strings.IndexRune("\b\f\n\r\t", c)])
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(b, '"')
}
