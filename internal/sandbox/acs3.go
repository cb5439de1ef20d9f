package sandbox

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"
	"strings"
	"sync"
	"time"
)

// signatureOK is the journal's word for a good signature.
const signatureOK = "ok"

// acsWindow is how far x-acs-date may be from the clock, either way.
const acsWindow = 15 * time.Minute

const acsScheme = "ACS3-HMAC-SHA256"

// acsSigned are the headers a signature must cover: one left out could be
// changed on the way.
var acsSigned = []string{
	"content-type", "host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version",
}

// An accessKey is a secret with a stock of prepared HMACs.
type accessKey struct {
	id, token string
	macs      sync.Pool
	apps      map[string]bool // by appKey
	any       bool
}

func newAccessKey(id, secret, token string) *accessKey {
	k := &accessKey{id: id, token: token, apps: map[string]bool{}}
	k.macs.New = func() any { return &acsScratch{mac: hmac.New(sha256.New, []byte(secret))} }
	return k
}

type acsScratch struct {
	mac       hash.Hash
	canonical []byte
	sum       [sha256.Size]byte
	text      [2 * sha256.Size]byte
}

// An acsAuth is a taken-apart Authorization header.
type acsAuth struct{ credential, signedHeaders, signature []byte }

func parseACSAuth(v []byte) (a acsAuth, ok bool) {
	rest, ok := bytes.CutPrefix(v, []byte(acsScheme+" "))
	if !ok {
		return a, false
	}
	for part := range bytes.SplitSeq(rest, []byte(",")) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(part), []byte("="))
		switch string(name) {
		case "Credential":
			a.credential = value
		case "SignedHeaders":
			a.signedHeaders = value
		case "Signature":
			a.signature = value
		}
	}
	return a, len(a.credential) > 0 && len(a.signedHeaders) > 0 && len(a.signature) > 0
}

// verify checks the signature of an ACS3 request, after Alibaba Cloud's
// description of "V3 request body and signature". It returns signatureOK, or
// what is wrong.
func (k *accessKey) verify(w *wire, auth acsAuth, now time.Time) string {
	if reason := k.checkSigned(w, auth.signedHeaders); reason != "" {
		return reason
	}
	scratch, _ := k.macs.Get().(*acsScratch)
	defer k.macs.Put(scratch)
	scratch.sum = sha256.Sum256(w.body)
	if !scratch.equalsHex(w.header("x-acs-content-sha256")) {
		return "x-acs-content-sha256 is not the hash of the body"
	}
	var ok bool
	if scratch.canonical, ok = appendCanonical(scratch.canonical[:0], w, auth.signedHeaders); !ok {
		return "a signed header is missing"
	}
	scratch.sum = sha256.Sum256(scratch.canonical)
	hex.Encode(scratch.text[:], scratch.sum[:])
	scratch.mac.Reset()
	_, _ = scratch.mac.Write([]byte(acsScheme + "\n"))
	_, _ = scratch.mac.Write(scratch.text[:])
	scratch.mac.Sum(scratch.sum[:0])
	if !scratch.equalsHex(auth.signature) {
		return "the signature does not match"
	}
	return checkACSDate(w.header("x-acs-date"), now)
}

// equalsHex compares the scratch's sum with its hexadecimal form.
func (s *acsScratch) equalsHex(want []byte) bool {
	hex.Encode(s.text[:], s.sum[:])
	return hmac.Equal(s.text[:], want)
}

// checkSigned checks that what must be signed is, in order, and that a
// temporary key brings its token.
func (k *accessKey) checkSigned(w *wire, names []byte) string {
	list := strings.Split(string(names), ";")
	if !slices.IsSorted(list) {
		return "SignedHeaders is not sorted"
	}
	for _, name := range acsSigned {
		if !slices.Contains(list, name) {
			return "SignedHeaders lacks " + name
		}
	}
	if k.token == "" {
		return ""
	}
	if string(w.header("x-acs-security-token")) != k.token || string(w.header("x-acs-accesskey-id")) != k.id {
		return "the security token is not this access key's"
	}
	if !slices.Contains(list, "x-acs-security-token") || !slices.Contains(list, "x-acs-accesskey-id") {
		return "SignedHeaders lacks the security token"
	}
	return ""
}

func appendCanonical(b []byte, w *wire, names []byte) ([]byte, bool) {
	b = append(b, w.method...)
	b = append(b, '\n')
	b = append(b, w.path...)
	b = append(b, '\n')
	b = append(b, w.query...) // our calls have none; one that is sorted and encoded already would pass
	b = append(b, '\n')
	for name := range bytes.SplitSeq(names, []byte(";")) {
		value := w.header(string(name))
		if value == nil {
			return b, false
		}
		b = append(b, name...)
		b = append(b, ':')
		b = append(b, value...)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, names...)
	b = append(b, '\n')
	return append(b, w.header("x-acs-content-sha256")...), true
}

func checkACSDate(date []byte, now time.Time) string {
	t, err := time.Parse("2006-01-02T15:04:05Z", string(date))
	if err != nil {
		return "x-acs-date is not of the form 2006-01-02T15:04:05Z"
	}
	if d := now.Sub(t); d > acsWindow || d < -acsWindow {
		return "x-acs-date is more than 15 minutes off"
	}
	return signatureOK
}
