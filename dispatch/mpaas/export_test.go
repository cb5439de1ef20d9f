package mpaas

import (
	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

// A Pair is a key of a form and its value.
type Pair struct{ Key, Value string }

// EncodeMultiple returns the body of a PushMultiple with pairs that a request of
// ours cannot hold, such as a strategy.
func EncodeMultiple(appID, workspaceID string, pairs []Pair, trees map[string]string, targets []dispatch.Target) (string, error) {
	var list []pair
	for _, p := range pairs {
		list = append(list, pair{key: p.Key, value: p.Value})
	}
	for key, raw := range trees {
		list = appendTree(list, key, []byte(raw))
	}
	body, err := newForm(multiple, list).appendBody(nil,
		string(appendEscaped(nil, appID)), string(appendEscaped(nil, workspaceID)), &dispatch.Push{Targets: targets})
	return string(body), err
}

// Authorize signs headers, given as names and values in turn.
func Authorize(keyID, secret string, headers [][2]string, body string) string {
	var list []httpcall.Field
	for _, h := range headers {
		list = append(list, httpcall.Field{Name: h[0], Value: h[1]})
	}
	return newSigner(keyID, secret).authorization(list, hash([]byte(body)))
}

// Escape escapes a text, and EscapeJSON a JSON object and counts its members.
func Escape(s string) string { return string(appendEscaped(nil, s)) }

func EscapeJSON(raw []byte) (string, int) {
	b, n := appendEscapedJSON(nil, raw)
	return string(b), n
}

// Hash is the hex SHA-256 of a body.
func Hash(body string) string { return hash([]byte(body)) }

// Prepare encodes and signs a push without sending it, and returns the size of
// its body.
func Prepare(p dispatch.Pusher, push *dispatch.Push) (int, error) {
	own := p.(*pusher)
	f, err := formOf(push)
	if err != nil {
		return 0, err
	}
	body, err := f.appendBody(make([]byte, 0, bodySize(push)), own.appID, own.workspaceID, push)
	own.header(f.action.String(), body)
	return len(body), err
}
