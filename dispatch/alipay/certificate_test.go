package alipay_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
)

// An authority is a certificate and its key.
type authority struct {
	cert *x509.Certificate
	key  *rsa.PrivateKey
	pem  string
}

// issue makes a certificate of a name, signed by issuer or, with nil, by itself.
func issue(t *testing.T, name string, issuer *authority) *authority {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Country: []string{"CN"}, CommonName: name},
		NotBefore: time.Unix(1700000000, 0), NotAfter: time.Unix(1900000000, 0),
	}
	parent, signer := template, crypto.Signer(key)
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

func (a *authority) keyPEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(a.key)}))
}

// Every certificate is proved to be what its setting says.
func TestCertificatesAreProved(t *testing.T) {
	t.Parallel()
	root1, root2, root3 := issue(t, "root 1", nil), issue(t, "root 2", nil), issue(t, "root 3", nil)
	namesake := issue(t, "root 1", nil)
	class := issue(t, "class 2", root2)
	app, ali := issue(t, "app", root1), issue(t, "ali", root1)
	deepApp, deepAli := issue(t, "app", class), issue(t, "ali", class)
	stranger, twin := issue(t, "stranger", issue(t, "elsewhere", nil)), issue(t, "ali", namesake)
	roots := root1.pem + root2.pem + root3.pem
	damage := func(s string, at int) string {
		block, _ := pem.Decode([]byte(s))
		der := bytes.Clone(block.Bytes)
		der[len(der)-at] ^= 1
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	for name, tt := range map[string]struct {
		key                    *authority
		appCert, aliCert, root string
		want                   string // in the error; empty: none
	}{
		"as it should be":            {app, app.pem, ali.pem, roots, ""},
		"CRLF":                       {app, strings.ReplaceAll(app.pem, "\n", "\r\n"), ali.pem, strings.ReplaceAll(roots, "\n", "\r\n"), ""},
		"byte order marks":           {app, "\ufeff" + app.pem, "\ufeff" + ali.pem, "\ufeff" + root1.pem + "\ufeff" + root2.pem, ""},
		"joined":                     {app, app.pem, ali.pem, strings.ReplaceAll(roots, "\n", ""), ""},
		"leaf first":                 {deepApp, deepApp.pem + class.pem, deepAli.pem + class.pem, roots, ""},
		"issuer first":               {deepApp, class.pem + deepApp.pem, class.pem + deepAli.pem, roots, ""},
		"with the root":              {deepApp, root2.pem + class.pem + deepApp.pem, deepAli.pem + class.pem + root2.pem, roots, ""},
		"issuer among the roots":     {deepApp, deepApp.pem, deepAli.pem, roots + class.pem, ""},
		"the app's own as Alipay's":  {app, app.pem, app.pem, roots, "alipay_cert is the app's own certificate"},
		"Alipay's as the app's":      {app, ali.pem, ali.pem, roots, "app_cert does not belong to private_key"},
		"a root as Alipay's":         {app, app.pem, root1.pem, roots, "alipay_cert is one of the root certificates"},
		"a stranger as Alipay's":     {app, app.pem, stranger.pem, roots, `alipay_cert is not issued under root_cert: no certificate of its issuer, "elsewhere"`},
		"other roots":                {app, app.pem, ali.pem, root2.pem + root3.pem, "is not issued under root_cert"},
		"an issuer of the same name": {app, app.pem, twin.pem, roots, "has the issuer's name, \"root 1\", but did not sign it"},
		"no issuer":                  {deepApp, deepApp.pem, deepAli.pem, roots, "append the issuer's certificate to the file"},
		"two leaves":                 {app, app.pem, ali.pem + app.pem, roots, "alipay_cert holds 2 certificates that are not of one chain"},
		"a damaged root":             {app, app.pem, ali.pem, root1.pem + damage(root2.pem, 9) + root3.pem, "root_cert holds a certificate, the 2nd of the file, whose own signature does not fit"},
		"a damaged leaf":             {app, app.pem, damage(ali.pem, 9), roots, "alipay_cert is not issued under root_cert"},
		"a key among the roots":      {app, app.pem, ali.pem, roots + app.keyPEM(), "and only certificates are wanted here"},
		"a root without END":         {app, app.pem, ali.pem, root1.pem + strings.Replace(root2.pem, "-----END CERTIFICATE-----\n", "", 1) + root3.pem, "has no END line"},
		"a lost character":           {app, app.pem, ali.pem, root1.pem + strings.Replace(root2.pem, "MII", "M!I", 1) + root3.pem, "a character that does not belong"},
		"itself as its root":         {app, app.pem, namesake.pem, namesake.pem, "alipay_cert is one of the root certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := alipay.Adapter{}.New(dispatch.Settings{AppID: "2021", Endpoint: "https://a.example", Options: map[string]string{
				"private_key": tt.key.keyPEM(), "app_cert": tt.appCert, "alipay_cert": tt.aliCert, "root_cert": tt.root,
			}})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
