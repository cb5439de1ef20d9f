package sandbox

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"
)

const (
	alipayScheme = "ALIPAY-SHA256withRSA"
	// alipayWindow is how old a timestamp may be.
	alipayWindow = 10 * time.Minute
)

// alipayAuth is a taken-apart Authorization header.
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

// authenticate verifies a request: who it is from, that it is fresh and that
// nothing in it was changed. The refusal's message goes into the journal.
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

// signedText is the text that a request's signature is over.
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
