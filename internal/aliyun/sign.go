package aliyun

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what V1 of the service's signature is made of
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"slices"
	"strings"
	"sync"
	"time"
)

// Window is how far the time of a request may be before or after the server's
// clock.
const Window = 15 * time.Minute

const timeFormat = "2006-01-02T15:04:05Z"

// A Key is an access key. It is safe for concurrent use.
type Key struct {
	ID    string
	token string
	// Prepared HMACs are kept, since to prepare one costs more than to sign with it.
	v1, acs3 sync.Pool
}

// NewKey makes a Key. If token (of STS) is not empty, each call of the key must
// carry it. If token is empty, the token of a call is ignored.
func NewKey(id, secret, token string) *Key {
	k := &Key{ID: id, token: token}
	k.v1.New = func() any { return hmac.New(sha1.New, []byte(secret+"&")) }
	k.acs3.New = func() any { return hmac.New(sha256.New, []byte(secret)) }
	return k
}

func sum(pool *sync.Pool, text []byte) []byte {
	mac, _ := pool.Get().(hash.Hash)
	defer pool.Put(mac)
	mac.Reset()
	_, _ = mac.Write(text)
	return mac.Sum(nil)
}

// Verify checks the time and the signature of the call, and returns its key. find
// returns the key of an access key id, or nil when the id is unknown. Verify does
// not remember nonces: after it, the caller must refuse a nonce that was used.
func (c *Call) Verify(find func(id string) *Key, now time.Time) (*Key, *Error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	key := find(c.KeyID)
	if key == nil {
		return nil, errNoKey
	}
	if err := checkTime(c.Timestamp, now); err != nil {
		return nil, err
	}
	check := c.verifyV1
	if c.acs != nil {
		check = c.verifyACS3
	}
	if err := check(key); err != nil {
		return nil, err
	}
	if key.token != "" && subtle.ConstantTimeCompare([]byte(key.token), []byte(c.Token)) != 1 {
		return nil, errToken
	}
	return key, nil
}

func (c *Call) complete() *Error {
	for _, p := range []Param{
		{"Action", c.Action},
		{"Version", c.Version},
		{"AccessKeyId", c.KeyID},
		{"Timestamp", c.Timestamp},
		{"SignatureNonce", c.Nonce},
		{"Signature", c.signature},
	} {
		if p.Value == "" {
			return missing(p.Name)
		}
	}
	if len(c.Nonce) > maxNonce {
		return &Error{errMalformed.Status, errMalformed.Code, "The SignatureNonce is longer than 256 bytes."}
	}
	return nil
}

func checkTime(text string, now time.Time) *Error {
	t, err := time.Parse(timeFormat, text)
	if err != nil || len(text) != len(timeFormat) { // Parse accepts fractions of a second that the layout does not have
		return errTimeFormat
	}
	if d := now.Sub(t); d > Window || d < -Window {
		return errExpired
	}
	return nil
}

///////////////////////////////////////////////////////////////////////////// V1

// decodeV1 reads query and form as one set, which the signature covers.
func (c *Call) decodeV1() *Error {
	all, err := c.form(c.query)
	if err != nil {
		return err
	}
	if err := all.sort(); err != nil {
		return err
	}
	c.params = all
	c.Format = XML
	if strings.EqualFold(all.Get("Format"), "JSON") {
		c.Format = JSON
	}
	c.Action, c.Version, c.KeyID = all.Get("Action"), all.Get("Version"), all.Get("AccessKeyId")
	c.Token, c.Nonce, c.Timestamp = all.Get("SecurityToken"), all.Get("SignatureNonce"), all.Get("Timestamp")
	c.signature = all.Get("Signature")
	if c.signature == "" {
		return nil // complete reports this in better words
	}
	if all.Get("SignatureMethod") != "HMAC-SHA1" || all.Get("SignatureVersion") != "1.0" || all.Get("SignatureType") != "" {
		return errMethodOfSign
	}
	return nil
}

// verifyV1 accepts a signature with the parameters whose values are empty, and one
// without them. Clients differ in this, and an empty value means nothing.
func (c *Call) verifyV1(key *Key) *Error {
	with, without := make(Params, 0, len(c.params)), make(Params, 0, len(c.params))
	for _, p := range c.params {
		if p.Name == "Signature" {
			continue
		}
		with = append(with, p)
		if p.Value != "" {
			without = append(without, p)
		}
	}
	text := c.textV1(with)
	if key.signedV1(text, c.signature) || len(without) < len(with) && key.signedV1(c.textV1(without), c.signature) {
		return nil
	}
	return notMatched(string(text))
}

func (c *Call) textV1(p Params) []byte {
	joined := string(p.appendCanonical(make([]byte, 0, 2*len(c.request.Body)+1024)))
	b := append(make([]byte, 0, len(joined)+len(joined)/2), c.request.Method...)
	return appendEncoded(append(b, "&%2F&"...), joined)
}

func (k *Key) signedV1(text []byte, signature string) bool {
	want := base64.StdEncoding.EncodeToString(sum(&k.v1, text))
	return subtle.ConstantTimeCompare([]byte(want), []byte(signature)) == 1
}

/////////////////////////////////////////////////////////////////////////// ACS3

const scheme = "ACS3-HMAC-SHA256"

// An authorization is a parsed Authorization header.
type authorization struct {
	credential, signedHeaders, signature string
	names                                []string // of the signed headers
}

// mustBeSigned are the headers that a Call is read from. A header that the
// signature does not cover could be changed on the way.
var mustBeSigned = []string{"x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"}

// decodeACS3 reads the headers. The signature covers the hash of the body, so the
// body is parsed only after it is verified.
func (c *Call) decodeACS3(header string) *Error {
	a, ok := parseAuthorization(header)
	if !ok {
		return errAuthorization
	}
	c.acs = a
	c.KeyID, c.signature = a.credential, a.signature
	c.Action, _ = c.request.one("x-acs-action")
	c.Version, _ = c.request.one("x-acs-version")
	c.Timestamp, _ = c.request.one("x-acs-date")
	c.Nonce, _ = c.request.one("x-acs-signature-nonce")
	c.Token, _ = c.request.one("x-acs-security-token")
	return c.query.sort()
}

func parseAuthorization(header string) (*authorization, bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(header), scheme+" ")
	if !ok {
		return nil, false
	}
	a := &authorization{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var to *string
		switch name {
		case "Credential":
			to = &a.credential
		case "SignedHeaders":
			to = &a.signedHeaders
		case "Signature":
			to = &a.signature
		}
		if to == nil || *to != "" || value == "" {
			return nil, false
		}
		*to = value
	}
	if a.credential == "" || a.signedHeaders == "" || a.signature == "" || strings.Count(a.signedHeaders, ";") >= maxSigned {
		return nil, false
	}
	a.names = strings.Split(a.signedHeaders, ";") // SplitN would allocate for maxSigned names
	return a, true
}

// SignedHeaders returns the names of the headers that an ACS3 signature covers. It
// returns nil for a V1 signature, which covers parameters and no header.
func (c *Call) SignedHeaders() []string {
	if c.acs == nil {
		return nil
	}
	return c.acs.names
}

func (c *Call) verifyACS3(key *Key) *Error {
	for i, name := range c.acs.names {
		if slices.Contains(c.acs.names[:i], name) {
			return errAuthorization
		}
	}
	for _, name := range mustBeSigned {
		if !slices.Contains(c.acs.names, name) {
			return &Error{errAuthorization.Status, errAuthorization.Code, "The signature does not cover the header " + name + "."}
		}
	}
	if c.Token != "" && !slices.Contains(c.acs.names, "x-acs-security-token") {
		return &Error{errAuthorization.Status, errAuthorization.Code, "The signature does not cover the header x-acs-security-token."}
	}
	declared, _ := c.request.one("x-acs-content-sha256")
	if body := sha256.Sum256(c.request.Body); !equalsHex(body[:], declared) {
		return errBodyHash
	}
	text, err := c.textACS3(declared, c.query.appendCanonical(nil))
	if err != nil {
		return err
	}
	if key.signedACS3(text, c.acs.signature) {
		return nil
	}
	if bare, ok := c.query.appendBareNames(nil); ok {
		if other, err := c.textACS3(declared, bare); err == nil && key.signedACS3(other, c.acs.signature) {
			return nil
		}
	}
	return notMatched(string(text))
}

func (k *Key) signedACS3(text []byte, signature string) bool {
	return equalsHex(sum(&k.acs3, text), signature)
}

// equalsHex says whether text is the hash in lower-case hexadecimal. The time it
// takes does not tell where they differ.
func equalsHex(hash []byte, text string) bool {
	return subtle.ConstantTimeCompare(hex.AppendEncode(make([]byte, 0, 2*sha256.Size), hash), []byte(text)) == 1
}

// textACS3 returns the text that is signed: the scheme and the hash of the
// canonical request. The canonical request is the method, the path, the query, the
// listed headers in the order of the list, the list itself, and the hash of the
// body.
func (c *Call) textACS3(bodyHash string, query []byte) ([]byte, *Error) {
	b := make([]byte, 0, 1024)
	b = append(append(b, c.request.Method...), "\n/\n"...)
	b = append(append(b, query...), '\n')
	for _, name := range c.acs.names {
		value, ok := c.request.one(name)
		if !ok {
			return nil, &Error{errAuthorization.Status, errAuthorization.Code, "The signed header " + clip(name) + " is missing, or there are several."}
		}
		b = append(append(append(append(b, name...), ':'), value...), '\n')
	}
	b = append(b, '\n')
	b = append(append(b, c.acs.signedHeaders...), '\n')
	b = append(b, bodyHash...)
	hashed := sha256.Sum256(b)
	return hex.AppendEncode([]byte(scheme+"\n"), hashed[:]), nil
}

// SignURL returns a call as a URL with a V1 signature. The URL can be used once,
// until Window after now. It is for a person to paste, and for the doctor to check
// the listener.
func SignURL(endpoint string, key *Key, action string, params map[string]string, nonce string, now time.Time) string {
	all := Params{
		{"AccessKeyId", key.ID},
		{"Action", action},
		{"Format", "JSON"},
		{"SignatureMethod", "HMAC-SHA1"},
		{"SignatureNonce", nonce},
		{"SignatureVersion", "1.0"},
		{"Timestamp", now.UTC().Format(timeFormat)},
		{"Version", "2020-10-28"},
	}
	if key.token != "" {
		all = append(all, Param{"SecurityToken", key.token})
	}
	for name, value := range params {
		if i := slices.IndexFunc(all, func(p Param) bool { return p.Name == name }); i >= 0 {
			all[i].Value = value
			continue
		}
		all = append(all, Param{name, value})
	}
	slices.SortFunc(all, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })
	query := string(all.appendCanonical(nil))
	signature := base64.StdEncoding.EncodeToString(sum(&key.v1, appendEncoded([]byte("GET&%2F&"), query)))
	return endpoint + "/?" + query + "&Signature=" + string(appendEncoded(nil, signature))
}
