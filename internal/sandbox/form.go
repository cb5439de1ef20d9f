package sandbox

import "bytes"

// A param is one pair of a form, decoded.
type param struct{ name, value []byte }

// parseForm decodes a form body in place, so that nothing is copied: a decoded
// value is never longer than its encoding. It appends to params, and reports
// false when an escape is malformed.
func parseForm(body []byte, params []param) ([]param, bool) {
	for len(body) > 0 {
		var pair []byte
		pair, body, _ = bytes.Cut(body, []byte("&"))
		if len(pair) == 0 {
			continue
		}
		name, value, _ := bytes.Cut(pair, []byte("="))
		n, ok1 := unescape(name)
		v, ok2 := unescape(value)
		if !ok1 || !ok2 {
			return params, false
		}
		params = append(params, param{n, v})
	}
	return params, true
}

func unescape(b []byte) ([]byte, bool) {
	to := bytes.IndexAny(b, "%+")
	if to < 0 {
		return b, true
	}
	for from := to; from < len(b); from++ {
		c := b[from]
		switch c {
		case '+':
			c = ' '
		case '%':
			if from+2 >= len(b) {
				return nil, false
			}
			hi, lo := unhex(b[from+1]), unhex(b[from+2])
			if hi > 15 || lo > 15 {
				return nil, false
			}
			c = hi<<4 | lo
			from += 2
		}
		b[to] = c
		to++
	}
	return b[:to], true
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}
