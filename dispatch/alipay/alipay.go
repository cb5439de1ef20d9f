// Package alipay sends messages through Alipay's OpenAPI v3: label, total, group
// and single sends.
//
// The client is our own, on the standard library's crypto: there is no official
// Go SDK for this platform, and the unofficial ones do not verify answers.
// Tests compare its bytes with requests that were recorded from the official
// Node SDK.
//
// Alipay has no idempotency key, and a label send has not even a message id. So
// an outcome is classed as unknown whenever the message may have been taken.
package alipay

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

// Adapter is the dispatch.Adapter of provider "alipay". The zero value is ready
// for use.
type Adapter struct{}

var _ dispatch.Adapter = Adapter{}

// weeklyQuota is Alipay's published limit: at most 5 calls a week for each of
// the interfaces that reach many.
const weeklyQuota = 5

// An api is one interface of Alipay and the rules of its requests.
type api struct {
	channel dispatch.Channel
	path    string
	rule    rule
}

const pathPrefix = "/v3/alipay/open/public/message/"

// apis is a list, so that channels are always named in the same order.
var apis = []api{
	{dispatch.Channel{Name: "alipay.label_send", WeeklyQuota: weeklyQuota}, pathPrefix + "label/send", labelSend},
	{dispatch.Channel{Name: "alipay.total_send", WeeklyQuota: weeklyQuota}, pathPrefix + "total/send", totalSend},
	{dispatch.Channel{Name: "alipay.group_send", WeeklyQuota: weeklyQuota}, pathPrefix + "group/send", groupSend},
	{dispatch.Channel{Name: "alipay.single_send", MaxTargets: 1}, pathPrefix + "single/send", singleSend},
}

// Provider returns "alipay".
func (Adapter) Provider() string { return "alipay" }

// Channels returns the four interfaces.
func (Adapter) Channels() []dispatch.Channel {
	channels := make([]dispatch.Channel, len(apis))
	for i, a := range apis {
		channels[i] = a.channel
	}
	return channels
}

func apiOf(channel string) (api, bool) {
	for _, a := range apis {
		if a.channel.Name == channel {
			return a, true
		}
	}
	return api{}, false
}

// Reach implements dispatch.Reacher.
func (p *pusher) Reach(ctx context.Context) error { return p.client.Reach(ctx, p.endpoint) }

// Names of the options.
const (
	optPrivateKey   = "private_key"
	optPublicKey    = "alipay_public_key"
	optAppCert      = "app_cert"
	optAlipayCert   = "alipay_cert"
	optRootCert     = "root_cert"
	optAESKey       = "aes_key"
	optAppAuthToken = "app_auth_token"
)

// Options lists the credentials. Answers are verified with alipay_public_key in
// key mode and with alipay_cert in certificate mode. An app uses one of the two
// modes.
func (Adapter) Options() []dispatch.Option {
	return []dispatch.Option{
		{Name: optPrivateKey, Required: true, Secret: true, Help: "the app's RSA private key, PKCS#1 or PKCS#8, PEM or bare base64"},
		{Name: optPublicKey, Help: "key mode: Alipay's public key (not the app's own), PEM or bare base64"},
		{Name: optAppCert, Help: "certificate mode: the app's certificate, appCertPublicKey_*.crt, PEM"},
		{Name: optAlipayCert, Help: "certificate mode: Alipay's certificate, alipayCertPublicKey_RSA2.crt, PEM"},
		{Name: optRootCert, Help: "certificate mode: Alipay's root certificates, alipayRootCert.crt, PEM"},
		{Name: optAESKey, Secret: true, Help: "turns AES mode on: the key in base64, as the console shows it"},
		{Name: optAppAuthToken, Secret: true, Help: "the merchant's token, when an ISV calls for a merchant"},
	}
}

// New makes the Pusher of one app. Its error names every option at fault and
// never holds the value of one.
func (Adapter) New(s dispatch.Settings) (dispatch.Pusher, error) {
	endpoint, err := httpcall.ParseEndpoint(s.Endpoint)
	c := newCredentials(s)
	if err := errors.Join(append(c.problems, err)...); err != nil {
		return nil, err
	}
	client, err := httpcall.NewClientFor(endpoint, httpcall.Way{Transport: s.Transport, Proxy: s.Proxy, Authorities: s.Authorities})
	if err != nil {
		return nil, err
	}
	now := s.Now
	if now == nil {
		now = time.Now
	}
	return &pusher{
		client:   client,
		endpoint: endpoint,
		signer:   signer{appID: s.AppID, appCertSN: c.appCertSN, authToken: c.authToken, key: c.private},
		redactor: httpcall.NewRedactor(s.Options[optPrivateKey], c.authToken, s.Options[optAESKey]),
		alipay:   c.alipay,
		alipaySN: c.alipayCertSN,
		rootSN:   c.rootCertSN,
		cipher:   c.cipher,
		now:      now,
		nonce:    rand.Text,
	}, nil
}

// credentials are an app's options after reading. An option that cannot be read
// is left zero and named in problems.
type credentials struct {
	options  map[string]string
	problems []error

	private   *rsa.PrivateKey
	alipay    *rsa.PublicKey
	authToken string
	cipher    *bodyCipher

	appCertSN, alipayCertSN, rootCertSN string // certificate mode only
}

func newCredentials(s dispatch.Settings) *credentials {
	c := &credentials{options: s.Options}
	if s.AppID == "" || strings.ContainsFunc(s.AppID, notInAuth) {
		c.problem("app_id", errors.New("must be letters, digits, - and _"))
	}
	c.readPrivateKey()
	if c.has(optAppCert) || c.has(optAlipayCert) || c.has(optRootCert) {
		c.readCertificates()
	} else {
		c.readPublicKey()
	}
	c.readAESKey()
	c.readAppAuthToken()
	return c
}

func (c *credentials) problem(option string, err error) {
	c.problems = append(c.problems, fmt.Errorf("%s %w", option, err))
}

func (c *credentials) has(option string) bool { return strings.TrimSpace(c.options[option]) != "" }

// notInAuth reports the characters that would end a value of the Authorization
// header early.
func notInAuth(r rune) bool {
	return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

var errMissing = errors.New("is missing")

func (c *credentials) readPrivateKey() {
	if !c.has(optPrivateKey) {
		c.problem(optPrivateKey, errMissing)
		return
	}
	key, err := parsePrivateKey(c.options[optPrivateKey])
	if err != nil {
		c.problem(optPrivateKey, err)
	}
	c.private = key
}

func (c *credentials) readPublicKey() {
	if !c.has(optPublicKey) {
		c.problem(optPublicKey, errors.New("is missing; certificate mode takes app_cert, alipay_cert and root_cert instead"))
		return
	}
	key, err := parsePublicKey(c.options[optPublicKey])
	if err != nil {
		c.problem(optPublicKey, err)
		return
	}
	if c.private != nil && c.private.PublicKey.Equal(key) {
		c.problem(optPublicKey, errors.New("is the app's own public key: take Alipay's from the console"))
	}
	c.alipay = key
}

func (c *credentials) readCertificates() {
	if c.has(optPublicKey) {
		c.problem(optPublicKey, errors.New("belongs to key mode and contradicts the certificates: remove one or the other"))
	}
	app := c.certificates(optAppCert)
	alipay := c.certificates(optAlipayCert)
	root := c.certificates(optRootCert)
	if len(root) > 0 {
		c.readRootCerts(root)
	}
	if len(app) > 0 {
		c.readAppCert(app, root)
	}
	if len(alipay) > 0 {
		c.readAlipayCert(alipay, root)
	}
}

// readRootCerts reads the roots. A root that names itself as its issuer must have
// signed itself; otherwise the file is damaged.
func (c *credentials) readRootCerts(root []certificate) {
	for i, r := range root {
		if _, rsa := rsaHashes[r.signature]; rsa && r.selfIssued() && !r.issued(r) {
			c.problem(optRootCert, fmt.Errorf("holds a certificate, the %s of the file, whose own signature does not fit: it was changed or damaged", ordinal(i+1)))
		}
	}
	if c.rootCertSN = rootSN(root); c.rootCertSN == "" {
		c.problem(optRootCert, errors.New("holds no certificate signed with RSA"))
	}
}

func ordinal(n int) string {
	switch {
	case n%100 >= 11 && n%100 <= 13:
	case n%10 == 1:
		return fmt.Sprintf("%dst", n)
	case n%10 == 2:
		return fmt.Sprintf("%dnd", n)
	case n%10 == 3:
		return fmt.Sprintf("%drd", n)
	}
	return fmt.Sprintf("%dth", n)
}

// readAppCert takes the file's leaf certificate, at any place in the file, and
// checks that it is the app's.
func (c *credentials) readAppCert(app, root []certificate) {
	leaf, err := leafOf(app)
	if err != nil {
		c.problem(optAppCert, err)
		return
	}
	c.appCertSN = leaf.sn()
	key, err := leaf.key()
	switch {
	case err != nil:
		c.problem(optAppCert, err)
	case c.private != nil && !c.private.PublicKey.Equal(key):
		c.problem(optAppCert, errors.New("does not belong to private_key"))
	default:
		c.prove(optAppCert, leaf, root, app)
	}
}

// readAlipayCert takes the file's leaf certificate. It checks that the
// certificate is not the app's, and that the same authority issued it.
func (c *credentials) readAlipayCert(alipay, root []certificate) {
	leaf, err := leafOf(alipay)
	if err != nil {
		c.problem(optAlipayCert, err)
		return
	}
	c.alipayCertSN = leaf.sn()
	key, err := leaf.key()
	switch {
	case err != nil:
		c.problem(optAlipayCert, err)
	case c.private != nil && c.private.PublicKey.Equal(key):
		c.problem(optAlipayCert, errors.New("is the app's own certificate: take Alipay's, alipayCertPublicKey_RSA2.crt, from the console"))
	case slices.ContainsFunc(root, leaf.is):
		c.problem(optAlipayCert, errors.New("is one of the root certificates: take Alipay's, alipayCertPublicKey_RSA2.crt, from the console"))
	default:
		c.prove(optAlipayCert, leaf, root, alipay)
	}
	c.alipay = key
}

// prove reports a certificate that is not issued under root_cert. Without roots
// it reports nothing, since missing roots are reported already.
func (c *credentials) prove(option string, leaf certificate, root, between []certificate) {
	if len(root) == 0 {
		return
	}
	if err := issuedUnder(leaf, root, between); err != nil {
		c.problem(option, err)
	}
}

func (c *credentials) certificates(option string) []certificate {
	if !c.has(option) {
		c.problem(option, errors.New("is missing: certificate mode needs app_cert, alipay_cert and root_cert"))
		return nil
	}
	certs, err := parseCertificates(c.options[option])
	if err != nil {
		c.problem(option, err)
	}
	return certs
}

func (c *credentials) readAESKey() {
	if !c.has(optAESKey) {
		return
	}
	cipher, err := newBodyCipher(strings.TrimSpace(c.options[optAESKey]))
	if err != nil {
		c.problem(optAESKey, err)
	}
	c.cipher = cipher
}

func (c *credentials) readAppAuthToken() {
	c.authToken = strings.TrimSpace(c.options[optAppAuthToken])
	if strings.ContainsFunc(c.authToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
		c.problem(optAppAuthToken, errors.New("must be visible ASCII characters"))
	}
}
