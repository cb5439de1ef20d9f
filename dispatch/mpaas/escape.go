package mpaas

import "github.com/campaign-scheduler/scheduler/internal/rawjson"

// plainByte marks the bytes that a form body holds as they are. A space becomes
// "+", all others become %XX, as net/url's QueryEscape and the SDK have it.
var plainByte = func() (t [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~" {
		t[c] = true
	}
	return t
}()

const upperHex = "0123456789ABCDEF"

func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		b = appendEscapedByte(b, s[i])
	}
	return b
}

func appendEscapedByte(b []byte, c byte) []byte {
	switch {
	case plainByte[c]:
		return append(b, c)
	case c == ' ':
		return append(b, '+')
	default:
		return append(b, '%', upperHex[c>>4], upperHex[c&15])
	}
}

// appendEscapedJSON appends a JSON object without the spaces between its tokens
// (PostgreSQL's jsonb prints some) and returns how many members it has.
func appendEscapedJSON(b, raw []byte) ([]byte, int) {
	depth, colons := 0, 0
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case ' ', '\t', '\n', '\r':
		case '"':
			end := rawjson.EndOfString(raw, i)
			for ; i < end; i++ {
				b = appendEscapedByte(b, raw[i])
			}
			i--
		default:
			switch c {
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			case ':':
				if depth == 1 {
					colons++
				}
			}
			b = appendEscapedByte(b, c)
		}
	}
	return b, colons
}
