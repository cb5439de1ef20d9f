package textfile

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Certificates returns every certificate of a PEM text, in order; there is at least
// one. A private key may stand beside them, as some programs keep both in one file.
func Certificates(text string) ([]*x509.Certificate, error) {
	blocks, err := PEM(text)
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for _, b := range blocks {
		if isKey(b.Type) {
			continue
		}
		c, err := b.certificate()
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errNoCertificate
	}
	return list, nil
}

// certificate reads the certificate that a block holds.
func (b *Block) certificate() (*x509.Certificate, error) {
	if b.Type != certificate && b.Type != "" {
		return nil, fmt.Errorf("line %d: a %s, and only certificates are wanted here", b.Line, b.Type)
	}
	c, err := x509.ParseCertificate(b.DER)
	if err != nil {
		return nil, fmt.Errorf("line %d: this is no certificate", b.Line)
	}
	return c, nil
}

const certificate = "CERTIFICATE"

var errNoCertificate = errors.New("there is no certificate in it")

// Errors of KeyPair.
var (
	ErrEncryptedKey = errors.New("the key is encrypted: give it without a passphrase, for example with openssl pkey")
	ErrNoKey        = errors.New("there is no private key in it")
	ErrManyKeys     = errors.New("there is more than one private key in it")
	ErrNotItsKey    = errors.New("the key belongs to none of the certificates")
)

// KeyPair reads a certificate with its chain, and its key: PEM texts, or one text
// with both, given twice. The certificate of the key may be at any place in the
// text; its chain follows it in the text's order. certErr and keyErr say which of
// the two cannot be read.
func KeyPair(certText, keyText string) (pair tls.Certificate, certErr, keyErr error) {
	certBlocks, certErr := PEM(certText)
	keyBlocks, keyErr := PEM(keyText)
	if certErr != nil || keyErr != nil {
		return tls.Certificate{}, certErr, keyErr
	}
	key, keyErr := onlyKey(keyBlocks)
	if keyErr != nil {
		return tls.Certificate{}, nil, keyErr
	}
	var chain [][]byte
	for _, b := range certBlocks {
		if isKey(b.Type) && certText == keyText || b.Type == parameters {
			continue
		}
		if _, err := b.certificate(); err != nil {
			return tls.Certificate{}, err, nil
		}
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: certificate, Bytes: b.DER}))
	}
	for i, leaf := range chain {
		ordered := append([][]byte{leaf}, slices.Delete(slices.Clone(chain), i, i+1)...)
		if pair, err := tls.X509KeyPair(slices.Concat(ordered...), key); err == nil {
			return pair, nil, nil
		}
	}
	return tls.Certificate{}, nil, ErrNotItsKey
}

const parameters = "EC PARAMETERS" // openssl writes them before a key

func isKey(kind string) bool { return kind == "PRIVATE KEY" || strings.HasSuffix(kind, " PRIVATE KEY") }

// onlyKey returns the one private key of a text, as crypto/tls reads it.
func onlyKey(blocks []Block) ([]byte, error) {
	var found []byte
	for _, b := range blocks {
		switch {
		case b.Encrypted:
			return nil, ErrEncryptedKey
		case !isKey(b.Type) && b.Type != "": // a certificate beside it
			continue
		case found != nil:
			return nil, ErrManyKeys
		}
		kind := b.Type
		if kind == "" {
			kind = "PRIVATE KEY"
		}
		found = pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b.DER})
	}
	if found == nil {
		return nil, ErrNoKey
	}
	return found, nil
}
