package textfile_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/textfile"
)

// issue makes a certificate and its key, in PEM form, under an issuer; nil: its own.
func issue(t *testing.T, name string, issuer *x509.Certificate, signer crypto.Signer) (cert *x509.Certificate, key *ecdsa.PrivateKey, certText, keyText string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	if issuer == nil {
		issuer, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	frame := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return cert, key, frame("CERTIFICATE", der), frame("PRIVATE KEY", keyDER)
}

// A listener's certificate is read in every form in which PEM travels, with its
// chain whole and its own certificate first; what cannot be read is refused.
func TestKeyPair(t *testing.T) {
	t.Parallel()
	root, rootKey, rootText, _ := issue(t, "root", nil, nil)
	leaf, leafKey, leafText, key := issue(t, "leaf", root, rootKey)
	_, _, otherText, otherKey := issue(t, "other", nil, nil)
	sec1, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	ecKey := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))
	chain := leafText + rootText
	damaged := leafText + strings.Replace(rootText, "MII", "M!I", 1)
	bare := base64.StdEncoding.EncodeToString(leaf.Raw)
	for name, tt := range map[string]struct {
		cert, key string
		chain     int
		certErr   string
		keyErr    error
	}{
		"as it is":                    {leafText, key, 1, "", nil},
		"a chain":                     {chain, key, 2, "", nil},
		"the issuer first":            {rootText + leafText, key, 2, "", nil},
		"a byte order mark":           {"\ufeff" + chain, "\ufeff" + key, 2, "", nil},
		"CRLF":                        {strings.ReplaceAll(chain, "\n", "\r\n"), strings.ReplaceAll(key, "\n", "\r\n"), 2, "", nil},
		"on one line":                 {strings.ReplaceAll(chain, "\n", " "), strings.ReplaceAll(key, "\n", " "), 2, "", nil},
		"text around":                 {"subject=CN = leaf\n" + chain + "# the end\n", "Bag Attributes\n" + key, 2, "", nil},
		"bare":                        {bare, key, 1, "", nil},
		"an EC key of its own form":   {leafText, "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + ecKey, 1, "", nil},
		"both in one file":            {key + chain, key + chain, 2, "", nil},
		"a damaged chain":             {damaged, key, 0, "a character that does not belong", nil},
		"a chain that was cut":        {chain[:len(chain)-40], key, 0, "no END line", nil},
		"the key's slot":              {key, key, 0, "", textfile.ErrNotItsKey},
		"the key in the chain's slot": {chain + key, ecKey, 0, "only certificates are wanted", nil},
		"the key of another":          {chain, otherKey, 0, "", textfile.ErrNotItsKey},
		"another's certificate":       {otherText, key, 0, "", textfile.ErrNotItsKey},
		"no key":                      {chain, chain, 0, "", textfile.ErrNoKey},
		"two keys":                    {chain, key + otherKey, 0, "", textfile.ErrManyKeys},
		"an encrypted key":            {chain, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGj\n-----END ENCRYPTED PRIVATE KEY-----\n", 0, "", textfile.ErrEncryptedKey},
		"binary":                      {string(leaf.Raw), key, 0, "is binary (DER)", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pair, certErr, keyErr := textfile.KeyPair(tt.cert, tt.key)
			if !strings.Contains(errText(certErr), tt.certErr) || (certErr == nil) != (tt.certErr == "") || !errors.Is(keyErr, tt.keyErr) {
				t.Fatalf("got %v, %v", certErr, keyErr)
			}
			if len(pair.Certificate) != tt.chain || tt.chain > 0 && !bytes.Equal(pair.Certificate[0], leaf.Raw) {
				t.Errorf("%d certificates, want %d with the leaf first", len(pair.Certificate), tt.chain)
			}
			if text := errText(certErr) + errText(keyErr); strings.Contains(text, strings.Split(key, "\n")[1]) {
				t.Error("the error quotes the key")
			}
		})
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	_, _, one, key := issue(t, "one", nil, nil)
	_, _, two, _ := issue(t, "two", nil, nil)
	for text, want := range map[string]int{"\ufeff" + one + two: 2, one: 1, one + key: 1, key: 0, one + strings.Replace(two, "MII", "MI", 1): 0, "": 0} {
		if list, err := textfile.Certificates(text); len(list) != want || (err == nil) != (want > 0) {
			t.Errorf("%d certificates, %v, want %d", len(list), err, want)
		}
	}
}
