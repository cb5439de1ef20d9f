package aliyun

import (
	"net/url"
	"strings"
)

// unescape decodes a name or value of a query or form. It takes what clients
// write: unreserved characters, "*" and other visible ASCII as they are, "+" for
// a space, and %XX.
func unescape(s string) (string, bool) {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' {
			return "", false
		}
	}
	s, err := url.QueryUnescape(s)
	return s, err == nil
}

// appendEncoded percent-encodes as signatures want it: all but A-Za-z0-9-_.~, in
// upper case.
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

// bareName is how the new generation of clients writes a name into what it signs:
// as it is, after which it replaces these two in the whole.
var bareName = strings.NewReplacer("+", "%20", "*", "%2A")

// appendBareNames appends the pairs as appendCanonical does, but for their names,
// which are bare. It reports false where that makes no difference, and where a name
// has a character by which two queries could have one text.
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

// appendCanonical appends the pairs, sorted as they are, encoded and joined.
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
