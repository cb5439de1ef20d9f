package alipay

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/campaign-scheduler/scheduler/internal/textfile"
)

// The errors of this file are fixed texts and places: those of the standard
// library may quote what they could not read, and that is a key.
var (
	errEncryptedKey  = errors.New("is encrypted: give the key without a passphrase")
	errPublicKey     = errors.New("holds a public key")
	errPrivateKey    = errors.New("holds a private key")
	errNotRSA        = errors.New("is not an RSA key")
	errBadPrivateKey = errors.New("is not a private key in PKCS#1 or PKCS#8, PEM or bare base64")
	errBadPublicKey  = errors.New("is not a public key in PEM or bare base64")
)

// oneBlock reads a text that holds one key. unread is what the text is not, for
// one that is no PEM at all.
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
// bare base64, whatever the PEM block calls it.
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
