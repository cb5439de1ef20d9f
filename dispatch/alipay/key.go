package alipay

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"strings"
)

// The errors of this file are fixed texts: those of the standard library may
// quote what they could not read, and that is a key.
var (
	errEncryptedKey  = errors.New("is encrypted: give the key without a passphrase")
	errPublicKey     = errors.New("holds a public key")
	errPrivateKey    = errors.New("holds a private key")
	errNotRSA        = errors.New("is not an RSA key")
	errBadPrivateKey = errors.New("is not a private key in PKCS#1 or PKCS#8, PEM or bare base64")
	errBadPublicKey  = errors.New("is not a public key in PEM or bare base64")
)

// parsePrivateKey reads an RSA private key in PKCS#1 or PKCS#8, as PEM or as
// bare base64, whatever the PEM block calls it.
func parsePrivateKey(text string) (*rsa.PrivateKey, error) {
	if strings.Contains(text, "ENCRYPTED") {
		return nil, errEncryptedKey
	}
	blocks, err := derBlocks(text)
	if err != nil {
		return nil, errBadPrivateKey
	}
	der := blocks[0]
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
	blocks, err := derBlocks(text)
	if err != nil {
		return nil, errBadPublicKey
	}
	key, err := publicKeyFromDER(blocks[0])
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
