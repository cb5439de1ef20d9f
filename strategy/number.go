package strategy

import (
	"strconv"
	"strings"
)

// A number is a JSON number taken apart. Numbers are judged by value, since
// jsonb does not keep how they were written: 1e3 is 1000 and 1.0 is 1.
type number struct {
	negative bool
	digits   string // without leading and trailing zeros; empty for zero
	point    int    // the value is 0.digits × 10^point
	scale    int    // digits written after the point, after applying the exponent
	extreme  bool   // the exponent is beyond what PostgreSQL reads
}

func parseNumber(text string) number {
	var n number
	text, n.negative = strings.CutPrefix(text, "-")
	mantissa, exponent := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa = text[:i]
		exponent, n.extreme = parseExponent(text[i+1:])
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	n.scale = max(0, len(fraction)-exponent)
	n.digits = strings.TrimRight(whole+fraction, "0")
	stripped := strings.TrimLeft(n.digits, "0")
	n.point = len(whole) + exponent - (len(n.digits) - len(stripped))
	n.digits = stripped
	return n
}

// parseExponent returns true for exponents that PostgreSQL refuses to read,
// even where the number is zero.
func parseExponent(text string) (int, bool) {
	const limit = (1<<31 - 1) / 2
	e, err := strconv.Atoi(text)
	if err != nil || e >= limit || e <= -limit {
		return 0, true
	}
	return e, false
}

// storable reports whether PostgreSQL's numeric, and so jsonb, can hold the
// number: at most 131072 digits before the point and 16383 after.
func (n number) storable() bool {
	return !n.extreme && n.scale <= 16383 && (n.digits == "" || n.point <= 131072)
}

// A wholeness says why a JSON value is no whole number that we can use.
type wholeness string

const (
	isWhole   wholeness = ""
	notNumber wholeness = "must be a whole number"
	fraction  wholeness = "must be a whole number, not a fraction"
	tooLarge  wholeness = "must fit into 64 bits"
)

// parseWhole reads a raw JSON value as an int64.
func parseWhole(raw string) (int64, wholeness) {
	if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, notNumber
	}
	n := parseNumber(raw)
	switch {
	case !n.storable():
		return 0, tooLarge
	case n.digits == "":
		return 0, isWhole
	case len(n.digits) > n.point:
		return 0, fraction
	case n.point > 19:
		return 0, tooLarge
	}
	text := n.digits + strings.Repeat("0", n.point-len(n.digits))
	if n.negative {
		text = "-" + text
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, tooLarge
	}
	return v, isWhole
}
