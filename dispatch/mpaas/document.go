package mpaas

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
)

// A member is one name and value of a JSON object.
type member struct {
	name string
	raw  json.RawMessage
}

var (
	errNotObject = errors.New("must be a JSON object")
	errTrailing  = errors.New("has text after the JSON object")
)

// parseObject reads one JSON object and nothing after it. It keeps the order and
// the repetition of names, both of which encoding/json would lose.
func parseObject(raw []byte) ([]member, error) {
	if !json.Valid(raw) {
		if first, _ := firstValue(raw); len(first) > 0 && first[0] == '{' {
			return nil, errTrailing
		}
		return nil, errNotObject
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errNotObject
	}
	var members []member
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, errNotObject
		}
		m := member{}
		m.name, _ = t.(string)
		if err := dec.Decode(&m.raw); err != nil {
			return nil, errNotObject
		}
		members = append(members, m)
	}
	return members, nil
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
	seen := make(map[string]bool, len(members))
	for _, m := range members {
		if seen[m.name] && !slices.Contains(again, m.name) {
			again = append(again, m.name)
		}
		seen[m.name] = true
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
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
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
