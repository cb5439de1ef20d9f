package strategy

import "strings"

// eachMember calls do with the members of a JSON object, a key and a raw value
// each, in the order they stand and as often: encoding/json would lose both. The
// text is valid JSON; when it is no object the result is false.
func eachMember(text string, do func(key, value string)) bool {
	text = skipSpace(text)
	if text[0] != '{' {
		return false
	}
	for text = skipSpace(text[1:]); text[0] != '}'; text = skipSpace(text) {
		if text[0] == ',' {
			text = skipSpace(text[1:])
		}
		end := endOfString(text)
		key := unquote(text[:end])
		text = skipSpace(skipSpace(text[end:])[1:]) // past the colon
		end = endOfValue(text)
		do(key, text[:end])
		text = text[end:]
	}
	return true
}

func skipSpace(text string) string { return strings.TrimLeft(text, " \t\r\n") }

// endOfString returns the length of the string that begins the text.
func endOfString(text string) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// endOfValue returns the length of the value that begins the text, which goes on
// after it.
func endOfValue(text string) int {
	depth := 0
	for i := 0; ; i++ {
		switch text[i] {
		case '"':
			i += endOfString(text[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // of what holds the value
			}
			depth--
		case ',', ' ', '\t', '\r', '\n':
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
