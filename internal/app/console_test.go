package app_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// consoleOf is where a daemon says that its console is.
func consoleOf(t *testing.T, d *daemon) string {
	t.Helper()
	var text bytes.Buffer
	d.Describe(&text)
	at := regexp.MustCompile(`(?m)^ *console +(http://\S+)$`).FindStringSubmatch(text.String())
	if at == nil {
		t.Fatalf("there is no console:\n%s", text.String())
	}
	return at[1]
}

// visit asks for a page as a proxy that names somebody does.
func visit(t *testing.T, address, name string) (page string, status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-User", name)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), resp.StatusCode
}

// makeFront makes a login that may act for two authors, and returns its URL.
func makeFront(t *testing.T, db *pgtest.DB) (url, mei, li string) {
	t.Helper()
	mei, li = db.Role(t, "mei", `IN ROLE scheduler_author`), db.Role(t, "li", `IN ROLE scheduler_author`)
	desk := db.Role(t, "desk", `LOGIN PASSWORD 'secret' NOINHERIT IN ROLE scheduler_front, `+mei+`, `+li)
	return db.URLAs(t, desk, "secret"), mei, li
}

// A reload takes over whom the daemon's console lets in, at once. How people sign
// in waits for a restart.
func TestReloadChangesWhoIsLetIn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	front, mei, li := makeFront(t, db)
	api := pushAPI(t, "key-1", "secret-1")
	secret := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, "secret-1")
	settings := func(signIn, from, role string) string {
		return appYAML(api.URL(), "key-1", secret) + fmt.Sprintf(`console:
  listen: 127.0.0.1:0
  sign_in: %s
  database_url: %q
  oidc: {issuer: "http://127.0.0.1:1", client_id: c, client_secret: s}
  proxy: {header: X-Forwarded-User, from: [%s]}
  roles: [{value: somebody, role: %s}]
`, signIn, front, from, role)
	}
	d := startHere(t, db, settings("proxy", "127.0.0.1", mei))
	address := consoleOf(t, d)
	lets := func(want string, wantStatus int) {
		t.Helper()
		if page, status := visit(t, address, "somebody"); status != wantStatus || !strings.Contains(page, want) {
			t.Errorf("status %d, want %d with %q:\n%s", status, wantStatus, want, page)
		}
	}
	reload := func(settings string, want ...string) {
		t.Helper()
		d.write(t, settings)
		later, err := d.reload(t)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, later); diff != "" {
			t.Errorf("settings that wait for a restart (-want +got):\n%s", diff)
		}
	}
	lets(mei, http.StatusOK)
	reload(settings("proxy", "127.0.0.1", li))
	lets(li, http.StatusOK)
	reload(strings.Replace(settings("oidc", "127.0.0.1", mei), "sign_in:", "url: http://127.0.0.1:1\n  sign_in:", 1), "console.url", "console.sign_in")
	lets(li, http.StatusOK)
	reload(settings("proxy", "10.0.0.5", li))
	lets("is not in console.proxy.from", http.StatusForbidden)
}

// An identity provider that is away keeps no daemon from its work.
func TestDaemonStartsWithoutItsIdentityProvider(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	front, mei, _ := makeFront(t, db)
	api := pushAPI(t, "key-1", "secret-1")
	secret := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, "secret-1")
	d := startHere(t, db, appYAML(api.URL(), "key-1", secret)+fmt.Sprintf(`console:
  listen: 127.0.0.1:0
  url: http://127.0.0.1:1
  sign_in: oidc
  database_url: %q
  oidc: {issuer: "http://127.0.0.1:1", client_id: c, client_secret: s}
  roles: [{value: somebody, role: %s}]
`, front, mei))
	d.push(t, "while it is away")
	until(t, "the decision", func() bool {
		return get[int](t, d, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'succeeded'`) == 1
	})
}
