package mpaas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

// A member is one name and value of a JSON object. The value has no spaces
// around it.
type member struct {
	name string
	raw  json.RawMessage
}

var (
	errNotObject = errors.New("must be a JSON object")
	errTrailing  = errors.New("has text after the JSON object")
)

// parseObject reads one JSON object and nothing after it. The members' values
// share raw's memory.
func parseObject(raw []byte) ([]member, error) {
	if rawjson.KindOf(raw) != rawjson.Object { // as most targets' values, which are empty
		return nil, errNotObject
	}
	switch err := rawjson.Check(raw); {
	case errors.Is(err, rawjson.ErrSyntax):
		return nil, errNotObject
	case errors.Is(err, rawjson.ErrTrailing):
		return nil, errTrailing
	case err != nil:
		return nil, err
	}
	return members(raw), nil
}

// members takes a JSON object apart that is known to be valid.
func members(raw []byte) []member {
	list := make([]member, 0, 8) // as most have fewer
	for name, value := range rawjson.Members(raw) {
		list = append(list, member{name, value})
	}
	return list
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
		b = append(rawjson.AppendQuoted(b, m.name), ':')
		b = append(b, compact(m.raw)...)
	}
	return string(append(b, '}'))
}

var errRange = errors.New("is too large a number")

// parseInteger reads a whole JSON number, or a string of one. A number with a
// fraction or an exponent is refused even where its value is whole: the wire
// knows no such thing.
func parseInteger(raw json.RawMessage) (int64, error) {
	literal, isString := rawjson.Unquote(raw)
	if !isString {
		literal = string(raw)
		if c := raw[0]; c != '-' && (c < '0' || c > '9') {
			return 0, fmt.Errorf("must be a whole number, not %s", rawjson.KindOf(raw))
		}
	}
	if !isDecimal(literal) {
		return 0, fmt.Errorf("must be a whole number, not %.40s", raw)
	}
	n, err := strconv.ParseInt(literal, 10, 64)
	if err != nil {
		return 0, errRange
	}
	return n, nil
}

func isDecimal(s string) bool {
	if len(s) > 0 && s[0] == '-' {
		s = s[1:]
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) > 0
}
