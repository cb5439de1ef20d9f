package sandbox_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// A wireCall is one recorded request, in parts that can be tampered with.
type wireCall struct {
	method, path, body string
	headers            map[string]string
}

func (w wireCall) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", w.method, w.path)
	for name, value := range w.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(w.body), w.body)
	return b.String()
}

// change returns a copy with one header replaced; an empty one removes it.
func (w wireCall) change(name, value string) wireCall {
	headers := maps.Clone(w.headers)
	if headers[name] = value; value == "" {
		delete(headers, name)
	}
	w.headers = headers
	return w
}

// flip changes one character of a text to another of its kind.
func flip(s string, at int) string {
	b := []byte(s)
	switch c := b[at]; {
	case c == '9':
		b[at] = '8'
	case c >= '0' && c < '9':
		b[at]++
	case c == 'a' || c == 'A':
		b[at]++
	default:
		b[at] = 'a'
	}
	return string(b)
}

type mpaasVector struct {
	Source          string            `json:"source"`
	AccessKeyID     string            `json:"access_key_id"`
	AccessKeySecret string            `json:"access_key_secret"`
	Headers         map[string]string `json:"headers"`
	SignedHeaders   string            `json:"signed_headers"`
	Body            string            `json:"body"`
	Signature       string            `json:"signature"`
}

func readVectors[T any](t *testing.T, file string) []T {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []T
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	return vectors
}

func (v mpaasVector) call() wireCall {
	w := wireCall{method: "POST", path: "/", body: v.Body, headers: map[string]string{}}
	maps.Copy(w.headers, v.Headers)
	w.headers["authorization"] = "ACS3-HMAC-SHA256 Credential=" + v.AccessKeyID + ",SignedHeaders=" + v.SignedHeaders +
		",Signature=" + v.Signature
	return w
}

func TestMPaaSVectors(t *testing.T) {
	t.Parallel()
	for i, v := range readVectors[mpaasVector](t, "mpaas_vectors.json") {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			at, err := time.Parse(time.RFC3339, v.Headers["x-acs-date"])
			if err != nil {
				t.Fatal(err)
			}
			sb := setup(t, func(c *sandbox.Config) {
				c.Apps = sandbox.Apps{MPaaS: []sandbox.MPaaSApp{{
					AppID: sandbox.AnyApp, AccessKeyID: v.AccessKeyID, AccessKeySecret: v.AccessKeySecret,
				}}}
				c.Now = func() time.Time { return at.Add(time.Minute) }
			})
			good := v.call()
			for name, bad := range tampered(good, slices.Sorted(slices.Values(strings.Split(v.SignedHeaders, ";")))) {
				if sb.raw(t, bad.String()); sb.last(t).Signature == "ok" {
					t.Errorf("%s: accepted", name)
				}
			}
			sb.raw(t, good.String())
			if got := sb.last(t).Signature; got != "ok" {
				t.Errorf("the vector itself: %s", got)
			}
			if sb.raw(t, good.String()); !strings.Contains(sb.last(t).Signature, "nonce") {
				t.Errorf("a replay: %s", sb.last(t).Signature)
			}
		})
	}
}

// tampered returns the call with each part changed, and with each removed.
func tampered(good wireCall, signed []string) map[string]wireCall {
	out := map[string]wireCall{}
	for _, name := range append(slices.Clone(signed), "authorization") {
		value := good.headers[name]
		out[name+" changed"] = good.change(name, flip(value, len(value)-1))
		out[name+" removed"] = good.change(name, "")
	}
	auth := good.headers["authorization"]
	for _, at := range []int{3, len(auth) / 4, len(auth) / 2} {
		out[fmt.Sprintf("authorization changed at %d", at)] = good.change("authorization", flip(auth, at))
	}
	for _, at := range []int{0, len(good.body) / 2, len(good.body) - 1} {
		bad := good
		bad.body = flip(good.body, at)
		out[fmt.Sprintf("body changed at %d", at)] = bad
	}
	longer := good
	longer.body += " "
	out["body longer"] = longer
	return out
}

type alipayVector struct {
	Mode    string            `json:"mode"`
	Method  string            `json:"method"`
	URI     string            `json:"uri"`
	Body    string            `json:"body"`
	Headers map[string]string `json:"headers"`
	Auth    string            `json:"auth"`
	Sign    string            `json:"sign"`
}

func (v alipayVector) call() wireCall {
	w := wireCall{method: v.Method, path: v.URI, body: v.Body, headers: map[string]string{"host": "127.0.0.1"}}
	maps.Copy(w.headers, v.Headers)
	w.headers["authorization"] = "ALIPAY-SHA256withRSA " + v.Auth + ",sign=" + v.Sign
	return w
}

func (v alipayVector) app() sandbox.AlipayApp {
	app := sandbox.AlipayApp{AppID: alipayApp, AppPublicKey: keyFile("app_pub.pem"), AlipayPrivateKey: keyFile("ali_priv.pem")}
	switch v.Mode {
	case "cert":
		app.AppPublicKey = nil
		app.AppCert, app.RootCerts, app.AlipayCert = keyFile("app.crt"), keyFile("root_bundle.crt"), keyFile("ali.crt")
	case "aes":
		app.AESKey = string(keyFile("aes.key"))
	case "token":
		app.AuthToken = v.Headers["alipay-app-auth-token"]
	}
	return app
}

var timestampOf = regexp.MustCompile(`timestamp=(\d+)`)

func TestAlipayVectors(t *testing.T) {
	t.Parallel()
	for i, v := range readVectors[alipayVector](t, "alipay_vectors.json") {
		t.Run(fmt.Sprintf("%s %d", v.Mode, i), func(t *testing.T) {
			t.Parallel()
			ms, err := strconv.ParseInt(timestampOf.FindStringSubmatch(v.Auth)[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sb := setup(t, func(c *sandbox.Config) {
				c.Apps = sandbox.Apps{Alipay: []sandbox.AlipayApp{v.app()}}
				c.Now = func() time.Time { return time.UnixMilli(ms).Add(time.Minute) }
			})
			good := v.call()
			var signed []string
			for _, name := range []string{"alipay-root-cert-sn", "alipay-app-auth-token"} {
				if v.Headers[name] != "" {
					signed = append(signed, name)
				}
			}
			for name, bad := range tampered(good, signed) {
				if r := sb.raw(t, bad.String()); r.status != 401 || sb.last(t).Signature == "ok" {
					t.Errorf("%s: HTTP %d, signature %s", name, r.status, sb.last(t).Signature)
				}
			}
			r := sb.raw(t, good.String())
			if call := sb.last(t); call.Signature != "ok" || call.Outcome != sandbox.Accepted || r.status != 200 {
				t.Errorf("the vector itself: HTTP %d %s: %+v", r.status, r.body, call)
			}
			if err := signedAnswer(r); err != nil {
				t.Errorf("the answer's signature: %v", err)
			}
			if r := sb.raw(t, good.String()); r.status != 401 {
				t.Errorf("a replay: HTTP %d", r.status)
			}
		})
	}
}
