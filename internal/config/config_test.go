package config_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

// realProviders are those that the example has an app of each of.
func realProviders() []config.Provider {
	return []config.Provider{mpaas.Adapter{}, alipay.Adapter{}, webhook.Adapter{}}
}

const exampleFile = "../../config.example.yaml"

func readExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestExampleLoads holds that the example is right for every provider, and that
// what it says beside the apps is the default, as it claims.
func TestExampleLoads(t *testing.T) {
	t.Parallel()
	private, _ := newKeys(t)
	_, public := newKeys(t) // Alipay's own
	path := write(t, readExample(t), "app_private_key.pem", private, "alipay_public_key.pem", public)
	environ := append([]string{"MPAAS_AK_ENV=id", "MPAAS_SK_ENV=secret", "CRM_WEBHOOK_SECRET=a secret of thirty-two characters"}, home...)
	got, err := config.Load(path, environ, realProviders())
	if err != nil {
		t.Fatal(err)
	}
	want := load(t, "")
	want.Apps = got.Apps
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("the example is not the defaults (-default +example):\n%s", diff)
	}
	if len(got.Apps) != len(realProviders()) {
		t.Errorf("the example has %d apps, want one for each of %d providers", len(got.Apps), len(realProviders()))
	}
}

// commentedOut matches a setting that is there to be uncommented; comments have
// a space after the #.
var commentedOut = regexp.MustCompile(`(?m)^( *)#([a-z])`)

// TestExampleIsComplete holds that every key of the code is in the example, and
// every key of the example in the code.
func TestExampleIsComplete(t *testing.T) {
	t.Parallel()
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(commentedOut.ReplaceAllString(readExample(t), "$1$2")), &tree); err != nil {
		t.Fatal(err)
	}
	want := config.Paths(realProviders())
	slices.Sort(want)
	if diff := cmp.Diff(slices.Compact(want), slices.Compact(slices.Sorted(slices.Values(keysOf(tree, ""))))); diff != "" {
		t.Errorf("keys (-code +example):\n%s", diff)
	}
}

// keysOf lists the paths of a tree's settings; every app counts as the first.
func keysOf(tree map[string]any, path string) []string {
	var keys []string
	for key, value := range tree {
		at := path + key
		switch value := value.(type) {
		case map[string]any:
			if key == "weekly_quota" {
				keys = append(keys, at)
				continue
			}
			keys = append(keys, keysOf(value, at+".")...)
		case []any:
			for _, item := range value {
				app, ok := item.(map[string]any)
				if !ok { // a list of texts
					keys = append(keys, at)
					break
				}
				keys = append(keys, keysOf(app, at+"[0].")...)
			}
		default:
			keys = append(keys, at)
		}
	}
	return keys
}

func newKeys(t *testing.T) (private, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), encode("PUBLIC KEY", publicDER)
}
