package mpaas

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	stdhash "hash"
	"sync"

	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

// algorithm is ACS3-HMAC-SHA256 [tested]: a request is signed by its headers, the
// body's hash among them.
const algorithm = "ACS3-HMAC-SHA256"

// A signer signs requests with one access key. The action and the body are in
// the headers, so that it serves every call of the API.
type signer struct {
	keyID string
	// macs are ready for the next text: to prepare one for the key costs more
	// than to sign with it.
	macs *sync.Pool
}

func newSigner(keyID, secret string) signer {
	return signer{keyID, &sync.Pool{New: func() any { return hmac.New(sha256.New, []byte(secret)) }}}
}

// authorization returns the Authorization header of a POST to / without a query.
// Headers are sorted by name and bodyHash is the hex SHA-256 of the body.
func (s signer) authorization(headers []httpcall.Field, bodyHash string) string {
	b := make([]byte, 0, 1024)
	b = append(b, "POST\n/\n\n"...)
	for _, h := range headers {
		b = append(append(append(append(b, h.Name...), ':'), h.Value...), '\n')
	}
	b = append(b, '\n')
	names := len(b)
	for i, h := range headers {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, h.Name...)
	}
	signed := string(b[names:])
	b = append(append(b, '\n'), bodyHash...)
	return algorithm + " Credential=" + s.keyID + ",SignedHeaders=" + signed + ",Signature=" + s.signature(b)
}

func (s signer) signature(canonical []byte) string {
	mac := s.macs.Get().(stdhash.Hash)
	defer s.macs.Put(mac)
	mac.Reset()
	text := make([]byte, 0, len(algorithm)+1+2*sha256.Size)
	text = append(append(text, algorithm...), '\n')
	sum := sha256.Sum256(canonical)
	mac.Write(hex.AppendEncode(text, sum[:]))
	return hex.EncodeToString(mac.Sum(sum[:0]))
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
