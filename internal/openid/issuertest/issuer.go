// Package issuertest is an OpenID Connect identity provider on loopback for tests.
// It keeps the protocol strictly, and can be told to break it in one way.
package issuertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Client and its secret are those that an Issuer knows.
const (
	Client = "scheduler-console"
	Secret = "a secret & of the client" //nolint:gosec // a test's
)

// An Issuer signs whoever comes to its authorisation endpoint in at once, as the
// person that Person names.
type Issuer struct {
	URL    string
	Server *httptest.Server

	mu       sync.Mutex
	person   map[string]any
	claims   func(map[string]any)                // changes an ID token's claims
	sign     func(i *Issuer, text []byte) string // makes its header and signature; nil: RS256
	document func(map[string]any)                // changes the discovery document
	down     bool
	codes    map[string]grant
	asked    url.Values // of the last authorisation
	rsa      *rsa.PrivateKey
	ec       *ecdsa.PrivateKey
	calls    map[string]int
}

// A grant is what a code stands for.
type grant struct {
	asked  url.Values
	person map[string]any
}

// New starts an Issuer, over TLS where secure says so.
func New(tb testing.TB, secure bool) *Issuer {
	tb.Helper()
	i := &Issuer{codes: map[string]grant{}, calls: map[string]int{}, person: map[string]any{"sub": "nobody"}}
	i.rsa, i.ec = keys()
	stranger() // made now, and not while somebody waits for an answer
	mux := http.NewServeMux()
	for path, serve := range map[string]func(http.ResponseWriter, *http.Request){
		"GET /.well-known/openid-configuration": i.serveDocument, "GET /authorize": i.serveAuthorize, "POST /token": i.serveToken, "GET /keys": i.serveKeys,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			i.mu.Lock()
			defer i.mu.Unlock()
			i.calls[r.URL.Path]++
			if i.down {
				http.Error(w, "down", http.StatusServiceUnavailable)
				return
			}
			serve(w, r)
		})
	}
	if secure {
		i.Server = httptest.NewTLSServer(mux)
	} else {
		i.Server = httptest.NewServer(mux)
	}
	tb.Cleanup(i.Server.Close)
	i.URL = i.Server.URL
	return i
}

// keys of every Issuer, until it is given others: to make them takes long.
var keys = sync.OnceValues(newKeys)

// stranger has keys of nobody's.
var stranger = sync.OnceValues(newKeys)

func newKeys() (*rsa.PrivateKey, *ecdsa.PrivateKey) {
	first, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	second, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return first, second
}

// NewKeys gives the Issuer other keys.
func (i *Issuer) NewKeys() { i.set(func() { i.rsa, i.ec = newKeys() }) }

// Person sets who signs in from now on, by the claims of the ID token.
func (i *Issuer) Person(claims map[string]any) { i.set(func() { i.person = claims }) }

// Claims changes the claims of ID tokens from now on; nil: no more.
func (i *Issuer) Claims(change func(map[string]any)) { i.set(func() { i.claims = change }) }

// Sign has ID tokens signed in another way from now on; nil: with RS256.
func (i *Issuer) Sign(sign func(i *Issuer, claims []byte) string) { i.set(func() { i.sign = sign }) }

// Document changes the discovery document from now on; nil: no more.
func (i *Issuer) Document(change func(map[string]any)) { i.set(func() { i.document = change }) }

// Down has the Issuer answer nothing but 503.
func (i *Issuer) Down(down bool) { i.set(func() { i.down = down }) }

// Asked are the parameters of the last authorisation.
func (i *Issuer) Asked() (asked url.Values) { i.set(func() { asked = i.asked }); return asked }

// Calls counts the calls of a path.
func (i *Issuer) Calls(path string) (n int) { i.set(func() { n = i.calls[path] }); return n }

func (i *Issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *Issuer) serveDocument(w http.ResponseWriter, _ *http.Request) {
	document := map[string]any{
		"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
		"end_session_endpoint": i.URL + "/logout?theme=plain", "id_token_signing_alg_values_supported": []string{"RS256", "ES256", "HS256", "none"},
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "code_challenge_methods_supported": []string{"plain", "S256"},
	}
	if i.document != nil {
		i.document(document)
	}
	answer(w, http.StatusOK, document)
}

func (i *Issuer) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	i.asked = q
	if q.Get("client_id") != Client || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("state") == "" || q.Get("nonce") == "" {
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	i.codes[code] = grant{q, i.person}
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	}
	back.RawQuery = url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {i.URL}}.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (i *Issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	id, secret, ok := r.BasicAuth()
	if id, _ = url.QueryUnescape(id); !ok || id != Client {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	if secret, _ = url.QueryUnescape(secret); secret != Secret {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	code := r.PostFormValue("code")
	g, known := i.codes[code]
	delete(i.codes, code)
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !known || r.PostFormValue("redirect_uri") != g.asked.Get("redirect_uri") || base64.RawURLEncoding.EncodeToString(challenge[:]) != g.asked.Get("code_challenge") {
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	now := time.Now()
	claims := map[string]any{"iss": i.URL, "aud": Client, "nonce": g.asked.Get("nonce"), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	maps.Copy(claims, g.person)
	if i.claims != nil {
		i.claims(claims)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	sign := i.sign
	if sign == nil {
		sign = (*Issuer).RS256
	}
	answer(w, http.StatusOK, map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 300, "id_token": sign(i, text)})
}

func (i *Issuer) serveKeys(w http.ResponseWriter, _ *http.Request) {
	point, err := i.ec.PublicKey.Bytes()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, map[string]any{"keys": []map[string]any{
		{"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": encode(i.rsa.N.Bytes()), "e": encode(big.NewInt(int64(i.rsa.E)).Bytes())},
		{"kty": "EC", "kid": "e", "use": "sig", "alg": "ES256", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:65])},
	}})
}

// RS256 signs claims with the Issuer's RSA key.
func (i *Issuer) RS256(claims []byte) string { return signRSA(i.rsa, claims) }

// ES256 signs claims with the Issuer's EC key.
func (i *Issuer) ES256(claims []byte) string {
	text := unsigned("ES256", "e", claims)
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.ec, digest[:])
	if err != nil {
		return err.Error()
	}
	return text + "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// Stranger signs claims with a key that is not the Issuer's, under the name of
// one that is.
func (i *Issuer) Stranger(claims []byte) string {
	key, _ := stranger()
	return signRSA(key, claims)
}

// None leaves claims unsigned.
func (i *Issuer) None(claims []byte) string { return unsigned("none", "", claims) + "." }

// HS256 signs claims with the client's secret.
func (i *Issuer) HS256(claims []byte) string {
	text := unsigned("HS256", "r", claims)
	mac := hmac.New(sha256.New, []byte(Secret))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

// Changed signs other claims than it gives.
func (i *Issuer) Changed(claims []byte) string {
	signed := i.RS256([]byte(`{}`))
	return unsigned("RS256", "r", claims) + signed[len(unsigned("RS256", "r", []byte(`{}`))):]
}

func signRSA(key *rsa.PrivateKey, claims []byte) string {
	text := unsigned("RS256", "r", claims)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return err.Error()
	}
	return text + "." + encode(signature)
}

func unsigned(algorithm, key string, claims []byte) string {
	header := map[string]string{"alg": algorithm}
	if key != "" {
		header["kid"] = key
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err.Error()
	}
	return encode(text) + "." + encode(claims)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
