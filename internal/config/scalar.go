package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

var durationType = reflect.TypeFor[time.Duration]()

// setScalar parses text by the field's type and sets it. The error says what
// would be right, and shows the text, so it is not for secrets.
func setScalar(v reflect.Value, text string) error {
	if v.Type() == durationType {
		d, err := parseDuration(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("must be true or false, not %q", text)
		}
		v.SetBool(b)
	case reflect.Int:
		i, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("must be a whole number, not %q", text)
		}
		v.SetInt(int64(i))
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("must be a number, not %q", text)
		}
		v.SetFloat(f)
	default:
		panic("config: no way to read a " + v.Type().String())
	}
	return nil
}

// parseDuration is time.ParseDuration with days, of 24 hours, for retention:
// 90d, 1d12h.
func parseDuration(text string) (time.Duration, error) {
	wrong := fmt.Errorf("must be a duration such as 30s, 5m, 1h30m or 90d, not %q", text)
	var days time.Duration
	rest := text
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, wrong
		}
		days, rest = time.Duration(n)*24*time.Hour, after
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, wrong
	}
	if d < 0 || days+d < 0 {
		return 0, errors.New("must not be negative")
	}
	return days + d, nil
}
