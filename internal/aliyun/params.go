package aliyun

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A Param is one parameter, decoded.
type Param struct{ Name, Value string }

// Params are parameters, sorted by name. Each name occurs once.
type Params []Param

// parseForm appends the pairs of a query or a form. An empty pair and a pair
// without "=" are refused. No client sends them, and if they were skipped, a
// third party could add them to a signed request.
func parseForm(into Params, text string) (Params, *Error) {
	if text == "" {
		return into, nil
	}
	if n := len(into) + strings.Count(text, "&") + 1; n > maxParams {
		return nil, errTooMany
	}
	for pair := range strings.SplitSeq(text, "&") {
		name, value, ok := strings.Cut(pair, "=")
		n, ok1 := unescape(name)
		v, ok2 := unescape(value)
		if !ok || !ok1 || !ok2 || n == "" {
			return nil, errMalformed
		}
		if len(n) > maxName || strings.Count(n, ".") >= maxDotted {
			return nil, errName
		}
		into = append(into, Param{n, v})
	}
	return into, nil
}

// sort sorts by name. A name that is given twice is refused, since clients differ
// in which of the two values they sign.
func (p Params) sort() *Error {
	slices.SortStableFunc(p, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(p); i++ {
		if p[i].Name == p[i-1].Name {
			return repeated(p[i].Name)
		}
	}
	return nil
}

// Get returns the value of a parameter, or "" when it is not given.
func (p Params) Get(name string) string {
	i, found := slices.BinarySearchFunc(p, name, func(a Param, name string) int { return strings.Compare(a.Name, name) })
	if !found {
		return ""
	}
	return p[i].Value
}

// below returns the parameters whose names start with name and a dot. The
// returned names are without that prefix.
func (p Params) below(name string) []Param {
	prefix := name + "."
	i, _ := slices.BinarySearchFunc(p, prefix, func(a Param, name string) int { return strings.Compare(a.Name, name) })
	var out []Param
	for ; i < len(p) && strings.HasPrefix(p[i].Name, prefix); i++ {
		out = append(out, Param{p[i].Name[len(prefix):], p[i].Value})
	}
	return out
}

// An Item is one entry of a list. Numbers start at 1.
type Item struct {
	Number int
	Fields map[string]string
}

// List returns the entries that are written as NAME.1.Field=value, sorted by
// their numbers. A field may itself be a map, which is read as Map reads one. The
// error names the parameter that cannot be read.
func (p Params) List(name string) ([]Item, error) {
	byNumber := make(map[int]Params)
	for _, q := range p.below(name) {
		number, field, dotted := strings.Cut(q.Name, ".")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > maxIndex || strconv.Itoa(n) != number {
			return nil, fmt.Errorf("%s.%s: a list counts from 1 to at most %d", name, clip(q.Name), maxIndex)
		}
		if !dotted {
			field = ""
		}
		byNumber[n] = append(byNumber[n], Param{field, q.Value})
	}
	items := make([]Item, 0, len(byNumber))
	for n, fields := range byNumber {
		item := Item{n, make(map[string]string, len(fields))}
		for _, f := range fields {
			field, _, dotted := strings.Cut(f.Name, ".")
			if _, read := item.Fields[field]; read && dotted {
				continue // the whole object was read at its first key
			}
			value := f.Value
			if dotted {
				var err error
				if value, err = fields.Map(field); err != nil {
					return nil, fmt.Errorf("%s.%d.%w", name, n, err)
				}
			}
			item.Fields[field] = value
		}
		items = append(items, item)
	}
	slices.SortFunc(items, func(a, b Item) int { return cmp.Compare(a.Number, b.Number) })
	return items, nil
}

// Map returns a parameter that is a map of strings, as JSON. A map that was sent
// as JSON is returned as it was sent and is not parsed. A map that was sent key by
// key, as NAME.key=value, is encoded; such a key may contain dots, as a mail
// address does. Map returns "" when the parameter is not given.
func (p Params) Map(name string) (string, error) {
	whole, parts, err := p.wholeOrParts(name)
	if len(parts) == 0 {
		return whole, err
	}
	object := make(map[string]string, len(parts))
	for _, q := range parts {
		object[q.Name] = q.Value
	}
	text, err := json.Marshal(object)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return string(text), nil
}

// wholeOrParts returns a map as the JSON that was sent, or as its parts when it
// was sent key by key. Both at once is an error.
func (p Params) wholeOrParts(name string) (whole string, parts []Param, err error) {
	if whole, parts = p.Get(name), p.below(name); whole != "" && len(parts) > 0 {
		return "", nil, fmt.Errorf("%s: is given both whole and key by key", name)
	}
	return whole, parts, nil
}

// Tree returns a parameter that is an object of any depth, as JSON. An object that
// was sent as JSON is returned as it was sent and is not parsed. An object that was
// sent by dotted keys, as NAME.key.key=value, is encoded; keys 1, 2, 3 and so on
// make a list. Tree returns "" when the parameter is not given.
func (p Params) Tree(name string) (string, error) {
	whole, parts, err := p.wholeOrParts(name)
	if len(parts) == 0 {
		return whole, err
	}
	root := &tree{}
	for _, q := range parts {
		if !root.put(strings.Split(q.Name, "."), q.Value) {
			return "", fmt.Errorf("%s.%s: is given both whole and key by key", name, clip(q.Name))
		}
	}
	text, err := json.Marshal(root.value(true))
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return string(text), nil
}

// A tree is a string (a leaf) or values by key.
type tree struct {
	leaf     bool
	text     string
	children map[string]*tree
}

// put stores a text at a path. It reports false when another text is in the way.
func (t *tree) put(path []string, text string) bool {
	if len(path) == 0 {
		if t.leaf || t.children != nil {
			return false
		}
		t.leaf, t.text = true, text
		return true
	}
	if t.leaf {
		return false
	}
	if t.children == nil {
		t.children = make(map[string]*tree)
	}
	child := t.children[path[0]]
	if child == nil {
		child = &tree{}
		t.children[path[0]] = child
	}
	return child.put(path[1:], text)
}

// value returns the tree as a value for encoding/json. The root is an object even
// if its keys count 1, 2, 3.
func (t *tree) value(root bool) any {
	if t.leaf {
		return t.text
	}
	list := make([]any, len(t.children))
	object := make(map[string]any, len(t.children))
	counts := !root
	for key, child := range t.children {
		v := child.value(false)
		object[key] = v
		n, err := strconv.Atoi(key)
		if counts = counts && err == nil && n >= 1 && n <= len(list) && strconv.Itoa(n) == key; counts {
			list[n-1] = v
		}
	}
	if counts {
		return list
	}
	return object
}

// unescape decodes a name or value of a query or form. It accepts visible ASCII,
// "+" for a space, and %XX. Clients leave different characters unescaped.
func unescape(s string) (string, bool) {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' {
			return "", false
		}
	}
	s, err := url.QueryUnescape(s)
	return s, err == nil
}

// appendEncoded percent-encodes as signatures require: every byte except
// A-Za-z0-9-_.~, with hexadecimal digits in upper case.
func appendEncoded(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}

// bareName writes a name as newer clients write it into the text that they sign:
// not encoded, except for these two characters, which they replace afterwards in
// the whole text.
var bareName = strings.NewReplacer("+", "%20", "*", "%2A")

// appendBareNames appends the pairs as appendCanonical does, but with bare names.
// It reports false when the result is the same as appendCanonical's, and when a
// name has a character that would give two different queries the same text.
func (p Params) appendBareNames(b []byte) (text []byte, ok bool) {
	for i, q := range p {
		if strings.ContainsAny(q.Name, "&=%\r\n") {
			return nil, false
		}
		if i > 0 {
			b = append(b, '&')
		}
		start := len(b)
		b = append(b, bareName.Replace(q.Name)...)
		ok = ok || string(appendEncoded(nil, q.Name)) != string(b[start:])
		b = appendEncoded(append(b, '='), q.Value)
	}
	return b, ok
}

// appendCanonical appends the pairs, encoded and joined, in their order.
func (p Params) appendCanonical(b []byte) []byte {
	for i, q := range p {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(appendEncoded(b, q.Name), '=')
		b = appendEncoded(b, q.Value)
	}
	return b
}
