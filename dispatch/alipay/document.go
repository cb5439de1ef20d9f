package alipay

import (
	"bytes"

	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

// A node is a JSON value that remembers the order of its members, since a body
// is sent as its author wrote it.
type node struct {
	kind    rawjson.Kind
	text    string // of a string; else the literal of what is no list or object
	items   []node
	members []member
}

type member struct {
	name  string
	value node
}

func stringNode(s string) node { return node{kind: rawjson.String, text: s} }

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

// parseDocument reads one JSON value and nothing after it.
func parseDocument(text []byte) (node, error) {
	if err := rawjson.Check(text); err != nil {
		return node{}, err
	}
	return readNode(bytes.TrimSpace(text)), nil
}

func readNode(raw []byte) node {
	n := node{kind: rawjson.KindOf(raw)}
	switch n.kind {
	case rawjson.String:
		n.text, _ = rawjson.Unquote(raw)
	case rawjson.List:
		for item := range rawjson.Elements(raw) {
			n.items = append(n.items, readNode(item))
		}
	case rawjson.Object:
		for name, value := range rawjson.Members(raw) {
			n.members = append(n.members, member{name, readNode(value)})
		}
	default:
		n.text = string(raw)
	}
	return n
}

// appendJSON appends n as JavaScript's JSON.stringify writes it: without spaces,
// and with nothing escaped but what JSON demands.
func (n node) appendJSON(b []byte) []byte {
	switch n.kind {
	case rawjson.String:
		return rawjson.AppendQuoted(b, n.text)
	case rawjson.List:
		b = append(b, '[')
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.appendJSON(b)
		}
		return append(b, ']')
	case rawjson.Object:
		b = append(b, '{')
		for i, m := range n.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(rawjson.AppendQuoted(b, m.name), ':')
			b = m.value.appendJSON(b)
		}
		return append(b, '}')
	default:
		return append(b, n.text...)
	}
}
