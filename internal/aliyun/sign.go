package aliyun

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// SignURL returns a call as a URL, signed by V1, good for one use until Window
// after now: for somebody to paste, and for a check of the listener.
func SignURL(endpoint string, key *Key, action string, params map[string]string, nonce string, now time.Time) string {
	all := Params{
		{"AccessKeyId", key.ID},
		{"Action", action},
		{"Format", "JSON"},
		{"SignatureMethod", "HMAC-SHA1"},
		{"SignatureNonce", nonce},
		{"SignatureVersion", "1.0"},
		{"Timestamp", now.UTC().Format(timeFormat)},
		{"Version", "2020-10-28"},
	}
	if key.token != "" {
		all = append(all, Param{"SecurityToken", key.token})
	}
	for name, value := range params {
		if i := slices.IndexFunc(all, func(p Param) bool { return p.Name == name }); i >= 0 {
			all[i].Value = value
			continue
		}
		all = append(all, Param{name, value})
	}
	slices.SortFunc(all, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })
	query := string(all.appendCanonical(nil))
	signature := base64.StdEncoding.EncodeToString(sum(&key.v1, appendEncoded([]byte("GET&%2F&"), query)))
	return endpoint + "/?" + query + "&Signature=" + string(appendEncoded(nil, signature))
}
