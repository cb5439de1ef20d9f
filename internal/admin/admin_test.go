package admin_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/internal/admin"
	"github.com/campaign-scheduler/scheduler/internal/certtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a server on a free port until the test ends.
func start(t *testing.T, config admin.Config) string {
	t.Helper()
	if config.Listen == "" {
		config.Listen = "127.0.0.1:0"
	}
	if config.Metrics == nil {
		config.Metrics = prometheus.NewRegistry()
	}
	s, err := admin.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s.Addr().String()
}

// A caller asks with a token and a client certificate, or without.
type caller struct {
	client *http.Client
	scheme string
	token  string
}

func newCaller(t *testing.T, config *tls.Config, token string) caller {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	c := caller{client: &http.Client{Transport: transport, Timeout: 10 * time.Second}, scheme: "http", token: token}
	if config != nil {
		c.scheme = "https"
	}
	return c
}

func (c caller) get(t *testing.T, addr, path string) (status int, body string, err error) {
	t.Helper()
	return c.do(t, http.MethodGet, addr, path)
}

func (c caller) do(t *testing.T, method, addr, path string) (status int, body string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.scheme+"://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text), nil
}

func TestPaths(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	pushes := prometheus.NewCounter(prometheus.CounterOpts{Name: "scheduler_pushes_total", Help: "Pushes."})
	registry.MustRegister(pushes)
	pushes.Add(3)
	away := func(context.Context) error { return errors.New("the database is away") }
	plain := admin.Config{Metrics: registry}
	guarded := admin.Config{Metrics: registry, Token: "s3same", Pprof: true, Ready: away}

	for _, c := range []struct {
		name, path, token string
		config            admin.Config
		status            int
		body              string // a part of it
		not               string // no part of it
	}{
		{"alive", "/healthz", "", plain, 200, "ok", ""},
		{"ready", "/readyz", "", plain, 200, "ok", ""},
		{"figures", "/metrics", "", plain, 200, "scheduler_pushes_total 3", ""},
		{"no pprof unless asked for", "/debug/pprof/", "", plain, 404, "", ""},
		{"nothing else", "/", "", plain, 404, "", ""},

		{"alive without the database", "/healthz", "", guarded, 200, "ok", ""},
		{"not ready, for a probe", "/readyz", "", guarded, 503, "not ready", "away"},
		{"not ready, for an operator", "/readyz", "s3same", guarded, 503, "not ready: the database is away", ""},
		{"figures without the token", "/metrics", "", guarded, 401, "token", "scheduler_pushes_total"},
		{"figures with another", "/metrics", "s3sam", guarded, 401, "token", "scheduler_pushes_total"},
		{"figures with it", "/metrics", "s3same", guarded, 200, "scheduler_pushes_total 3", ""},
		{"pprof without the token", "/debug/pprof/cmdline", "", guarded, 401, "", "admin.test"},
		{"pprof with it", "/debug/pprof/cmdline", "s3same", guarded, 200, "admin.test", ""},
		{"pprof of a name", "/debug/pprof/goroutine?debug=1", "s3same", guarded, 200, "goroutine profile", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			status, body, err := newCaller(t, nil, c.token).get(t, start(t, c.config), c.path)
			if err != nil {
				t.Fatal(err)
			}
			if status != c.status || !strings.Contains(body, c.body) || c.not != "" && strings.Contains(body, c.not) {
				t.Errorf("GET %s: %d %q, want %d with %q and without %q", c.path, status, body, c.status, c.body, c.not)
			}
		})
	}
}

func TestNothingIsChanged(t *testing.T) {
	t.Parallel()
	addr := start(t, admin.Config{Pprof: true})
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/symbol"} {
		if status, _, err := newCaller(t, nil, "").do(t, http.MethodPost, addr, path); err != nil || status != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d %v, want 405", path, status, err)
		}
	}
}

func TestReadyIsGivenADeadline(t *testing.T) {
	t.Parallel()
	addr := start(t, admin.Config{Ready: func(ctx context.Context) error {
		if _, bounded := ctx.Deadline(); !bounded {
			return nil
		}
		return errors.New("bounded")
	}})
	if _, body, err := newCaller(t, nil, "").get(t, addr, "/readyz"); err != nil || !strings.Contains(body, "bounded") {
		t.Errorf("readyz: %q %v, want a context with a deadline", body, err)
	}
}

// TestReadinessIsAskedOnceForAll has many ask at once, again and again: what they
// cause is one question a second.
func TestReadinessIsAskedOnceForAll(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	began := time.Now()
	addr := start(t, admin.Config{Ready: func(context.Context) error {
		asked.Add(1)
		return errors.New("x\x1b[31m\nforged")
	}})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			c := newCaller(t, nil, "")
			for range 20 {
				if status, body, err := c.get(t, addr, "/readyz"); err != nil || status != http.StatusServiceUnavailable || body != "not ready: x\ufffd[31m forged\n" {
					t.Errorf("%d %q %v", status, body, err)
				}
			}
		})
	}
	all.Wait()
	if most := 1 + int64(time.Since(began)/time.Second); asked.Load() > most {
		t.Errorf("400 probes asked %d times, want at most %d", asked.Load(), most)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	certs := newCertificates(t)
	for _, c := range []struct {
		name   string
		config admin.Config
		want   string
	}{
		{"an open door", admin.Config{Listen: "0.0.0.0:0"}, "can be reached from other machines"},
		{"an open door with TLS", admin.Config{Listen: "0.0.0.0:0", CertFile: certs.file, KeyFile: certs.file}, "can be reached from other machines"},
		{"a taken port", admin.Config{Listen: taken.Addr().String()}, "address already in use"},
		{"a missing certificate", admin.Config{CertFile: "absent", KeyFile: "absent"}, "read certificate: open absent"},
		{"client certificates in the clear", admin.Config{ClientCAFile: certs.file}, "need a certificate of the server's own"},
		{"authorities that are none", admin.Config{CertFile: certs.file, KeyFile: certs.file, ClientCAFile: os.DevNull}, "holds no certificate"},
	} {
		c.config.Metrics = prometheus.NewRegistry()
		if c.config.Listen == "" {
			c.config.Listen = "127.0.0.1:0"
		}
		if _, err := admin.New(t.Context(), c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: New says %v, want %q", c.name, err, c.want)
		}
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	addr := start(t, admin.Config{Listen: "0.0.0.0:0", CertFile: certs.file, KeyFile: certs.file, ClientCAFile: certs.file})
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	addr = net.JoinHostPort("127.0.0.1", port)

	if _, _, err := newCaller(t, &tls.Config{RootCAs: certs.pool}, "").get(t, addr, "/healthz"); err == nil {
		t.Error("a client without a certificate was served")
	}
	with := &tls.Config{RootCAs: certs.pool, Certificates: []tls.Certificate{certs.pair}}
	if status, _, err := newCaller(t, with, "").get(t, addr, "/metrics"); err != nil || status != http.StatusOK {
		t.Errorf("a client with a certificate: %d %v, want 200", status, err)
	}
}

func TestACertificateIsRenewedWithoutRestart(t *testing.T) {
	t.Parallel()
	first, second := newCertificates(t), newCertificates(t)
	addr := start(t, admin.Config{CertFile: first.file, KeyFile: first.file})
	if _, _, err := newCaller(t, &tls.Config{RootCAs: first.pool}, "").get(t, addr, "/healthz"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(second.file, first.file); err != nil {
		t.Fatal(err)
	}
	if _, _, err := newCaller(t, &tls.Config{RootCAs: second.pool}, "").get(t, addr, "/healthz"); err != nil {
		t.Errorf("after the renewal: %v", err)
	}
}

func TestStopWithoutStartFreesThePort(t *testing.T) {
	t.Parallel()
	s, err := admin.New(t.Context(), admin.Config{Listen: "127.0.0.1:0", Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	addr := s.Addr().String()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

// certificates are a self-signed certificate for 127.0.0.1 that is its own
// authority, in one PEM file with its key.
type certificates struct {
	file string
	pair tls.Certificate
	pool *x509.CertPool
}

func newCertificates(t *testing.T) certificates {
	t.Helper()
	pair := certtest.SelfSigned(t, "127.0.0.1")
	cert, key := certtest.PEM(t, pair)
	file := filepath.Join(t.TempDir(), "pair.pem")
	if err := os.WriteFile(file, []byte(cert+key), 0o600); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(pair.Leaf)
	return certificates{file, pair, pool}
}
