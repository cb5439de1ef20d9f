package alipay

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// scheme begins the Authorization header.
const scheme = "ALIPAY-SHA256withRSA "

// A signer signs the requests of one app.
type signer struct {
	appID     string
	appCertSN string // certificate mode only
	authToken string // the merchant's token when an ISV calls for one
	key       *rsa.PrivateKey
}

// authorization returns the value of the Authorization header for one request.
// uri is the path with its query as sent; body the exact bytes sent.
func (s *signer) authorization(method, uri string, body []byte, nonce string, at time.Time) (string, error) {
	auth := s.auth(nonce, at)
	digest := sha256.Sum256(s.stringToSign(auth, method, uri, body))
	signature, err := rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("sign request: %w", err)
	}
	return scheme + auth + ",sign=" + base64.StdEncoding.EncodeToString(signature), nil
}

func (s *signer) auth(nonce string, at time.Time) string {
	auth := "app_id=" + s.appID
	if s.appCertSN != "" {
		auth += ",app_cert_sn=" + s.appCertSN
	}
	return auth + ",nonce=" + nonce + ",timestamp=" + strconv.FormatInt(at.UnixMilli(), 10)
}

// stringToSign ends every line in a newline, that of an empty body included.
// The token's line is only there when there is a token.
func (s *signer) stringToSign(auth, method, uri string, body []byte) []byte {
	b := make([]byte, 0, len(auth)+len(method)+len(uri)+len(body)+len(s.authToken)+5)
	b = append(append(b, auth...), '\n')
	b = append(append(b, method...), '\n')
	b = append(append(b, uri...), '\n')
	b = append(append(b, body...), '\n')
	if s.authToken != "" {
		b = append(append(b, s.authToken...), '\n')
	}
	return b
}

// Headers of an answer.
const (
	headerTimestamp = "Alipay-Timestamp"
	headerNonce     = "Alipay-Nonce"
	headerSignature = "Alipay-Signature"
	headerSN        = "Alipay-Sn"
	headerTraceID   = "Alipay-Trace-Id"
)

// signed reports whether an answer carries a signature. Errors that the gateway
// makes itself carry none, or the word null.
func signed(h http.Header) bool {
	s := h.Get(headerSignature)
	return s != "" && s != "null"
}

// verify reports whether an answer's signature over its raw body is Alipay's.
func verify(key *rsa.PublicKey, h http.Header, body []byte) bool {
	signature, err := base64.StdEncoding.DecodeString(h.Get(headerSignature))
	if err != nil {
		return false
	}
	timestamp, nonce := h.Get(headerTimestamp), h.Get(headerNonce)
	text := make([]byte, 0, len(timestamp)+len(nonce)+len(body)+3)
	text = append(append(text, timestamp...), '\n')
	text = append(append(text, nonce...), '\n')
	text = append(append(text, body...), '\n')
	digest := sha256.Sum256(text)
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
}
