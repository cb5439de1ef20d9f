package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

func TestMain(m *testing.M) {
	if journal := os.Getenv(childEnv); journal != "" {
		os.Exit(child(journal))
	}
	goleak.VerifyTestMain(m)
}

const (
	testApp       = "APP"
	testWorkspace = "ws"
	testKeyID     = "key-id"
	testSecret    = "key-secret"
	alipayApp     = "2021000000000001"
	hookSecret    = "hook-secret"
)

// testKeys are read once: parsing and generating keys is slow.
var testKeys = sync.OnceValue(func() sandbox.Apps {
	return sandbox.Apps{
		MPaaS: []sandbox.MPaaSApp{
			{AppID: testApp, WorkspaceID: testWorkspace, AccessKeyID: testKeyID, AccessKeySecret: testSecret},
			{AppID: "OTHER", WorkspaceID: testWorkspace, AccessKeyID: testKeyID, AccessKeySecret: testSecret},
			{AppID: "STS", WorkspaceID: testWorkspace, AccessKeyID: "sts-id", AccessKeySecret: "sts-secret", SecurityToken: "sts-token"},
		},
		Alipay: []sandbox.AlipayApp{
			{AppID: alipayApp, AppPublicKey: keyFile("app_pub.pem"), AlipayPrivateKey: keyFile("ali_priv.pem")},
		},
		Webhook: []sandbox.WebhookApp{{AppID: "hook", Secret: hookSecret}},
	}
})

func keyFile(name string) []byte {
	b, err := os.ReadFile("testdata/keys/" + name)
	if err != nil {
		panic(err)
	}
	return b
}

// bundle is a running sandbox and a client for it.
type bundle struct {
	*sandbox.Sandbox
	client *http.Client
}

func setup(t testing.TB, change ...func(*sandbox.Config)) *bundle {
	t.Helper()
	cfg := sandbox.Config{Apps: testKeys()}
	for _, c := range change {
		c(&cfg)
	}
	sb, err := sandbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := sb.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := sb.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &bundle{sb, client}
}

func faults(text string) func(*sandbox.Config) {
	return func(c *sandbox.Config) {
		f, err := sandbox.ParseFaults(text)
		if err != nil {
			panic(err)
		}
		c.Faults = f
	}
}

// reply is an answer, read.
type reply struct {
	status int
	header http.Header
	body   string
}

// field returns a member of a JSON answer by its path.
func (r *reply) field(path ...string) any {
	var v any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		return err
	}
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func (b *bundle) do(t testing.TB, req *http.Request) (*reply, error) {
	t.Helper()
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &reply{resp.StatusCode, resp.Header, string(body)}, nil
}

func (b *bundle) must(t testing.TB, req *http.Request) *reply {
	t.Helper()
	r, err := b.do(t, req)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// last returns the latest call of the journal.
func (b *bundle) last(t testing.TB) sandbox.Call {
	t.Helper()
	calls, err := b.Calls(b.Last() - 1)
	if err != nil || len(calls) != 1 {
		t.Fatalf("last call: %d calls, %v", len(calls), err)
	}
	return calls[0]
}

// acs signs an mPaaS request the plain way.
type acs struct {
	id, secret, token string
	date              time.Time
}

func (s acs) request(t testing.TB, base, action string, form url.Values) *http.Request {
	t.Helper()
	body := form.Encode()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if s.date.IsZero() {
		s.date = time.Now()
	}
	h := map[string]string{
		"content-type": "application/x-www-form-urlencoded", "host": req.URL.Host, "x-acs-action": action,
		"x-acs-content-sha256": hexSum(body), "x-acs-date": s.date.UTC().Format("2006-01-02T15:04:05Z"),
		"x-acs-signature-nonce": rand.Text(), "x-acs-version": "2020-10-28",
	}
	names := []string{
		"content-type", "host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version",
	}
	if s.token != "" {
		h["x-acs-accesskey-id"], h["x-acs-security-token"] = s.id, s.token
		names = []string{
			"content-type", "host", "x-acs-accesskey-id", "x-acs-action", "x-acs-content-sha256", "x-acs-date",
			"x-acs-security-token", "x-acs-signature-nonce", "x-acs-version",
		}
	}
	canonical := "POST\n/\n\n"
	for _, n := range names {
		canonical += n + ":" + h[n] + "\n"
		req.Header.Set(n, h[n])
	}
	list := strings.Join(names, ";")
	canonical += "\n" + list + "\n" + hexSum(body)
	mac := hmac.New(sha256.New, []byte(s.secret))
	mac.Write([]byte("ACS3-HMAC-SHA256\n" + hexSum(canonical)))
	req.Header.Set("Authorization", fmt.Sprintf("ACS3-HMAC-SHA256 Credential=%s,SignedHeaders=%s,Signature=%x", s.id, list, mac.Sum(nil)))
	return req
}

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func (b *bundle) mpaas(t testing.TB, action string, form url.Values) *http.Request {
	t.Helper()
	return acs{id: testKeyID, secret: testSecret}.request(t, b.URL(), action, form)
}

// multiple is a good PushMultiple of n targets.
func multiple(n int) url.Values {
	v := url.Values{
		"AppId": {testApp}, "WorkspaceId": {testWorkspace}, "TaskName": {"任务 1"}, "DeliveryType": {"3"},
		"ExpiredSeconds": {"600"}, "StrategyType": {"0"}, "TemplateName": {"tpl"},
	}
	for i := 1; i <= n; i++ {
		prefix := "TargetMsg." + strconv.Itoa(i) + "."
		v.Set(prefix+"Target", "user-"+strconv.Itoa(i))
		v.Set(prefix+"MsgKey", "key-"+strconv.Itoa(i))
		v.Set(prefix+"TemplateKeyValue", `{"name":"Zhang San"}`)
	}
	return v
}

// with returns a form with some values replaced; an empty one removes.
func with(form url.Values, pairs ...string) url.Values {
	for i := 0; i < len(pairs); i += 2 {
		if form.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			form.Del(pairs[i])
		}
	}
	return form
}

var appPrivate = sync.OnceValue(func() *rsa.PrivateKey {
	block, _ := pem.Decode(keyFile("app_priv_pkcs8.pem"))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		panic(err)
	}
	return key.(*rsa.PrivateKey)
})

// alipay makes a signed request of key mode.
func (b *bundle) alipay(t testing.TB, path, body string) *http.Request {
	t.Helper()
	return b.alipayAt(t, path, body, time.Now(), rand.Text())
}

func (b *bundle) alipayAt(t testing.TB, path, body string, at time.Time, nonce string) *http.Request {
	t.Helper()
	path = "/v3/alipay/open/public/" + path
	auth := fmt.Sprintf("app_id=%s,nonce=%s,timestamp=%d", alipayApp, nonce, at.UnixMilli())
	sum := sha256.Sum256([]byte(auth + "\nPOST\n" + path + "\n" + body + "\n"))
	sign, err := rsa.SignPKCS1v15(nil, appPrivate(), crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "ALIPAY-SHA256withRSA "+auth+",sign="+base64.StdEncoding.EncodeToString(sign))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Alipay-Request-Id", "delivery-1")
	return req
}

// signedAnswer checks an Alipay answer's signature.
func signedAnswer(r *reply) error {
	block, _ := pem.Decode(keyFile("ali_pub.pem"))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	sign, err := base64.StdEncoding.DecodeString(r.header.Get("alipay-signature"))
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(r.header.Get("alipay-timestamp") + "\n" + r.header.Get("alipay-nonce") + "\n" + r.body + "\n"))
	return rsa.VerifyPKCS1v15(key.(*rsa.PublicKey), crypto.SHA256, sum[:], sign)
}

func (b *bundle) hook(t testing.TB, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.URL()+"/webhook/hook", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write([]byte(timestamp + "." + body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Scheduler-Timestamp", timestamp)
	req.Header.Set("X-Scheduler-Signature", "v1="+hex.EncodeToString(mac.Sum(nil)))
	req.Header.Set("Idempotency-Key", "delivery-7")
	req.GetBody = nil // else net/http repeats a call with such a header by itself
	return req
}

// raw sends bytes as they are and reads one answer.
func (b *bundle) raw(t testing.TB, request string) *reply {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &reply{resp.StatusCode, resp.Header, string(bytes.TrimSpace(body))}
}

func (b *bundle) get(t testing.TB, path string) *reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b.must(t, req)
}

func (b *bundle) post(t testing.TB, path, body string) *reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return b.must(t, req)
}
