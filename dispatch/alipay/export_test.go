package alipay

import (
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// FixNonce makes a Pusher of ours sign with this nonce, for recorded requests.
func FixNonce(p dispatch.Pusher, nonce string) {
	p.(*pusher).nonce = func() string { return nonce }
}

// Authorization signs any request, also to paths that no channel has.
func Authorization(p dispatch.Pusher, method, uri, body, nonce string, at time.Time) (string, error) {
	return p.(*pusher).signer.authorization(method, uri, []byte(body), nonce, at)
}

// StringToSign is the text under a signature.
func StringToSign(p dispatch.Pusher, auth, method, uri, body string) string {
	return string(p.(*pusher).signer.stringToSign(auth, method, uri, []byte(body)))
}

// CertificateSNs returns the serial number of each certificate of a PEM text,
// and that of the text as a root file.
func CertificateSNs(text string) (sns []string, root string, err error) {
	certs, err := parseCertificates(text)
	for _, c := range certs {
		sns = append(sns, c.sn())
	}
	return sns, rootSN(certs), err
}

// Encrypt and Decrypt are AES mode.
func Encrypt(key, plain string) (string, error) {
	c, err := newBodyCipher(key)
	if err != nil {
		return "", err
	}
	return string(c.encrypt([]byte(plain))), nil
}

func Decrypt(key, text string) (string, error) {
	c, err := newBodyCipher(key)
	if err != nil {
		return "", err
	}
	plain, err := c.decrypt([]byte(text))
	return string(plain), err
}
