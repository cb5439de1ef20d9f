package alipay

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// A node is a JSON value that remembers the order of its members, since a body
// is sent as its author wrote it.
type node struct {
	kind    kind
	text    string // of a string; the literal of a number or bool
	items   []node
	members []member
}

type member struct {
	name  string
	value node
}

type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// String returns the kind as it is named to an author.
func (k kind) String() string {
	switch k {
	case kindNull:
		return "null"
	case kindBool:
		return "a boolean"
	case kindNumber:
		return "a number"
	case kindString:
		return "a string"
	case kindArray:
		return "a list"
	case kindObject:
		return "an object"
	}
	return "invalid"
}

func stringNode(s string) node { return node{kind: kindString, text: s} }

// get returns an object's first member of that name.
func (n node) get(name string) (node, bool) {
	for _, m := range n.members {
		if m.name == name {
			return m.value, true
		}
	}
	return node{}, false
}

// with returns n with the member set: in its place when there is one of that
// name, else at the end. n is left alone.
func (n node) with(name string, value node) node {
	members := make([]member, 0, len(n.members)+1)
	found := false
	for _, m := range n.members {
		if m.name == name {
			m.value, found = value, true
		}
		members = append(members, m)
	}
	if !found {
		members = append(members, member{name, value})
	}
	n.members = members
	return n
}

var (
	errNotJSON  = errors.New("is not JSON")
	errTrailing = errors.New("has text after the JSON value")
	errTooDeep  = errors.New("is nested too deeply")
)

// maxDepth is far deeper than any request is, and keeps a hostile one from
// exhausting the stack.
const maxDepth = 32

// parseDocument reads one JSON value and nothing after it.
func parseDocument(text []byte) (node, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	n, err := readNode(dec, maxDepth)
	if errors.Is(err, errTooDeep) {
		return node{}, errTooDeep
	}
	if err != nil {
		return node{}, errNotJSON
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return node{}, errTrailing
	}
	return n, nil
}

func readNode(dec *json.Decoder, depth int) (node, error) {
	token, err := dec.Token()
	if err != nil {
		return node{}, err
	}
	if depth == 0 {
		return node{}, errTooDeep
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '[' {
			return readArray(dec, depth-1)
		}
		return readObject(dec, depth-1)
	case string:
		return stringNode(t), nil
	case json.Number:
		return node{kind: kindNumber, text: t.String()}, nil
	case bool:
		if t {
			return node{kind: kindBool, text: "true"}, nil
		}
		return node{kind: kindBool, text: "false"}, nil
	default:
		return node{}, nil
	}
}

func readArray(dec *json.Decoder, depth int) (node, error) {
	n := node{kind: kindArray}
	for dec.More() {
		item, err := readNode(dec, depth)
		if err != nil {
			return node{}, err
		}
		n.items = append(n.items, item)
	}
	_, err := dec.Token()
	return n, err
}

func readObject(dec *json.Decoder, depth int) (node, error) {
	n := node{kind: kindObject}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return node{}, err
		}
		value, err := readNode(dec, depth)
		if err != nil {
			return node{}, err
		}
		// In the place of a member's name the decoder yields nothing but strings.
		n.members = append(n.members, member{name: name.(string), value: value})
	}
	_, err := dec.Token()
	return n, err
}

// appendJSON appends n as JavaScript's JSON.stringify writes it: without spaces,
// and with nothing escaped but what JSON demands. encoding/json cannot do that:
// it always escapes U+2028 and U+2029.
func (n node) appendJSON(b []byte) []byte {
	switch n.kind {
	case kindNull:
		return append(b, "null"...)
	case kindBool, kindNumber:
		return append(b, n.text...)
	case kindString:
		return appendString(b, n.text)
	case kindArray:
		b = append(b, '[')
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.appendJSON(b)
		}
		return append(b, ']')
	case kindObject:
		b = append(b, '{')
		for i, m := range n.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, m.name), ':')
			b = m.value.appendJSON(b)
		}
		return append(b, '}')
	}
	return b
}

func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c == '\b':
			b = append(b, `\b`...)
		case c == '\f':
			b = append(b, `\f`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = utf8.AppendRune(b, c)
		}
	}
	return append(b, '"')
}
