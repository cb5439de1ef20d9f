package sandbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

func TestWire(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	tests := []struct {
		name, request string
		want          int
	}{
		{"admin", "GET /_sandbox/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 200},
		{"HTTP/1.0", "GET /_sandbox/stats HTTP/1.0\r\nHost: localhost\r\n\r\n", 200},
		{"unknown path", "GET /x HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"unknown admin page", "GET /_sandbox/x HTTP/1.1\r\nHost: localhost\r\n\r\n", 404},
		{"no HTTP", "hello\r\n\r\n", 400},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\n", 400},
		{"no header name", "GET / HTTP/1.1\r\nnonsense\r\n\r\n", 400},
		{"length is a word", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400},
		{"negative length", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
		{"too long", "POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413},
		{"long head", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", 431},
		{"a length with a sign", "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", 400},
		{"two lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400},
		{"a length and chunks", "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"a space before the colon", "POST / HTTP/1.1\r\nContent-Length : 1\r\n\r\nx", 400},
		{"a header that goes on", "GET / HTTP/1.1\r\nX: a\r\n Content-Length: 3\r\n\r\n", 400},
		{"two hosts", "GET /_sandbox/ HTTP/1.1\r\nHost: localhost\r\nHost: attacker.example\r\n\r\n", 400},
		{"another host", "GET /_sandbox/journal HTTP/1.1\r\nHost: attacker.example\r\n\r\n", 421},
		{"no host", "GET /_sandbox/journal HTTP/1.0\r\n\r\n", 421},
		{"another host, absolute", "GET http://attacker.example/_sandbox/journal HTTP/1.1\r\nHost: localhost\r\n\r\n", 404},
		{"a page from elsewhere", "POST /_sandbox/faults HTTP/1.1\r\nHost: localhost\r\nOrigin: http://attacker.example\r\nContent-Length: 2\r\n\r\n{}", 403},
		{"a page from nowhere", "POST /_sandbox/faults HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nContent-Length: 2\r\n\r\n{}", 403},
		{"other coding", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
		{"chunks", "POST /_sandbox/faults HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if r := sb.raw(t, tt.request); r.status != tt.want {
				t.Errorf("HTTP %d %s, want %d", r.status, r.body, tt.want)
			}
		})
	}
}

// Signed calls arrive whole however they are framed.
func TestFraming(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	chunked := sb.mpaas(t, "PushMultiple", multiple(100))
	chunked.ContentLength = -1
	expecting := sb.mpaas(t, "PushMultiple", multiple(100))
	expecting.Header.Set("Expect", "100-continue")
	for name, req := range map[string]*http.Request{"chunked": chunked, "expecting": expecting} {
		if r := sb.must(t, req); r.field("ResultCode") != "OK" {
			t.Errorf("%s: %s", name, r.body)
		}
	}
	v := readVectors[mpaasVector](t, "mpaas_vectors.json")[2]
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", sb.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, b := range []byte(v.call().change("connection", "close").String()) { // a byte at a time
		if _, err := conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := io.ReadAll(conn); err != nil || !strings.Contains(string(text), "unknown access key id") {
		t.Errorf("a byte at a time: %q, %v", text, err)
	}
}

// Requests sent at once on one connection are answered one after the other.
func TestPipelining(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", sb.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	one := "POST /webhook/hook HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	last := "GET /_sandbox/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(conn, one+one+last); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if got := strings.Count(string(text), "HTTP/1.1 401"); err != nil || got != 2 || !strings.Contains(string(text), `"calls": 2`) {
		t.Errorf("%v: %s", err, text)
	}
}

func TestStopWithCallsInFlight(t *testing.T) {
	t.Parallel()
	sb := setup(t, faults("delay=1h"))
	failed := make(chan error)
	req := sb.mpaas(t, "PushMultiple", multiple(1))
	go func() {
		_, err := sb.do(t, req)
		failed <- err
	}()
	for sb.Stats().InFlight == 0 {
		sb.get(t, "/_sandbox/stats") // lets the call in
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sb.Stop(ended); err != nil {
		t.Error(err)
	}
	if err := <-failed; err == nil {
		t.Error("the call was answered")
	}
	if sb.Last() != 0 {
		t.Error("the call was accepted")
	}
}

// Any text gets through form and journal unharmed, as net/url and
// encoding/json see them.
func TestTextsAreUnharmed(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	rapid.Check(t, func(rt *rapid.T) {
		task, target := rapid.StringN(1, 20, -1).Draw(rt, "task"), rapid.StringN(1, 20, -1).Draw(rt, "target")
		r := sb.must(t, sb.mpaas(t, "PushSimple", with(simple(), "TaskName", task, "TargetMsgkey", quotePair(target))))
		if r.field("ResultCode") != "OK" {
			rt.Fatal(r.body)
		}
		call := sb.last(t)
		if diff := cmp.Diff([]string{task, target}, []string{call.TaskName, call.Targets[0]}); diff != "" {
			rt.Fatal(diff)
		}
	})
}

func quotePair(target string) string {
	name, _ := json.Marshal(target)
	return fmt.Sprintf(`{%s:"k"}`, name)
}

// A form is refused as a whole exactly where net/url refuses an escape.
func TestEscapes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("%+aF0&=-é")), 0, 12, -1).Draw(rt, "form")
		want, err := url.ParseQuery(text)
		got, ok := sandbox.ParseForm(text)
		if ok != (err == nil) {
			rt.Fatalf("%q: %v, net/url says %v", text, ok, err)
		}
		if ok && !cmp.Equal(got, want) {
			rt.Fatalf("%q: %v, net/url says %v", text, got, want)
		}
	})
}
