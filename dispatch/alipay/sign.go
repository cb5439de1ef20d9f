package alipay

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/textfile"
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

// stringToSign returns the text to sign. Every line ends in a newline, also
// that of an empty body. There is a line for the token only when there is a
// token.
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

// signed reports whether an answer carries a signature. Errors of the gateway
// itself carry none, or the word null.
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

// The errors of this file are fixed texts and positions. Errors of the standard
// library may quote the text that they could not read, which here is a key.
var (
	errEncryptedKey  = errors.New("is encrypted: give the key without a passphrase")
	errPublicKey     = errors.New("holds a public key")
	errPrivateKey    = errors.New("holds a private key")
	errNotRSA        = errors.New("is not an RSA key")
	errBadPrivateKey = errors.New("is not a private key in PKCS#1 or PKCS#8, PEM or bare base64")
	errBadPublicKey  = errors.New("is not a public key in PEM or bare base64")
)

// oneBlock reads a text that holds one key. It returns unread where the text is
// not PEM at all.
func oneBlock(text string, unread error) (textfile.Block, error) {
	blocks, err := textfile.PEM(text)
	switch {
	case err != nil:
		return textfile.Block{}, fmt.Errorf("%w: %w", unread, err)
	case len(blocks) > 1:
		return textfile.Block{}, fmt.Errorf("holds %d blocks, and one key is wanted: the second begins in line %d", len(blocks), blocks[1].Line)
	case blocks[0].Encrypted:
		return textfile.Block{}, errEncryptedKey
	}
	return blocks[0], nil
}

// parsePrivateKey reads an RSA private key in PKCS#1 or PKCS#8, as PEM or as
// bare base64. It ignores the type that the PEM block names.
func parsePrivateKey(text string) (*rsa.PrivateKey, error) {
	block, err := oneBlock(text, errBadPrivateKey)
	if err != nil {
		if strings.Contains(text, "ENCRYPTED") {
			return nil, errEncryptedKey
		}
		return nil, err
	}
	der := block.DER
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if rsaKey, ok := key.(*rsa.PrivateKey); ok {
			return rsaKey, nil
		}
		return nil, errNotRSA
	}
	if _, err := publicKeyFromDER(der); err == nil {
		return nil, errPublicKey
	}
	return nil, errBadPrivateKey
}

// parsePublicKey reads an RSA public key as PEM or as bare base64.
func parsePublicKey(text string) (*rsa.PublicKey, error) {
	block, err := oneBlock(text, errBadPublicKey)
	if err != nil {
		return nil, err
	}
	key, err := publicKeyFromDER(block.DER)
	if errors.Is(err, errBadPublicKey) {
		if _, err := parsePrivateKey(text); err == nil {
			return nil, errPrivateKey
		}
	}
	return key, err
}

func publicKeyFromDER(der []byte) (*rsa.PublicKey, error) {
	if key, err := x509.ParsePKIXPublicKey(der); err == nil {
		if rsaKey, ok := key.(*rsa.PublicKey); ok {
			return rsaKey, nil
		}
		return nil, errNotRSA
	}
	if key, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return key, nil
	}
	return nil, errBadPublicKey
}

// A bodyCipher is Alipay's AES mode: CBC with a zero IV and PKCS#7 padding, the
// key and the ciphertext in base64.
type bodyCipher struct {
	block cipher.Block
}

var (
	errBadAESKey     = errors.New("is not an AES key of 16, 24 or 32 bytes in base64")
	errBadCiphertext = errors.New("the body is not AES ciphertext of this key")
)

func newBodyCipher(key string) (*bodyCipher, error) {
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return nil, errBadAESKey
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, errBadAESKey
	}
	return &bodyCipher{block: block}, nil
}

var zeroIV [aes.BlockSize]byte

func (c *bodyCipher) encrypt(plain []byte) []byte {
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	padded := slices.Concat(plain, bytes.Repeat([]byte{byte(padding)}, padding))
	cipher.NewCBCEncrypter(c.block, zeroIV[:]).CryptBlocks(padded, padded)
	return base64.StdEncoding.AppendEncode(nil, padded)
}

func (c *bodyCipher) decrypt(text []byte) ([]byte, error) {
	plain, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimSpace(text))
	if err != nil || len(plain) == 0 || len(plain)%aes.BlockSize != 0 {
		return nil, errBadCiphertext
	}
	cipher.NewCBCDecrypter(c.block, zeroIV[:]).CryptBlocks(plain, plain)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > aes.BlockSize {
		return nil, errBadCiphertext
	}
	body := plain[:len(plain)-padding]
	if !bytes.Equal(plain[len(body):], bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, errBadCiphertext
	}
	return body, nil
}
