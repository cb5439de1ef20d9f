package alipay_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
)

// A vector is one request that the official Node SDK made, recorded on loopback.
type vector struct {
	Mode         string            `json:"mode"`
	Method       string            `json:"method"`
	URI          string            `json:"uri"`
	Body         string            `json:"body"`
	Headers      map[string]string `json:"headers"`
	Auth         string            `json:"auth"`
	StringToSign string            `json:"string_to_sign"`
	Sign         string            `json:"sign"`
}

// vectors reads every file of recorded requests in testdata: dropping another
// one in is enough to run it.
func vectors(t *testing.T) []vector {
	t.Helper()
	files, err := filepath.Glob("testdata/vectors*.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for _, f := range files {
		var vs []vector
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &vs); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all = append(all, vs...)
	}
	if len(all) == 0 {
		t.Fatal("no vectors found")
	}
	return all
}

func (v vector) authValue(t *testing.T, name string) string {
	t.Helper()
	for pair := range strings.SplitSeq(v.Auth, ",") {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	t.Fatalf("auth has no %s", name)
	return ""
}

func (v vector) time(t *testing.T) time.Time {
	t.Helper()
	ms, err := strconv.ParseInt(v.authValue(t, "timestamp"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.UnixMilli(ms)
}

// settings are those of an app in the vector's mode.
func (v vector) settings(t *testing.T) dispatch.Settings {
	t.Helper()
	s := keyMode(t)
	s.AppID = v.authValue(t, "app_id")
	s.Now = func() time.Time { return v.time(t) }
	switch v.Mode {
	case "key":
	case "cert":
		s.Options = certMode(t).Options
	case "aes":
		s.Options["aes_key"] = key(t, "aes.key")
	case "token":
		s.Options["app_auth_token"] = v.Headers["alipay-app-auth-token"]
	default:
		t.Fatalf("unknown mode %q", v.Mode)
	}
	return s
}

// plain is the request's JSON before AES mode.
func (v vector) plain(t *testing.T) string {
	t.Helper()
	if v.Mode != "aes" {
		return v.Body
	}
	plain, err := alipay.Decrypt(key(t, "aes.key"), v.Body)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestVectorsAreSignedAlike(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.Mode+v.URI, func(t *testing.T) {
			t.Parallel()
			p := newPusher(t, v.settings(t))
			if got := alipay.StringToSign(p, v.Auth, v.Method, v.URI, v.Body); got != v.StringToSign {
				t.Errorf("string to sign:\n%s", cmp.Diff(v.StringToSign, got))
			}
			got, err := alipay.Authorization(p, v.Method, v.URI, v.Body, v.authValue(t, "nonce"), v.time(t))
			if err != nil {
				t.Fatal(err)
			}
			if want := "ALIPAY-SHA256withRSA " + v.Auth + ",sign=" + v.Sign; got != want {
				t.Errorf("authorization:\n%s", cmp.Diff(want, got))
			}
		})
	}
}

// A campaign with the recorded request goes out as the recorded bytes.
func TestVectorsOnTheWire(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		channel, ok := channelOf(v.URI)
		if !ok {
			continue
		}
		t.Run(v.Mode+v.URI, func(t *testing.T) {
			t.Parallel()
			wire := &recorder{}
			s := v.settings(t)
			s.Transport = wire
			p := newPusher(t, s)
			alipay.FixNonce(p, v.authValue(t, "nonce"))
			m := compile(t, dispatch.Request{Channel: channel, Body: json.RawMessage(v.plain(t))})
			p.Push(t.Context(), &dispatch.Push{Message: m, DeliveryID: v.Headers["alipay-request-id"], Targets: m.Inline})
			want := &recorder{
				method: v.Method, uri: v.URI, body: v.Body,
				header: http.Header{
					"Accept":        {"application/json"},
					"Authorization": {"ALIPAY-SHA256withRSA " + v.Auth + ",sign=" + v.Sign},
				},
			}
			for name, value := range v.Headers {
				want.header.Set(name, value)
			}
			if diff := cmp.Diff(want, wire, cmp.AllowUnexported(recorder{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func channelOf(uri string) (string, bool) {
	name, ok := strings.CutPrefix(uri, "/v3/alipay/open/public/message/")
	return "alipay." + strings.ReplaceAll(name, "/", "_"), ok
}

// A recorder is a transport that keeps the request and answers nothing of use.
type recorder struct {
	method, uri, body string
	header            http.Header
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	r.method, r.uri, r.body, r.header = req.Method, req.URL.RequestURI(), string(body), req.Header
	r.header.Del("Accept-Encoding") // ours: the SDK asks for no encoding in particular
	return &http.Response{StatusCode: http.StatusTeapot, Body: http.NoBody}, err
}

// The jsonb that PostgreSQL hands out has spaces after colons and commas; the
// recorded request has none. Nothing else may differ.
func TestBodyIsWrittenLikeTheSDKWritesIt(t *testing.T) {
	t.Parallel()
	author := `{"text": {"title": "\u6807\u9898 <b>&\"\\\/\u2028\u0001\b\f\n\r\t` + "\u007f" + `😀", "content": "c"}, "msg_type": "text"}`
	want := `{"text":{"title":"标题 <b>&\"\\/` + "\u2028" + `\u0001\b\f\n\r\t` + "\u007f" + `😀","content":"c"},"msg_type":"text"}`
	wire := &recorder{}
	s := keyMode(t)
	s.Transport = wire
	m := compile(t, dispatch.Request{Channel: "alipay.total_send", Body: json.RawMessage(author)})
	newPusher(t, s).Push(t.Context(), &dispatch.Push{Message: m, DeliveryID: "d-1"})
	if diff := cmp.Diff(want, wire.body); diff != "" {
		t.Error(diff)
	}
}
