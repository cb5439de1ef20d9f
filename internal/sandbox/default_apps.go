package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Names of what DefaultApps makes.
const (
	DefaultMPaaSApp   = "sandbox-mpaas"
	DefaultWorkspace  = "default"
	DefaultAlipayApp  = "sandbox-alipay"
	DefaultWebhookApp = "sandbox-webhook"

	defaultAccessKeyID = "sandbox-access-key"
)

// Credentials are a set of apps with both halves of their keys: what the
// sandbox must know and what its clients must.
type Credentials struct {
	Apps     Apps
	Settings []AppSettings
}

// AppSettings are what a daemon needs to push to one app of the sandbox.
type AppSettings struct {
	Provider    string
	AppID       string
	WorkspaceID string
	Endpoint    string // filled in by For
	// Options are named as the daemon's configuration names them; there are
	// secrets among them.
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

// ForAnyApp makes the credentials good for every app id.
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
	err error // the first
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
