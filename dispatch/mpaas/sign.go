package mpaas

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// algorithm is ACS3-HMAC-SHA256 [tested]: a request is signed by its headers, the
// body's hash among them.
const algorithm = "ACS3-HMAC-SHA256"

// A header is one signed header, its name in lower case.
type header struct{ name, value string }

// A signer signs requests with one access key. The action and the body are in
// the headers, so that it serves every call of the API.
type signer struct {
	keyID  string
	secret []byte
}

// authorization returns the Authorization header of a POST to / without a query.
// Headers are sorted by name and bodyHash is the hex SHA-256 of the body.
func (s signer) authorization(headers []header, bodyHash string) string {
	b := make([]byte, 0, 1024)
	b = append(b, "POST\n/\n\n"...)
	for _, h := range headers {
		b = append(append(append(append(b, h.name...), ':'), h.value...), '\n')
	}
	b = append(b, '\n')
	names := len(b)
	for i, h := range headers {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, h.name...)
	}
	signed := string(b[names:])
	b = append(append(b, '\n'), bodyHash...)
	return algorithm + " Credential=" + s.keyID + ",SignedHeaders=" + signed + ",Signature=" + s.signature(b)
}

func (s signer) signature(canonical []byte) string {
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(algorithm + "\n" + hash(canonical)))
	return hex.EncodeToString(mac.Sum(nil))
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
