package alipay_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// key reads one of the test keys. They were made for the recorded requests and
// open nothing.
func key(tb testing.TB, name string) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/keys", name))
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// signedAt is when the tests' requests are signed.
func signedAt() time.Time { return time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC) }

func keyMode(tb testing.TB) dispatch.Settings {
	tb.Helper()
	return dispatch.Settings{
		AppID: "2021000000000001", Endpoint: "https://alipay.invalid", Now: signedAt,
		Options: map[string]string{
			"private_key":       key(tb, "app_priv_pkcs8.pem"),
			"alipay_public_key": key(tb, "ali_pub.pem"),
		},
	}
}

func certMode(tb testing.TB) dispatch.Settings {
	tb.Helper()
	s := keyMode(tb)
	s.Options = map[string]string{
		"private_key": key(tb, "app_priv_pkcs1.pem"),
		"app_cert":    key(tb, "app.crt"),
		"alipay_cert": key(tb, "ali.crt"),
		"root_cert":   key(tb, "root_bundle.crt"),
	}
	return s
}

func newPusher(tb testing.TB, s dispatch.Settings) dispatch.Pusher {
	tb.Helper()
	p, err := alipay.Adapter{}.New(s)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func compile(tb testing.TB, r dispatch.Request) *dispatch.Message {
	tb.Helper()
	m, problems := alipay.Adapter{}.Compile(r)
	if len(problems) > 0 {
		tb.Fatalf("problems: %+v", problems)
	}
	return m
}

// bareBase64 is a PEM block without its frame and line breaks, as the open
// platform's console shows keys.
func bareBase64(t *testing.T, text string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("no PEM block")
	}
	return base64.StdEncoding.EncodeToString(block.Bytes)
}

func TestKeysAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	v := vectors(t)[0]
	pkcs1, pkcs8, public := key(t, "app_priv_pkcs1.pem"), key(t, "app_priv_pkcs8.pem"), key(t, "ali_pub.pem")
	forms := map[string][2]string{
		"pkcs1":              {pkcs1, public},
		"pkcs8":              {pkcs8, public},
		"bare pkcs1":         {bareBase64(t, pkcs1), bareBase64(t, public)},
		"bare pkcs8":         {bareBase64(t, pkcs8), bareBase64(t, public)},
		"crlf":               {strings.ReplaceAll(pkcs1, "\n", "\r\n"), strings.ReplaceAll(public, "\n", "\r\n")},
		`\n of environments`: {strings.ReplaceAll(pkcs8, "\n", `\n`), strings.ReplaceAll(public, "\n", `\n`)},
		"wrapped base64":     {"  " + bareBase64(t, pkcs8)[:64] + "\n" + bareBase64(t, pkcs8)[64:] + "\n", public},
		"byte order mark":    {"\ufeff" + pkcs8, "\ufeff" + public},
		"on one line":        {strings.ReplaceAll(pkcs8, "\n", " "), strings.ReplaceAll(public, "\n", "")},
		"CR only":            {strings.ReplaceAll(pkcs8, "\n", "\r"), strings.ReplaceAll(public, "\n", "\r")},
		`\r\n written out`:   {strings.ReplaceAll(pkcs8, "\n", `\r\n`), strings.ReplaceAll(public, "\n", `\r\n`)},
		"in quotes":          {`"` + pkcs8 + `"`, "'" + bareBase64(t, public) + "'"},
		"indented":           {"  " + strings.ReplaceAll(pkcs8, "\n", "\n  "), "\t" + strings.ReplaceAll(public, "\n", "\n\t")},
		"text around":        {"Bag Attributes\n    friendlyName: app\n" + pkcs8, public + "\n# Alipay's\n"},
		"pkcs8 named pkcs1":  {strings.ReplaceAll(pkcs8, "PRIVATE KEY", "RSA PRIVATE KEY"), public},
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := v.settings(t)
			s.Options["private_key"], s.Options["alipay_public_key"] = form[0], form[1]
			got, err := alipay.Authorization(newPusher(t, s), v.Method, v.URI, v.Body, v.authValue(t, "nonce"), v.time(t))
			if err != nil || !strings.HasSuffix(got, ",sign="+v.Sign) {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
}

func TestOptionsAreJudged(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		base func(testing.TB) dispatch.Settings
		set  map[string]string
		want string // the whole error; empty: none
	}{
		{"nothing", keyMode, map[string]string{"private_key": "", "alipay_public_key": " "}, "private_key is missing\n" +
			"alipay_public_key is missing; certificate mode takes app_cert, alipay_cert and root_cert instead"},
		{
			"both modes", certMode,
			map[string]string{"alipay_public_key": key(t, "ali_pub.pem")},
			"alipay_public_key belongs to key mode and contradicts the certificates: remove one or the other",
		},
		{"half a certificate mode", certMode, map[string]string{"app_cert": "", "root_cert": ""}, "app_cert is missing: certificate mode needs app_cert, alipay_cert and root_cert\n" +
			"root_cert is missing: certificate mode needs app_cert, alipay_cert and root_cert"},
		{
			"the app's own public key", keyMode,
			map[string]string{"alipay_public_key": key(t, "app_pub.pem")},
			"alipay_public_key is the app's own public key: take Alipay's from the console",
		},
		{"another app's certificate", certMode, map[string]string{"app_cert": key(t, "ali.crt")}, "app_cert does not belong to private_key"},
		{
			"keys swapped", keyMode,
			map[string]string{"private_key": key(t, "ali_pub.pem"), "alipay_public_key": key(t, "ali_priv.pem")},
			"private_key holds a public key\nalipay_public_key holds a private key",
		},
		{"a key of another kind", keyMode, map[string]string{"private_key": ecKey(t)}, "private_key is not an RSA key"},
		{"an encrypted key", keyMode, map[string]string{"private_key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"}, "private_key is encrypted: give the key without a passphrase"},
		{"a broken key", keyMode, map[string]string{"private_key": key(t, "app_priv_pkcs8.pem")[:200]}, "private_key is not a private key in PKCS#1 or PKCS#8, PEM or bare base64: line 1: the block that begins here has no END line"},
		{"a broken public key", keyMode, map[string]string{"alipay_public_key": "c2VjcmV0"}, "alipay_public_key is not a public key in PEM or bare base64: the text is damaged: characters are missing, added or changed"},
		{
			"no certificates", certMode,
			map[string]string{"app_cert": "!", "alipay_cert": "c2VjcmV0", "root_cert": key(t, "ali_pub.pem")},
			"app_cert is not certificates in PEM form: the text is neither PEM nor base64: one that begins with -----BEGIN is wanted\n" +
				"alipay_cert is not certificates in PEM form: the text is damaged: characters are missing, added or changed\n" +
				"root_cert holds a PUBLIC KEY in line 1, and only certificates are wanted here",
		},
		{"an AES key of 3 bytes", keyMode, map[string]string{"aes_key": "c2Vj"}, "aes_key is not an AES key of 16, 24 or 32 bytes in base64"},
		{"an AES key with a newline", keyMode, map[string]string{"aes_key": key(t, "aes.key") + "\n"}, ""},
		{"a token with a newline inside", keyMode, map[string]string{"app_auth_token": "a\nb"}, "app_auth_token must be visible ASCII characters"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := tt.base(t)
			maps.Copy(s.Options, tt.set)
			got := ""
			if _, err := (alipay.Adapter{}).New(s); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func ecKey(t *testing.T) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func TestAppIDAndEndpointAreJudged(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", "1,sign=x", "1\n"} {
		s := keyMode(t)
		s.AppID = id
		if _, err := (alipay.Adapter{}).New(s); err == nil || !strings.Contains(err.Error(), "app_id") {
			t.Errorf("app_id %q: %v", id, err)
		}
	}
	s := keyMode(t)
	s.Endpoint = "openapi.alipay.com"
	if _, err := (alipay.Adapter{}).New(s); err == nil || !strings.Contains(err.Error(), "endpoint") {
		t.Errorf("endpoint: %v", err)
	}
}
