package sandbox

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config configures a Sandbox. The zero value listens on a free port of
// 127.0.0.1, knows no app and keeps its journal in memory.
type Config struct {
	// Listen is the TCP address, on loopback. Empty: 127.0.0.1:0.
	Listen string
	// MaxConns bounds the connections, as in listen.Config. Zero: 4096.
	MaxConns int
	// ReadTimeout bounds the reading of a request. Zero: the default of listen.Config.
	ReadTimeout time.Duration
	// Apps are the credentials that calls may carry.
	Apps Apps
	// JournalPath is the file that calls are appended to. Empty: memory only.
	JournalPath string
	// JournalDetail says how much of each call is kept. Empty: Full.
	JournalDetail Detail
	// Ring is the number of latest lines that are kept in memory. Zero: 4096 if there
	// is a file, else 65536.
	Ring int
	// Faults are the faults at the start; see ParseFaults.
	Faults []*Fault
	// Seed decides which calls have faults. Runs with the same seed have the same
	// faults.
	Seed uint64
	// WeeklyQuota is the number of label sends, of total sends and of group sends that
	// an Alipay app may make in any rolling 7 × 24 h. Zero: the documented 5.
	// Negative: no limit.
	WeeklyQuota int
	// Now returns the time by which requests are judged. Nil: time.Now.
	Now func() time.Time
	// Logger takes the errors of the sandbox itself. Nil: they are not logged.
	Logger *slog.Logger
}

const documentedQuota = 5

func (c Config) withDefaults() Config {
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:0")
	c.MaxConns = cmp.Or(c.MaxConns, 4096)
	c.JournalDetail = cmp.Or(c.JournalDetail, Full)
	c.WeeklyQuota = cmp.Or(c.WeeklyQuota, documentedQuota)
	if c.JournalPath == "" {
		c.Ring = cmp.Or(c.Ring, 1<<16)
	}
	c.Ring = cmp.Or(c.Ring, 1<<12)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) check() error {
	var problems []error
	switch c.JournalDetail {
	case Full, Brief, Off:
	default:
		problems = append(problems, fmt.Errorf("journal detail %q: want full, brief or off", c.JournalDetail))
	}
	if c.Ring < 1 {
		problems = append(problems, errors.New("ring: want at least one line"))
	}
	return errors.Join(append(problems, checkFaults(c.Faults))...)
}

// AnyApp as an app id makes credentials valid for every app. Load and chaos
// tests spread their campaigns over many apps.
const AnyApp = "*"

// Apps are the apps that the sandbox knows.
type Apps struct {
	MPaaS   []MPaaSApp
	Alipay  []AlipayApp
	Webhook []WebhookApp
}

// An MPaaSApp is an app with the access key that may push to it. Several apps
// may share one access key, with the same secret and token.
type MPaaSApp struct {
	AppID           string // or AnyApp, which also means every workspace
	WorkspaceID     string
	AccessKeyID     string
	AccessKeySecret string
	// SecurityToken makes the key a temporary one (STS). Empty: a permanent key.
	SecurityToken string
}

// An AlipayApp is an app with its keys.
type AlipayApp struct {
	AppID string // or AnyApp
	// AppPublicKey verifies requests: PEM of a PKIX public key. Not needed in
	// certificate mode.
	AppPublicKey []byte
	// AppCert and RootCerts (PEM) turn certificate mode on: requests must name
	// their serial numbers.
	AppCert, RootCerts []byte
	// AlipayPrivateKey signs answers: PEM of a PKCS#8 or PKCS#1 key.
	AlipayPrivateKey []byte
	// AlipayCert (PEM) is named in answers in certificate mode.
	AlipayCert []byte
	// AESKey in base64 turns encryption on: bodies must be ciphertext.
	AESKey string
	// AuthToken is the app_auth_token that requests must carry. Empty: none.
	AuthToken string

	keys *alipayKeys
}

// A WebhookApp is a receiver: calls to /webhook/APP_ID must be signed with its
// secret.
type WebhookApp struct {
	AppID  string // or AnyApp
	Secret string
}

// Names of the apps that DefaultApps makes.
const (
	DefaultMPaaSApp   = "sandbox-mpaas"
	DefaultWorkspace  = "default"
	DefaultAlipayApp  = "sandbox-alipay"
	DefaultWebhookApp = "sandbox-webhook"

	defaultAccessKeyID = "sandbox-access-key"
)

// Credentials are a set of apps with both halves of their keys: those for the
// sandbox and those for its clients.
type Credentials struct {
	Apps     Apps
	Settings []AppSettings
}

// AppSettings are the settings with which a daemon pushes to one app of the sandbox.
type AppSettings struct {
	Provider    string
	AppID       string
	WorkspaceID string
	Endpoint    string // filled in by For
	// Options have the names of the daemon's configuration. Some of them are
	// secrets.
	Options map[string]string
	// Files holds, for the options that are in a file, its path.
	Files map[string]string
}

// DefaultApps returns one app for each provider. Their keys are made when dir
// has none, and kept there with mode 0600, so that a restart has the same. An
// empty dir keeps nothing.
func DefaultApps(dir string) (*Credentials, error) {
	k := keyring{dir: dir}
	secret, hook := k.secret("mpaas_secret"), k.secret("webhook_secret")
	app, alipay := k.rsaKey("alipay_app_key.pem"), k.rsaKey("alipay_key.pem")
	appPublic, alipayPublic := k.public("alipay_app_public_key.pem", app), k.public("alipay_public_key.pem", alipay)
	if k.err != nil {
		return nil, fmt.Errorf("sandbox keys: %w", k.err)
	}
	c := &Credentials{Apps: Apps{
		MPaaS: []MPaaSApp{{
			AppID: DefaultMPaaSApp, WorkspaceID: DefaultWorkspace, AccessKeyID: defaultAccessKeyID, AccessKeySecret: secret.text,
		}},
		Alipay: []AlipayApp{{
			AppID: DefaultAlipayApp, AppPublicKey: []byte(appPublic.text), AlipayPrivateKey: []byte(alipay.text),
		}},
		Webhook: []WebhookApp{{AppID: DefaultWebhookApp, Secret: hook.text}},
	}}
	c.Settings = []AppSettings{
		newSettings(providerMPaaS, DefaultMPaaSApp, map[string]kept{"access_key_id": {text: defaultAccessKeyID}, "access_key_secret": secret}),
		newSettings(providerAlipay, DefaultAlipayApp, map[string]kept{"private_key": app, "alipay_public_key": alipayPublic}),
		// The daemon refuses loopback addresses unless told otherwise.
		newSettings(providerWebhook, DefaultWebhookApp, map[string]kept{"secret": hook, "allow_private_addresses": {text: "true"}}),
	}
	c.Settings[0].WorkspaceID = DefaultWorkspace
	return c, nil
}

func newSettings(p provider, app string, options map[string]kept) AppSettings {
	s := AppSettings{Provider: p.String(), AppID: app, Options: map[string]string{}, Files: map[string]string{}}
	for name, o := range options {
		if s.Options[name] = o.text; o.path != "" {
			s.Files[name] = o.path
		}
	}
	return s
}

// For returns the settings for a sandbox that answers at url.
func (c *Credentials) For(url string) []AppSettings {
	settings := slices.Clone(c.Settings)
	for i := range settings {
		settings[i].Endpoint = url
		if settings[i].Provider == providerWebhook.String() {
			settings[i].Endpoint += "/webhook/" + settings[i].AppID
		}
	}
	return settings
}

// ForAnyApp makes the credentials valid for every app id.
func (c *Credentials) ForAnyApp() {
	for i := range c.Apps.MPaaS {
		c.Apps.MPaaS[i].AppID = AnyApp
	}
	for i := range c.Apps.Alipay {
		c.Apps.Alipay[i].AppID = AnyApp
	}
	for i := range c.Apps.Webhook {
		c.Apps.Webhook[i].AppID = AnyApp
	}
}

// ConfigYAML returns the "apps" section of a daemon's configuration for a
// sandbox at url. Options that are in files are named by their paths, so that
// with a directory for the keys the text holds no secret.
func (c *Credentials) ConfigYAML(url string) string {
	var b strings.Builder
	b.WriteString("apps:\n")
	for _, s := range c.For(url) {
		fmt.Fprintf(&b, "  - app_id: %q\n", s.AppID)
		if s.WorkspaceID != "" {
			fmt.Fprintf(&b, "    workspace_id: %q\n", s.WorkspaceID)
		}
		fmt.Fprintf(&b, "    provider: %s\n    endpoint: %q\n", s.Provider, s.Endpoint)
		for _, name := range slices.Sorted(maps.Keys(s.Options)) {
			if path := s.Files[name]; path != "" {
				fmt.Fprintf(&b, "    %s_file: %q\n", name, path)
			} else {
				fmt.Fprintf(&b, "    %s: %q\n", name, s.Options[name])
			}
		}
	}
	return b.String()
}

// A kept value is text with the file it is in, if any.
type kept struct{ text, path string }

// A keyring reads secrets from the files of a directory, and makes those that
// are missing.
type keyring struct {
	dir string
	err error // the first error
}

func (k *keyring) get(name string, create func() (string, error)) kept {
	if k.err != nil {
		return kept{}
	}
	if k.dir == "" {
		text, err := create()
		k.err = err
		return kept{text: text}
	}
	path, err := filepath.Abs(filepath.Join(k.dir, name))
	text := ""
	if err == nil {
		text, err = readSecret(path)
	}
	if errors.Is(err, errNoSecret) {
		if text, err = create(); err == nil {
			err = writeSecret(path, text)
		}
	}
	k.err = err
	return kept{strings.TrimSpace(text), path}
}

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

// writeSecret writes a file, which is either whole or does not exist.
func writeSecret(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", []byte(text+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
