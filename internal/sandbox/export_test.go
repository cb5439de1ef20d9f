package sandbox

import "net/url"

// ParseForm is parseForm with the result of url.ParseQuery.
func ParseForm(text string) (url.Values, bool) {
	params, ok := parseForm([]byte(text), nil)
	values := url.Values{}
	for _, p := range params {
		values.Add(string(p.name), string(p.value))
	}
	return values, ok
}
