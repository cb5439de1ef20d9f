package httpcall_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

// An endpoint is judged as it goes on the wire: a well-formed request line, or
// refused.
func TestEndpointsOnTheWire(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{ // the request line's target and the host; or an error
		"https://h.example":                     "/ h.example",
		"https://h.example/":                    "/ h.example",
		"https://h.example/a b":                 "/a%20b h.example",
		"https://h.example/a%20b":               "/a%20b h.example",
		"https://h.example/名?x=名":               "/%E5%90%8D?x=%E5%90%8D h.example",
		"https://h.example/?a=b c":              "/?a=b%20c h.example",
		"https://h.example/?a=b%20c+d":          "/?a=b%20c+d h.example",
		`https://h.example/?a="<>\^{|}[]` + "`": "/?a=%22%3C%3E%5C%5E%7B%7C%7D%5B%5D%60 h.example",
		"https://h.example/?a=\u0085\u2028":     "/?a=%C2%85%E2%80%A8 h.example",
		"https://h.example/?a=100%":             "endpoint has a % in its query",
		"https://h.example/?a=%zz":              "endpoint has a % in its query",
		"https://h.example/a%zz":                "endpoint is not a URL",
		"https://h.example/?a=b\tc":             "endpoint is not a URL",
		"https://h.example/?a=b\r\nX: y":        "endpoint is not a URL",
		"https://bücher.example:8443/a":         "/a xn--bcher-kva.example:8443",
		"https://h_1.example":                   "/ h_1.example",
		"https://h.example:":                    "/ h.example",
		"https://h.example:443":                 "/ h.example:443",
		"https://h.example:0":                   "endpoint must name a port",
		"https://h.example:65536":               "endpoint must name a port",
		"https://h.example:443443443443443":     "endpoint must name a port",
		`https://a"b<c>/`:                       "endpoint names a host that cannot be one",
		"https://a!b/":                          "endpoint names a host that cannot be one",
		"https://a..b/":                         "endpoint names a host that cannot be one",
		"https://" + strings.Repeat("a", 64):    "endpoint names a host that cannot be one",
		"https://[2001:db8::1]:8080/a":          "/a [2001:db8::1]:8080",
		"https://[fe80::1%25eth0]/a":            "endpoint names an address with a zone",
		"https:h.example":                       "endpoint names no host",
		"https://user:secret@h.example":         "endpoint must not hold a user",
		"ftp://h.example":                       "endpoint must begin with",
		" https://h.example":                    "endpoint is not a URL",
	} {
		u, err := httpcall.ParseURL(in)
		if err != nil {
			if !strings.HasPrefix(err.Error(), want) || want == "" {
				t.Errorf("%q: %v, want %q", in, err, want)
			}
			continue
		}
		if got := u.RequestURI() + " " + u.Host; got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Whatever an endpoint is, the request line and the host that it comes to are
// read by a strict server as they were written.
func FuzzEndpoint(f *testing.F) {
	f.Add("https://h.example/a b?c=d e#f")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := httpcall.ParseURL(s)
		if err != nil {
			return
		}
		raw := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\n\r\n", u.RequestURI(), u.Host)
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil || r.RequestURI != u.RequestURI() || r.Host != u.Host {
			t.Fatalf("%q: %q, %v", s, raw, err)
		}
		for _, c := range []byte(u.RequestURI()) {
			if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
				t.Fatalf("%q: %q holds %q", s, u.RequestURI(), c)
			}
		}
	})
}
