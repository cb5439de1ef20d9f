package mpaas

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

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
