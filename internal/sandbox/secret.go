package sandbox

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const rsaBits = 2048

var errNoSecret = errors.New("no such secret")

func (k *keyring) secret(name string) kept {
	return k.get(name, func() (string, error) { return rand.Text(), nil })
}

func (k *keyring) rsaKey(name string) kept {
	return k.get(name, func() (string, error) {
		key, err := rsa.GenerateKey(rand.Reader, rsaBits)
		if err != nil {
			return "", err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), err
	})
}

// public writes the public half of a private key beside it.
func (k *keyring) public(name string, private kept) kept {
	if k.err != nil {
		return kept{}
	}
	text, err := publicHalf(private.text)
	path := ""
	if err == nil && k.dir != "" {
		path = filepath.Join(filepath.Dir(private.path), name)
		err = writeSecret(path, text)
	}
	if err != nil {
		k.err = fmt.Errorf("%s: %w", name, err)
	}
	return kept{strings.TrimSpace(text), path}
}

func publicHalf(private string) (string, error) {
	key, err := parsePrivateKey([]byte(private))
	if err != nil {
		return "", fmt.Errorf("its private key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), err
}

func readSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errNoSecret
	}
	return string(text), err
}

// writeSecret writes a file that is either whole or not there.
func writeSecret(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", []byte(text+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
