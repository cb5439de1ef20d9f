package sandbox

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5" // the serial number of a certificate is defined by it
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	alipayScheme = "ALIPAY-SHA256withRSA"
	// alipayWindow is how old a timestamp may be.
	alipayWindow = 10 * time.Minute
)

// alipayAuth is a parsed Authorization header.
type alipayAuth struct {
	signed                          []byte // all before ",sign="
	appID, certSN, nonce, timestamp []byte
	sign                            []byte
}

func parseAlipayAuth(v []byte) (a alipayAuth, ok bool) {
	rest, ok := bytes.CutPrefix(v, []byte(alipayScheme+" "))
	if !ok {
		return a, false
	}
	a.signed, a.sign, ok = bytes.Cut(rest, []byte(",sign="))
	for pair := range bytes.SplitSeq(a.signed, []byte(",")) {
		name, value, _ := bytes.Cut(pair, []byte("="))
		switch string(name) {
		case "app_id":
			a.appID = value
		case "app_cert_sn":
			a.certSN = value
		case "nonce":
			a.nonce = value
		case "timestamp":
			a.timestamp = value
		}
	}
	return a, ok
}

// authenticate verifies that a request is from a known app, is fresh and was
// not changed. The refusal's message goes into the journal.
func (a *alipay) authenticate(c *call) (*AlipayApp, *refusal) {
	auth, ok := parseAlipayAuth(c.header("authorization"))
	c.appID = auth.appID
	if !ok {
		return nil, unauthorized("missing-signature", "the Authorization header is not "+alipayScheme)
	}
	app := a.app(auth.appID)
	if app == nil {
		return nil, unauthorized("invalid-app-id", "unknown app")
	}
	if refused := app.checkCerts(auth.certSN, c.header("alipay-root-cert-sn")); refused != nil {
		return nil, refused
	}
	token := c.header("alipay-app-auth-token")
	if string(token) != app.AuthToken {
		return nil, unauthorized("invalid-app-auth-token", "the app auth token is not this app's")
	}
	if !app.keys.verify(signedText(c, auth.signed, token), auth.sign) {
		return nil, unauthorized("invalid-signature", "the signature does not match")
	}
	ms, err := strconv.ParseInt(string(auth.timestamp), 10, 64)
	if d := a.now().Sub(time.UnixMilli(ms)); err != nil || d > alipayWindow || d < -alipayWindow {
		return nil, unauthorized("invalid-timestamp", "the timestamp is more than 10 minutes off")
	}
	if len(auth.nonce) == 0 || !a.nonces.use(auth.appID, auth.nonce) {
		return nil, unauthorized("suspected-attack", "the nonce was used before")
	}
	return app, nil
}

func unauthorized(code, message string) *refusal {
	return &refusal{http.StatusUnauthorized, code, message}
}

// checkCerts checks the serial numbers of certificate mode.
func (app *AlipayApp) checkCerts(appSN, rootSN []byte) *refusal {
	switch {
	case app.keys.appSN == "" && len(appSN) > 0:
		return unauthorized("app-cert-not-exist", "the app is not in certificate mode")
	case string(appSN) != app.keys.appSN:
		return unauthorized("missing-app-cert-sn", "app_cert_sn is not that of the app's certificate")
	case app.keys.rootSN != "" && string(rootSN) != app.keys.rootSN:
		return unauthorized("invalid-alipay-root-cert-sn", "alipay-root-cert-sn is not that of the root certificates")
	}
	return nil
}

// signedText returns the text that a request's signature covers.
func signedText(c *call, auth, token []byte) []byte {
	b := make([]byte, 0, len(auth)+len(c.path)+len(c.query)+len(c.body)+len(token)+16)
	b = append(append(b, auth...), '\n')
	b = append(append(b, c.method...), '\n')
	b = append(b, c.path...)
	if len(c.query) > 0 {
		b = append(append(b, '?'), c.query...)
	}
	b = append(b, '\n')
	b = append(append(b, c.body...), '\n')
	if len(token) > 0 {
		b = append(append(b, token...), '\n')
	}
	return b
}

func (k *alipayKeys) verify(text, signature []byte) bool {
	raw, err := base64.StdEncoding.AppendDecode(nil, signature)
	if err != nil {
		return false
	}
	sum := sha256.Sum256(text)
	return rsa.VerifyPKCS1v15(k.appPublic, crypto.SHA256, sum[:], raw) == nil
}

func (k *alipayKeys) sign(text []byte) ([]byte, error) {
	sum := sha256.Sum256(text)
	return rsa.SignPKCS1v15(nil, k.alipayPrivate, crypto.SHA256, sum[:])
}

// alipayKeys are an app's keys, parsed.
type alipayKeys struct {
	appPublic     *rsa.PublicKey
	alipayPrivate *rsa.PrivateKey
	block         cipher.Block // nil: bodies are plain

	appSN, rootSN, alipaySN string // empty in key mode
}

func parseAlipayKeys(app AlipayApp) (k *alipayKeys, err error) {
	k = &alipayKeys{}
	if k.alipayPrivate, err = parsePrivateKey(app.AlipayPrivateKey); err != nil {
		return nil, fmt.Errorf("alipay private key: %w", err)
	}
	if k.appPublic, err = parsePublicKey(app); err != nil {
		return nil, fmt.Errorf("app public key: %w", err)
	}
	if app.AppCert != nil {
		if k.appSN, k.rootSN, k.alipaySN, err = serialNumbers(app); err != nil {
			return nil, err
		}
	}
	if app.AESKey != "" {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(app.AESKey))
		if err != nil {
			return nil, errors.New("aes key: not base64")
		}
		if k.block, err = aes.NewCipher(key); err != nil {
			return nil, fmt.Errorf("aes key: %w", err)
		}
	}
	return k, nil
}

func parsePrivateKey(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("neither PKCS#1 nor PKCS#8")
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return private, nil
}

func parsePublicKey(app AlipayApp) (*rsa.PublicKey, error) {
	text := app.AppPublicKey
	if app.AppCert != nil {
		text = app.AppCert
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	var key any
	var err error
	if app.AppCert != nil {
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	} else {
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	if err != nil {
		return nil, err
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return public, nil
}

func serialNumbers(app AlipayApp) (appSN, rootSN, alipaySN string, err error) {
	certs, err := parseCerts(app.AppCert)
	if err == nil && len(certs) == 0 {
		err = errors.New("none in the PEM")
	}
	if err != nil {
		return "", "", "", fmt.Errorf("app certificate: %w", err)
	}
	roots, err := parseCerts(app.RootCerts)
	if err != nil {
		return "", "", "", fmt.Errorf("root certificates: %w", err)
	}
	var sns []string
	for _, c := range roots {
		if strings.HasPrefix(c.algorithm, "1.2.840.113549.1.1") {
			sns = append(sns, c.sn)
		}
	}
	own, err := parseCerts(app.AlipayCert)
	if err != nil {
		return "", "", "", fmt.Errorf("alipay certificate: %w", err)
	}
	if len(own) > 0 {
		alipaySN = own[0].sn
	}
	return certs[0].sn, strings.Join(sns, "_"), alipaySN, nil
}

// A certName names a certificate in the protocol.
type certName struct{ sn, algorithm string }

// parseCerts reads every certificate of a PEM file from its ASN.1, since the
// root file holds some that crypto/x509 does not know the curves of.
func parseCerts(text []byte) ([]certName, error) {
	var certs []certName
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return certs, nil
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := parseCert(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
}

func parseCert(der []byte) (certName, error) {
	var cert struct {
		TBS struct {
			Version      int `asn1:"optional,explicit,default:0,tag:0"`
			Serial       *big.Int
			Algorithm    asn1.RawValue
			Issuer       asn1.RawValue
			Validity     asn1.RawValue
			Subject      asn1.RawValue
			PublicKey    asn1.RawValue
			IssuerUnique asn1.RawValue `asn1:"optional,tag:1"`
			Unique       asn1.RawValue `asn1:"optional,tag:2"`
			Extensions   asn1.RawValue `asn1:"optional,explicit,tag:3"`
		}
		Algorithm struct {
			OID  asn1.ObjectIdentifier
			Rest asn1.RawValue `asn1:"optional"`
		}
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &cert); err != nil {
		return certName{}, err
	}
	issuer, err := formatName(cert.TBS.Issuer.FullBytes)
	if err != nil {
		return certName{}, err
	}
	sum := md5.Sum([]byte(issuer + cert.TBS.Serial.String()))
	return certName{hex.EncodeToString(sum[:]), cert.Algorithm.OID.String()}, nil
}

// formatName writes a distinguished name as CN=…,OU=…,O=…,C=…: the last
// attribute of the certificate comes first.
func formatName(der []byte) (string, error) {
	var name []asn1.RawValue // one SET for each
	if _, err := asn1.Unmarshal(der, &name); err != nil {
		return "", fmt.Errorf("issuer: %w", err)
	}
	var parts []string
	for _, set := range name {
		var attribute struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue
		}
		if _, err := asn1.Unmarshal(set.Bytes, &attribute); err != nil {
			return "", fmt.Errorf("issuer: %w", err)
		}
		parts = append([]string{attributeName(attribute.Type) + "=" + string(attribute.Value.Bytes)}, parts...)
	}
	return strings.Join(parts, ","), nil
}

func attributeName(oid asn1.ObjectIdentifier) string {
	switch oid.String() {
	case "2.5.4.3":
		return "CN"
	case "2.5.4.6":
		return "C"
	case "2.5.4.7":
		return "L"
	case "2.5.4.8":
		return "ST"
	case "2.5.4.10":
		return "O"
	case "2.5.4.11":
		return "OU"
	}
	return oid.String()
}

// decrypt undoes AES-CBC with a zero IV and PKCS#7, in base64.
func (k *alipayKeys) decrypt(text []byte) ([]byte, error) {
	body, err := base64.StdEncoding.AppendDecode(nil, text)
	size := k.block.BlockSize()
	if err != nil || len(body) == 0 || len(body)%size != 0 {
		return nil, errors.New("the body is not base64 of whole blocks")
	}
	cipher.NewCBCDecrypter(k.block, make([]byte, size)).CryptBlocks(body, body)
	pad := int(body[len(body)-1])
	if pad < 1 || pad > size || !bytes.HasSuffix(body, bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errors.New("the padding is wrong: another key?")
	}
	return body[:len(body)-pad], nil
}

func (k *alipayKeys) encrypt(body []byte) []byte {
	size := k.block.BlockSize()
	pad := size - len(body)%size
	padded := append(bytes.Clone(body), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(k.block, make([]byte, size)).CryptBlocks(padded, padded)
	return base64.StdEncoding.AppendEncode(nil, padded)
}
