package alipay_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// key reads one of the test keys. They were made for the recorded requests and
// open nothing.
func key(tb testing.TB, name string) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/keys", name))
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// signedAt is when the tests' requests are signed.
func signedAt() time.Time { return time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC) }

func keyMode(tb testing.TB) dispatch.Settings {
	tb.Helper()
	return dispatch.Settings{
		AppID: "2021000000000001", Endpoint: "https://alipay.invalid", Now: signedAt,
		Options: map[string]string{
			"private_key":       key(tb, "app_priv_pkcs8.pem"),
			"alipay_public_key": key(tb, "ali_pub.pem"),
		},
	}
}

func certMode(tb testing.TB) dispatch.Settings {
	tb.Helper()
	s := keyMode(tb)
	s.Options = map[string]string{
		"private_key": key(tb, "app_priv_pkcs1.pem"),
		"app_cert":    key(tb, "app.crt"),
		"alipay_cert": key(tb, "ali.crt"),
		"root_cert":   key(tb, "root_bundle.crt"),
	}
	return s
}

func newPusher(tb testing.TB, s dispatch.Settings) dispatch.Pusher {
	tb.Helper()
	p, err := alipay.Adapter{}.New(s)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func compile(tb testing.TB, r dispatch.Request) *dispatch.Message {
	tb.Helper()
	m, problems := alipay.Adapter{}.Compile(r)
	if len(problems) > 0 {
		tb.Fatalf("problems: %+v", problems)
	}
	return m
}
