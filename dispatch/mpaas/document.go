package mpaas

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// A member is one name and value of a JSON object.
type member struct {
	name string
	raw  json.RawMessage
}

var (
	errNotObject = errors.New("must be a JSON object")
	errTrailing  = errors.New("has text after the JSON object")
	errTooDeep   = errors.New("is nested too deeply")
)

// parseObject reads one JSON object and nothing after it. It keeps the order and
// the repetition of names, both of which encoding/json would lose. The members'
// values share raw's memory.
func parseObject(raw []byte) ([]member, error) {
	switch {
	case len(raw) == 0: // as most targets' values are, of which each call has many
		return nil, errNotObject
	case !json.Valid(raw):
		if first, _ := firstValue(raw); len(first) > 0 && first[0] == '{' {
			return nil, errTrailing
		}
		return nil, errNotObject
	}
	raw = raw[skipSpace(raw, 0):]
	switch {
	case raw[0] != '{':
		return nil, errNotObject
	case tooDeep(raw):
		return nil, errTooDeep
	}
	return members(raw), nil
}

// maxDepth is far deeper than any request is. Each level is read anew, so that
// the cost grows with the depth.
const maxDepth = 32

// tooDeep reports whether lists and objects of a valid JSON text stand in each
// other more than maxDepth deep.
func tooDeep(raw []byte) bool {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = endOfString(raw, i) - 1
		case '{', '[':
			if depth++; depth > maxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// members takes a JSON object apart that is known to be valid and begins raw.
func members(raw []byte) []member {
	list := make([]member, 0, 8) // as most have fewer
	for i, more := nextItem(raw, 1); more; i, more = nextItem(raw, i) {
		end := endOfString(raw, i)
		m := member{}
		m.name, _ = asString(raw[i:end])
		i = skipSpace(raw, skipSpace(raw, end)+1) // past the colon
		end = endOfValue(raw, i)
		m.raw, i = raw[i:end:end], end
		list = append(list, m)
	}
	return list
}

// elements takes a JSON list apart that is known to be valid and begins raw. They
// share raw's memory.
func elements(raw []byte) []json.RawMessage {
	var list []json.RawMessage
	for i, more := nextItem(raw, 1); more; i, more = nextItem(raw, i) {
		end := endOfValue(raw, i)
		list = append(list, raw[i:end:end])
		i = end
	}
	return list
}

// nextItem returns the index of the item after i, of an object or a list that is
// valid JSON; more is false at its end.
func nextItem(raw []byte, i int) (next int, more bool) {
	i = skipSpace(raw, i)
	if raw[i] == ',' {
		i = skipSpace(raw, i+1)
	}
	return i, raw[i] != '}' && raw[i] != ']'
}

// skipSpace returns the index of the first byte from i on that is no space.
func skipSpace(raw []byte, i int) int {
	for raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\n' || raw[i] == '\r' {
		i++
	}
	return i
}

// endOfValue returns the index after the value that begins at start, of an
// object or a list that is valid JSON.
func endOfValue(raw []byte, start int) int {
	depth := 0
	for i := start; ; i++ {
		switch raw[i] {
		case '"':
			i = endOfString(raw, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
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

func firstValue(raw []byte) (v json.RawMessage, err error) {
	err = json.NewDecoder(bytes.NewReader(raw)).Decode(&v)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	return v, err
}

// repeated returns the names that occur more than once.
func repeated(members []member) []string {
	var again []string
	seen := make(map[string]int, len(members))
	for _, m := range members {
		if seen[m.name]++; seen[m.name] == 2 {
			again = append(again, m.name)
		}
	}
	return again
}

// typeOf names a JSON value's type for people.
func typeOf(raw json.RawMessage) string {
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

// asString returns a JSON string's text.
func asString(raw json.RawMessage) (string, bool) {
	if raw[0] != '"' {
		return "", false
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner), true // as most are
	}
	var s string
	return s, json.Unmarshal(raw, &s) == nil
}

// compact returns raw without the spaces between its tokens.
func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return string(raw) // cannot be: every raw value here was parsed before
	}
	return b.String()
}

// sorted writes members as a JSON object with its names sorted.
func sorted(members []member) string {
	members = slices.SortedFunc(slices.Values(members), func(a, b member) int { return strings.Compare(a.name, b.name) })
	b := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, m.name), ':')
		b = append(b, compact(m.raw)...)
	}
	return string(append(b, '}'))
}
