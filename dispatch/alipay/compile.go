package alipay

import (
	"bytes"
	"errors"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

// A payload is a request as Compile has encoded it. It is never changed.
type payload struct {
	path   string
	fixed  []byte  // the body of a call that names its own audience
	single *single // makes the body of a call to one user
}

// Compile judges a request by the API's description and encodes it. The body
// keeps the order of the author's members.
func (Adapter) Compile(r dispatch.Request) (*dispatch.Message, []dispatch.Problem) {
	a, ok := apiOf(r.Channel)
	if !ok {
		return nil, []dispatch.Problem{{Field: "channel", Text: "is not a channel of alipay"}}
	}
	document, err := parseDocument(r.Body)
	if err != nil {
		return nil, []dispatch.Problem{{Field: "request", Text: err.Error()}}
	}
	j := &judge{}
	a.rule(j, "", document)
	if document.kind == rawjson.Object {
		audience(j, a, r, document)
	}
	if j.problems.Len() > 0 {
		return nil, j.problems.List()
	}
	return encode(a, document), nil
}

func audience(j *judge, a api, r dispatch.Request, document node) {
	switch {
	case a.channel.MaxTargets > 0:
		singleAudience(j, r, document)
	case r.StoredTargets:
		j.report("request", "%s reaches the audience it names itself: remove the campaign's targets", a.channel.Name)
	}
}

func encode(a api, document node) *dispatch.Message {
	if a.channel.MaxTargets > 0 {
		s, inline := newSingle(document)
		return &dispatch.Message{Channel: a.channel, Inline: inline, Judge: dispatch.TargetJudge(judgeTarget), Encoded: &payload{path: a.path, single: s}}
	}
	return &dispatch.Message{
		Channel: a.channel,
		Encoded: &payload{path: a.path, fixed: document.appendJSON(nil)},
	}
}

var (
	errNoMessage = errors.New("the push has no message")
	errNotOurs   = errors.New("the message was not compiled by the alipay adapter")
	errNoTargets = errors.New("this call reaches the audience it names itself and takes no targets")
)

func payloadOf(push *dispatch.Push) (*payload, error) {
	if push.Message == nil {
		return nil, errNoMessage
	}
	p, ok := push.Message.Encoded.(*payload)
	if !ok {
		return nil, errNotOurs
	}
	return p, nil
}

// body returns the plain body of one push.
func (p *payload) body(targets []dispatch.Target) ([]byte, error) {
	if p.single != nil {
		return p.single.body(targets)
	}
	if len(targets) > 0 {
		return nil, errNoTargets
	}
	return p.fixed, nil
}

// A node is a JSON value that remembers the order of its members, since a body
// is sent as its author wrote it.
type node struct {
	kind    rawjson.Kind
	text    string // the text of a string, or the literal of a number, a boolean or null
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

// with returns a copy of n with the member set: in place of the member of that
// name, or at the end where there is none. n does not change.
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
// and with only the escapes that JSON demands.
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
