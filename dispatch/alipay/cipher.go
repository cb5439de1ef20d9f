package alipay

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"slices"
)

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
