package alipay_test

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
)

// The expected numbers are those the official SDK sent with the recorded
// requests.
func TestCertificateSerialNumbers(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		if v.Mode != "cert" {
			continue
		}
		app, _, err := alipay.CertificateSNs(key(t, "app.crt"))
		if diff := cmp.Diff([]string{v.authValue(t, "app_cert_sn")}, app); diff != "" || err != nil {
			t.Errorf("app: %s%v", diff, err)
		}
		all, root, err := alipay.CertificateSNs(key(t, "root_bundle.crt"))
		if root != v.Headers["alipay-root-cert-sn"] || err != nil {
			t.Errorf("root: got %s, %v", root, err)
		}
		if len(all) != 5 {
			t.Errorf("the root file holds 5 certificates, read %d", len(all))
		}
	}
}

// crypto/x509 refuses one of the root file's certificates. If it no longer did,
// the ASN.1 would not have to be read by hand.
func TestX509RefusesTheRootFile(t *testing.T) {
	t.Parallel()
	refused := 0
	for block, rest := pem.Decode([]byte(key(t, "root_bundle.crt"))); block != nil; block, rest = pem.Decode(rest) {
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("crypto/x509 refuses %d certificates, want 1", refused)
	}
}

// Names are written backwards, unescaped, in whatever string type they come;
// serials are unsigned whatever their first bit says.
func TestOddCertificates(t *testing.T) {
	t.Parallel()
	var name pkix.RDNSequence
	for _, a := range []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{2, 5, 4, 6}, Value: "CN"},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 8}, Value: "浙江"},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 7}, Value: `a, "b"+c=\d`},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: " O "},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "one"},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "two"},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 5}, Value: "no name"},
		{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "a@b.example"},
	} {
		name = append(name, pkix.RelativeDistinguishedNameSET{a})
	}
	issuer, err := asn1.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := new(big.Int).SetString("f0e1d2c3b4a5968778695a4b3c2d1e0f", 16)
	text := certificatePEM(t, issuer, serial)
	want := md5.Sum([]byte(`E=a@b.example,=no name,OU=two,OU=one,O= O ,L=a, "b"+c=\d,ST=浙江,C=CN` + serial.String()))
	got, root, err := alipay.CertificateSNs(text)
	if err != nil || len(got) != 1 || got[0] != hex.EncodeToString(want[:]) || root != got[0] {
		t.Errorf("got %v, root %s, %v, want %x", got, root, err, want)
	}
}

func certificatePEM(t *testing.T, issuer []byte, serial *big.Int) string {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, RawSubject: issuer}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestCipherGoesBothWays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{16, 24, 32}).Draw(t, "size")
		k := base64.StdEncoding.EncodeToString(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "key"))
		plain := string(rapid.SliceOf(rapid.Byte()).Draw(t, "plain"))
		text, err := alipay.Encrypt(k, plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := alipay.Decrypt(k, text); err != nil || got != plain {
			t.Fatalf("got %q, %v", got, err)
		}
	})
}

func TestBrokenCiphertextIsRefused(t *testing.T) {
	t.Parallel()
	k := strings.TrimSpace(key(t, "aes.key"))
	for _, text := range []string{"", "%", "AAAA", base64.StdEncoding.EncodeToString(make([]byte, 16))} {
		if got, err := alipay.Decrypt(k, text); err == nil {
			t.Errorf("%q was decrypted to %q", text, got)
		}
	}
}

// Whatever a request says, a body is what JavaScript would make of it: decoded
// again, it says the same.
func FuzzCompile(f *testing.F) {
	f.Add("alipay.label_send", []byte(labelRequest))
	f.Add("alipay.single_send", []byte(singleRequest))
	f.Fuzz(func(t *testing.T, channel string, body []byte) {
		m, problems := alipay.Adapter{}.Compile(dispatch.Request{Channel: channel, Body: body})
		if (m == nil) == (len(problems) == 0) {
			t.Fatalf("message %v, problems %v", m, problems)
		}
		if m == nil || m.Channel.MaxTargets > len(m.Inline) { // users to come: the call is not the request's document
			return
		}
		got, _ := sent(t, &dispatch.Push{Message: m, DeliveryID: "d-1", Targets: m.Inline})
		var want, back any
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(got), &back); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if diff := cmp.Diff(want, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkLabelSend(b *testing.B) {
	p := newPusher(b, keyMode(b))
	digest := sha256.Sum256([]byte(labelRequest))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := alipay.Authorization(p, "POST", "/v3/alipay/open/public/message/label/send", labelRequest, hex.EncodeToString(digest[:]), signedAt()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileLabelSend(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		compile(b, dispatch.Request{Channel: "alipay.label_send", Body: json.RawMessage(labelRequest)})
	}
}
