package console

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/internal/openid"
	"github.com/campaign-scheduler/scheduler/internal/openid/issuertest"
	"github.com/campaign-scheduler/scheduler/store"
)

// A frontRig is a rig whose console lets in those whom somebody else names. Its
// login desk may act for mei and li.
type frontRig struct {
	*rig
	mei, li, desk string // roles
	issuer        *issuertest.Issuer
	settings      config.Console
	log           *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// newFrontRig makes a console that signs people in as said. The rules name mei and
// li by their preferred_username, and li as a member of the group managers.
func newFrontRig(t *testing.T, signIn string) *frontRig {
	t.Helper()
	r := &frontRig{rig: newRig(t), issuer: issuertest.New(t, false), log: &lockedBuffer{}}
	for app, role := range map[string]*string{"shop": &r.mei, "hook": &r.li} {
		if err := r.db.QueryRow(t.Context(), `SELECT g.role FROM scheduler.app_grants g JOIN scheduler.apps a USING (app_no) WHERE a.app_id = $1`, app).Scan(role); err != nil {
			t.Fatal(err)
		}
	}
	r.desk = "desk" + strings.TrimPrefix(r.mei, "mei")
	exec(t, r.db, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'secret' NOINHERIT IN ROLE scheduler_front`, r.desk))
	t.Cleanup(func() { exec(t, r.db, fmt.Sprintf(`DROP OWNED BY %[1]s; DROP ROLE %[1]s`, r.desk)) })
	exec(t, r.db, fmt.Sprintf(`GRANT %s, %s TO %s`, r.mei, r.li, r.desk))
	r.settings = config.Default().Console
	r.settings.SignIn = signIn
	switch signIn {
	case config.SignInOIDC:
		r.settings.OIDC.Issuer, r.settings.OIDC.ClientID, r.settings.OIDC.ClientSecret = r.issuer.URL, issuertest.Client, issuertest.Secret
		r.settings.Roles = []config.RoleRule{rule("preferred_username", "mei", r.mei), rule("realm.roles", "managers", r.li), rule("email", "li@shop.example", r.li), rule("groups", "strangers", "postgres")}
	case config.SignInProxy:
		r.settings.Proxy = config.ConsoleProxy{Header: "X-Forwarded-User", Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
		r.settings.Roles = []config.RoleRule{rule("", "mei@shop.example", r.mei), rule("", "li@shop.example", r.li), rule("", "stranger", "postgres")}
	}
	r.serve(t, r.db.URLAs(t, r.desk, "secret"))
	return r
}

// serve starts the console with a front's login.
func (r *frontRig) serve(t *testing.T, login string) {
	t.Helper()
	front, err := store.OpenFront(t.Context(), store.Config{URL: login, MaxConns: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	server := httptest.NewUnstartedServer(nil)
	r.url = "http://" + server.Listener.Addr().String()
	r.console, err = New(Config{
		Front: front, Settings: r.settings, Origin: r.url, Log: slog.New(slog.NewTextHandler(r.log, nil)), Judge: judge.Judge{Adapters: []dispatch.Adapter{mpaas.Adapter{}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.console.Close)
	server.Config.Handler = r.console.Handler()
	server.Start()
	t.Cleanup(server.Close)
}

func rule(claim, value, role string) config.RoleRule {
	return config.RoleRule{Claim: claim, Value: value, Role: role}
}

// named is somebody, as the issuer knows them, with further claims.
func named(more ...any) map[string]any {
	claims := map[string]any{"sub": "4711"}
	for i := 0; i+1 < len(more); i += 2 {
		claims[more[i].(string)] = more[i+1] //nolint:forcetypeassert // the test's own
	}
	return claims
}

// signedIn is a browser of somebody whom the issuer has identified.
func (r *frontRig) signedIn(t *testing.T) *browser {
	t.Helper()
	b := r.browser(t)
	has(t, b.get("/sign-in/start"), "Overview", "Sign out")
	return b
}

// An answer is what came without following a redirect.
type answer struct {
	status   int
	location string
}

// once asks without following a redirect.
func (b *browser) once(path string) answer {
	b.t.Helper()
	client := *b.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if strings.HasPrefix(path, "/") {
		path = b.url + path
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	return answer{res.StatusCode, res.Header.Get("Location")}
}

// returned begins a sign-in and returns the address that the issuer sends the
// browser back to.
func (b *browser) returned(next string) *url.URL {
	b.t.Helper()
	back, err := url.Parse(b.once(b.once("/sign-in/start?next=" + url.QueryEscape(next)).location).location)
	if err != nil {
		b.t.Fatal(err)
	}
	return back
}

// From the first page to the audit: whoever the issuer names sees what their role
// may see, and what they do is done in their name.
func TestOIDCFromPageToAudit(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, config.SignInOIDC)
	r.issuer.Person(named("preferred_username", "mei", "groups", []string{"everybody"}))
	b := r.browser(t)
	page := b.get("/campaigns?status=paused")
	link := regexp.MustCompile(`href="(/sign-in/start[^"]+)"`).FindStringSubmatch(page)
	if link == nil || strings.Contains(page, "password") {
		t.Fatalf("no way to the issuer, or a form for a password:\n%s", page)
	}
	has(t, page, "Sign in through "+strings.TrimPrefix(r.issuer.URL, "http://"))
	has(t, b.get(link[1]), r.mei, `<option value="paused" selected>`)
	if page := b.get("/limits"); strings.Contains(page, "hook") {
		t.Errorf("mei sees li's app:\n%s", page)
	}
	b.post("/campaigns", with(weekly(), "do", "insert"), http.StatusOK)
	id := count(t, r.db, `SELECT max(id) FROM scheduler.campaigns`)
	has(t, b.post(fmt.Sprintf("/campaigns/%d/pause", id), url.Values{"revision": {"1"}, "note": {"wrong week"}}, http.StatusOK), "paused", "wrong week", r.mei)
	b.post("/hold", url.Values{"note": {"no"}}, http.StatusForbidden)
	var by, via, created string
	err := r.db.QueryRow(t.Context(), `SELECT h.changed_by, h.changed_via, c.created_by FROM scheduler.campaign_history h JOIN scheduler.campaigns c ON c.id = h.campaign_id WHERE h.action = 'pause'`).
		Scan(&by, &via, &created)
	if err != nil || by != r.mei || via != "front "+r.desk || created != r.mei {
		t.Errorf("the audit names %q via %q, and %q for the insert: %v", by, via, created, err)
	}

	has(t, b.post("/sign-out", nil, http.StatusOK), "Sign out there, too", "/logout?client_id=scheduler-console")
	has(t, b.get("/"), "/sign-in/start")
	b.post("/sign-in", url.Values{"user": {r.mei}, "password": {"secret"}}, http.StatusNotFound)
	if log := r.log.String(); strings.Contains(log, url.QueryEscape(issuertest.Secret)) || strings.Contains(log, issuertest.Secret) || !strings.Contains(log, "subject=4711 role="+r.mei) {
		t.Errorf("the log:\n%s", log)
	}
}

// Who gets in, and as whom: the first rule that fits, and nobody whom none fits.
func TestOIDCRules(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, config.SignInOIDC)
	for name, c := range map[string]struct {
		person map[string]any
		status int
		want   string
	}{
		"by name":              {named("preferred_username", "mei", "realm", map[string]any{"roles": []string{"managers"}}), http.StatusOK, r.mei},
		"by a path":            {named("realm", map[string]any{"roles": []string{"x", "managers"}}), http.StatusOK, r.li},
		"by address":           {named("email", "li@shop.example", "email_verified", true), http.StatusOK, r.li},
		"not verified":         {named("email", "li@shop.example", "email_verified", false), http.StatusForbidden, "no rule gives you a role here"},
		"in no group":          {named("groups", []string{"managers"}), http.StatusForbidden, "no rule gives you a role here"},
		"in other letters":     {named("preferred_username", "Mei"), http.StatusForbidden, "no rule gives you a role here"},
		"a role not granted":   {named("groups", "strangers"), http.StatusForbidden, "Your database role cannot be used here"},
		"nobody in particular": {named(), http.StatusForbidden, "no rule gives you a role here"},
	} {
		r.issuer.Person(c.person)
		b := r.browser(t)
		page, status := b.look(http.MethodGet, "/sign-in/start", nil)
		if status != c.status || !strings.Contains(page, c.want) {
			t.Errorf("%s: status %d, want %d with %q:\n%s", name, status, c.status, c.want, page)
		}
		if _, status := b.look(http.MethodPost, "/campaigns/1/pause", nil); (status == http.StatusUnauthorized) != (c.status != http.StatusOK) {
			t.Errorf("%s: afterwards status %d", name, status)
		}
	}
}

// What is wrong with an ID token lets nobody in.
func TestOIDCTokens(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, config.SignInOIDC)
	r.issuer.Person(named("preferred_username", "mei"))
	claim := func(name string, value any) func() {
		return func() { r.issuer.Claims(func(claims map[string]any) { claims[name] = value }) }
	}
	sign := func(by func(*issuertest.Issuer, []byte) string) func() { return func() { r.issuer.Sign(by) } }
	for name, wrong := range map[string]func(){
		"nonce": claim("nonce", "another"), "audience": claim("aud", "other"), "issuer": claim("iss", "https://evil.example"), "expired": claim("exp", 1),
		"alg none": sign((*issuertest.Issuer).None), "a stranger's signature": sign((*issuertest.Issuer).Stranger), "the secret's signature": sign((*issuertest.Issuer).HS256),
	} {
		r.issuer.Claims(nil)
		r.issuer.Sign(nil)
		wrong()
		b := r.browser(t)
		if page, status := b.look(http.MethodGet, "/sign-in/start", nil); status != http.StatusForbidden || !strings.Contains(page, "did not say who you are") {
			t.Errorf("%s: status %d\n%s", name, status, page)
		}
		if _, status := b.look(http.MethodPost, "/campaigns/1/pause", nil); status != http.StatusUnauthorized {
			t.Errorf("%s: afterwards status %d", name, status)
		}
	}
	if log := r.log.String(); !strings.Contains(log, "expected audience") || strings.Contains(log, "eyJ") {
		t.Errorf("the log:\n%s", log)
	}
	r.issuer.Down(true)
	r.console.SetSignIn(r.settings) // which forgets the discovery document
	if page, status := r.browser(t).look(http.MethodGet, "/sign-in/start", nil); status != http.StatusServiceUnavailable {
		t.Errorf("an issuer that is down: status %d\n%s", status, page)
	}
}

// The way back from the issuer is for one browser, once, and leads into the
// console.
func TestOIDCCallback(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, config.SignInOIDC)
	r.issuer.Person(named("preferred_username", "mei"))
	refused := func(name string, b *browser, address string) {
		t.Helper()
		if res := b.once(address); res.status != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, res.status)
		}
	}
	b := r.browser(t)
	back := b.returned("/tasks")
	query := back.Query()
	query.Set("state", "another")
	refused("another state", b, callbackPath+"?"+query.Encode())
	later := b.returned("/tasks")
	refused("the first of two at the same time", b, back.String())
	back = later
	refused("another browser", r.browser(t), back.String())
	refused("another browser with a sign-in of its own", func() *browser { o := r.browser(t); o.returned("/"); return o }(), back.String())
	cookies := b.client.Jar.Cookies(back)
	if res := b.once(back.String()); res.status != http.StatusSeeOther || res.location != "/tasks" {
		t.Errorf("the browser itself: status %d to %q", res.status, res.location)
	}
	b.client.Jar.SetCookies(back, cookies)
	refused("a second time", b, back.String())
	if n := r.issuer.Calls("/token"); n != 1 {
		t.Errorf("%d codes were exchanged, want 1", n)
	}

	evil := r.browser(t)
	if res := evil.once(evil.returned("/\t/evil.example").String()); res.location != "/" {
		t.Errorf("after signing in the browser is led to %q", res.location)
	}
	denied := r.browser(t)
	query = denied.returned("/").Query()
	if res := denied.once(callbackPath + "?" + url.Values{"state": query["state"], "error": {"access_denied"}}.Encode()); res.status != http.StatusForbidden {
		t.Errorf("a refusal: status %d", res.status)
	}
	bounded := func() bool {
		for range 2 * callerAttempts {
			if b.once("/sign-in/start").status == http.StatusTooManyRequests {
				return true
			}
		}
		return false
	}
	if !bounded() {
		t.Error("the attempts of one address have no bound")
	}
	behind := r.settings
	behind.BehindProxy = true
	r.console.SetSignIn(behind)
	r.console.sessions.attempts.SetLimit(rate.Inf)
	if bounded() {
		t.Error("people behind a proxy count as one")
	}
	r.console.sessions.attempts.SetLimit(0)
	r.console.sessions.attempts.SetBurst(0)
	if !bounded() {
		t.Error("the attempts of all have no bound")
	}
}

// A sign-in waits for its browser for a while, and only so many wait.
func TestAttemptsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSessions(false)
		defer s.close()
		begin := func(state string) *http.Request {
			answer := httptest.NewRecorder()
			s.await(answer, attempt{Attempt: &openid.Attempt{State: state}})
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, callbackPath+"?state="+state, nil)
			r.AddCookie(answer.Result().Cookies()[0])
			return r
		}
		came := func(r *http.Request) bool {
			_, ok := s.returned(httptest.NewRecorder(), r)
			return ok
		}
		soon, late := begin("soon"), begin("late")
		time.Sleep(attemptLasts - time.Second)
		if !came(soon) || came(soon) {
			t.Error("a sign-in does not count once within its time")
		}
		time.Sleep(2 * time.Second)
		if came(late) {
			t.Error("a sign-in counts after its time")
		}
		for n := range maxAttempts + 10 {
			begin(strconv.Itoa(n))
		}
		if n := len(s.waiting); n > maxAttempts {
			t.Errorf("%d sign-ins wait", n)
		}
	})
}

// A session is new at each sign-in: none that was planted counts, and the one from
// before ends.
func TestSessionsAreNew(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, config.SignInOIDC)
	r.issuer.Person(named("preferred_username", "mei"))
	at, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	session := func(b *browser) string {
		for _, c := range b.client.Jar.Cookies(at) {
			if c.Name == "scheduler_session" {
				return c.Value
			}
		}
		return ""
	}
	b := r.browser(t)
	b.client.Jar.SetCookies(at, []*http.Cookie{{Name: "scheduler_session", Value: "planted", Path: "/"}})
	b.get("/sign-in/start")
	first := session(b)
	if first == "planted" || first == "" {
		t.Fatalf("the session is %q", first)
	}
	b.get("/sign-in/start")
	if again := session(b); again == first {
		t.Error("the session is the one from before")
	}
	for _, token := range []string{"planted", first} {
		other := r.browser(t)
		other.client.Jar.SetCookies(at, []*http.Cookie{{Name: "scheduler_session", Value: token, Path: "/"}})
		if _, status := other.look(http.MethodPost, "/campaigns/1/pause", nil); status != http.StatusUnauthorized {
			t.Errorf("the session %q: status %d", token, status)
		}
	}
	for _, secure := range []bool{false, true} {
		for _, c := range []*http.Cookie{newSessions(secure).cookie("x"), newSessions(secure).attemptCookie("x")} {
			if !c.HttpOnly || c.Secure != secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || strings.HasPrefix(c.Name, "__Host-") != secure {
				t.Errorf("secure %t: the cookie is %s", secure, c)
			}
		}
	}
}

// Sessions end without a request, and at the latest after a day's work.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		every, until time.Duration
		want         bool
	}{
		"used":          {29 * time.Minute, maxSession - time.Minute, true},
		"used too long": {29 * time.Minute, maxSession + time.Minute, false},
		"idle":          {31 * time.Minute, 31 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSessions(true)
				defer s.close()
				answer := httptest.NewRecorder()
				request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
				s.begin(answer, request, &person{shared: true})
				for _, cookie := range answer.Result().Cookies() {
					request.AddCookie(cookie)
				}
				var there bool
				for began := time.Now(); time.Since(began) < c.until; {
					time.Sleep(min(c.every, c.until-time.Since(began)))
					synctest.Wait()
					p, _ := s.person(request)
					there = p != nil
				}
				if there != c.want {
					t.Errorf("after %s the person is there: %t, want %t", c.until, there, c.want)
				}
			})
		})
	}
}

// A role that is revoked in the database, or a rule that is changed, ends the
// sessions that rest on it.
func TestSessionsFollowRolesAndRules(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, config.SignInOIDC)
	r.issuer.Person(named("preferred_username", "mei"))
	b := r.signedIn(t)
	exec(t, r.db, fmt.Sprintf(`REVOKE %s FROM %s`, r.mei, r.desk))
	page, status := b.look(http.MethodGet, "/tasks", nil)
	if status != http.StatusForbidden || !strings.Contains(page, "cannot be used here, or not any more") || strings.Contains(page, "Sign out") {
		t.Errorf("after the role was revoked: status %d\n%s", status, page)
	}
	has(t, b.get("/"), "/sign-in/start")
	exec(t, r.db, fmt.Sprintf(`GRANT %s TO %s`, r.mei, r.desk))

	b = r.signedIn(t)
	exec(t, r.db, fmt.Sprintf(`REVOKE scheduler_author FROM %s`, r.mei))
	if page, status := b.look(http.MethodGet, "/tasks", nil); status != http.StatusForbidden {
		t.Errorf("after the role lost its rights: status %d\n%s", status, page)
	}
	exec(t, r.db, fmt.Sprintf(`GRANT scheduler_author TO %s`, r.mei))
	b.get("/tasks")

	same := r.settings
	same.Roles = append([]config.RoleRule{rule("groups", "nobody", r.li)}, r.settings.Roles...)
	r.console.SetSignIn(same)
	has(t, b.get("/tasks"), r.mei) // she is who she was
	moved := r.settings
	moved.OIDC.Issuer = "https://login.example"
	r.console.SetSignIn(moved)
	b.post("/campaigns/1/pause", nil, http.StatusUnauthorized)
	r.console.SetSignIn(r.settings)
	late := b.returned("/")
	r.console.SetSignIn(moved) // whom one provider names is nobody to the next
	if got := b.once(late.String()); got.status != http.StatusBadRequest {
		t.Errorf("back from the provider before: status %d", got.status)
	}
	r.console.SetSignIn(r.settings)
	b = r.signedIn(t)
	other := r.settings
	other.Roles = []config.RoleRule{rule("preferred_username", "mei", r.li)}
	r.console.SetSignIn(other)
	b.post("/campaigns/1/pause", nil, http.StatusUnauthorized)
	has(t, b.get("/sign-in/start"), r.li)
	none := r.settings
	none.Roles = []config.RoleRule{rule("preferred_username", "li", r.li)}
	r.console.SetSignIn(none)
	b.post("/campaigns/1/pause", nil, http.StatusUnauthorized)
	if page, status := b.look(http.MethodGet, "/sign-in/start", nil); status != http.StatusForbidden {
		t.Errorf("without a rule: status %d\n%s", status, page)
	}
	login := r.settings
	login.SignIn = config.SignInLogin // counts from the next start
	r.console.SetSignIn(login)
	if _, status := b.look(http.MethodGet, "/sign-in/start", nil); status != http.StatusForbidden {
		t.Errorf("another way to sign in: status %d", status)
	}
}

// A login in whose name the audits would be is not used.
func TestFrontMustBeOne(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, config.SignInOIDC)
	exec(t, r.db, fmt.Sprintf(`REVOKE scheduler_front FROM %s`, r.desk))
	r.issuer.Person(named("preferred_username", "mei"))
	b := r.browser(t)
	b.do(http.MethodGet, "/sign-in/start", nil, http.StatusInternalServerError)
	b.post("/campaigns/1/pause", nil, http.StatusUnauthorized)
	if log := r.log.String(); !strings.Contains(log, "must be a login of its own in scheduler_front") {
		t.Errorf("the log:\n%s", log)
	}
}

// ask asks the handler directly, from an address and with values of the header.
func (r *frontRig) ask(t *testing.T, method, path, from string, names ...string) (page string, status int) {
	t.Helper()
	body := strings.NewReader(url.Values{"revision": {"1"}, "note": {"by proxy"}}.Encode())
	req := httptest.NewRequestWithContext(t.Context(), method, path, body)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.RemoteAddr = from
	for _, name := range names {
		req.Header.Add("X-Forwarded-User", name)
	}
	answer := httptest.NewRecorder()
	r.console.Handler().ServeHTTP(answer, req)
	return answer.Body.String(), answer.Code
}

// The proxy's header says who it is, where it comes from the proxy, and nowhere
// else.
func TestProxyNamesPeople(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, config.SignInProxy)
	const proxy = "127.0.0.1:4711"
	page, status := r.ask(t, http.MethodGet, "/campaigns", proxy, "mei@shop.example")
	if status != http.StatusOK {
		t.Fatalf("status %d\n%s", status, page)
	}
	has(t, page, r.mei)
	r.ask(t, http.MethodGet, "/campaigns", "10.0.0.9:1", "mei@shop.example") // whom the log names
	for name, c := range map[string]struct {
		from   string
		names  []string
		status int
		want   string
	}{
		"another person":         {proxy, []string{"li@shop.example"}, http.StatusOK, r.li},
		"the proxy as IPv6":      {"[::ffff:127.0.0.1]:1", []string{"mei@shop.example"}, http.StatusOK, r.mei},
		"from elsewhere":         {"10.0.0.9:1", []string{"mei@shop.example"}, http.StatusForbidden, "10.0.0.9 is not in console.proxy.from"},
		"from elsewhere, nobody": {"10.0.0.9:1", nil, http.StatusForbidden, "10.0.0.9 is not in console.proxy.from"},
		"from nowhere":           {"@", []string{"mei@shop.example"}, http.StatusForbidden, "is not in console.proxy.from"},
		"nobody":                 {proxy, nil, http.StatusForbidden, "does not say who you are"},
		"an empty name":          {proxy, []string{""}, http.StatusForbidden, "does not say who you are"},
		"a long name":            {proxy, []string{strings.Repeat("x", maxName+1)}, http.StatusForbidden, "does not say who you are"},
		"two people":             {proxy, []string{"mei@shop.example", "li@shop.example"}, http.StatusBadRequest, "more than one person"},
		"the same twice":         {proxy, []string{"mei@shop.example", "mei@shop.example"}, http.StatusBadRequest, "more than one person"},
		"two people in one":      {proxy, []string{"mei@shop.example, li@shop.example"}, http.StatusForbidden, "no rule gives you a role here"},
		"nobody's name":          {proxy, []string{"eve@shop.example"}, http.StatusForbidden, "no rule gives you a role here"},
		"a role not granted":     {proxy, []string{"stranger"}, http.StatusForbidden, "Your database role cannot be used here"},
	} {
		page, status := r.ask(t, http.MethodGet, "/campaigns", c.from, c.names...)
		if status != c.status || !strings.Contains(page, c.want) || strings.Contains(page, "password") {
			t.Errorf("%s: status %d, want %d with %q:\n%s", name, status, c.status, c.want, page)
		}
	}
	if _, status := r.ask(t, http.MethodGet, "/assets/console.css", "10.0.0.9:1"); status != http.StatusForbidden {
		t.Errorf("a file for somebody else: status %d", status)
	}
	for _, route := range []string{"GET /sign-in/start", "GET " + callbackPath, "POST /sign-in"} {
		method, path, _ := strings.Cut(route, " ")
		if _, status := r.ask(t, method, path, proxy, "mei@shop.example"); status != http.StatusNotFound {
			t.Errorf("%s: status %d", route, status)
		}
	}

	exec(t, r.db, `INSERT INTO scheduler.campaigns (id, name, app_id, workspace_id, channel, strategy_type, strategy_content)
		VALUES (900, 'n', 'shop', 'test', 'mpaas.push_multiple', 1, '{"fixedTime": 4102444800000}')`)
	for _, c := range []struct {
		from   string
		names  []string
		status int
	}{
		{"10.0.0.9:1", []string{"mei@shop.example"}, http.StatusForbidden},
		{proxy, nil, http.StatusForbidden},
		{proxy, []string{"mei@shop.example", "li@shop.example"}, http.StatusBadRequest},
		{proxy, []string{"li@shop.example"}, http.StatusNotFound},
	} {
		if page, status := r.ask(t, http.MethodPost, "/campaigns/900/pause", c.from, c.names...); status != c.status {
			t.Errorf("a deed from %s by %q: status %d, want %d\n%s", c.from, c.names, status, c.status, page)
		}
	}
	if n := count(t, r.db, `SELECT count(*) FROM scheduler.campaign_history`); n != 0 {
		t.Fatalf("%d changes were made by nobody", n)
	}
	if page, status := r.ask(t, http.MethodPost, "/campaigns/900/pause", proxy, "mei@shop.example"); status != http.StatusSeeOther {
		t.Fatalf("a deed: status %d\n%s", status, page)
	}
	var by, via string
	if err := r.db.QueryRow(t.Context(), `SELECT changed_by, changed_via FROM scheduler.campaign_history`).Scan(&by, &via); err != nil || by != r.mei || via != "front "+r.desk {
		t.Errorf("the audit names %q via %q: %v", by, via, err)
	}

	if page, status := r.ask(t, http.MethodPost, "/sign-out", proxy, "mei@shop.example"); status != http.StatusOK || !strings.Contains(page, "Sign out there") {
		t.Errorf("signing out: status %d\n%s", status, page)
	}
	other := r.settings
	other.Proxy.SignOut, other.Roles = "/oauth2/sign_out", []config.RoleRule{rule("", "mei@shop.example", r.li)}
	r.console.SetSignIn(other)
	if page, _ := r.ask(t, http.MethodGet, "/campaigns", proxy, "mei@shop.example"); !strings.Contains(page, r.li) {
		t.Errorf("after another rule:\n%s", page)
	}
	if _, status := r.ask(t, http.MethodPost, "/sign-out", proxy, "mei@shop.example"); status != http.StatusSeeOther {
		t.Errorf("signing out at the proxy: status %d", status)
	}
	if log := r.log.String(); strings.Count(log, "not in console.proxy.from") != 1 || !strings.Contains(log, "address=10.0.0.9 names_somebody=true") {
		t.Errorf("the log tells of strangers other than once a minute:\n%s", log)
	}
}

// A page behind a proxy shows a role's rights of a moment ago. A role that is revoked ends
// it at once, and a deed asks anew in whose name it would be.
func TestProxyRightsAreRecent(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, config.SignInProxy)
	get := func() int {
		t.Helper()
		_, status := r.ask(t, http.MethodGet, "/campaigns", "127.0.0.1:4711", "mei@shop.example")
		return status
	}
	if status := get(); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	exec(t, r.db, fmt.Sprintf(`REVOKE %s FROM %s`, r.mei, r.desk))
	if status := get(); status != http.StatusForbidden {
		t.Errorf("after the role was revoked: status %d", status)
	}
	exec(t, r.db, fmt.Sprintf(`GRANT %s TO %s; REVOKE scheduler_front FROM %s`, r.mei, r.desk, r.desk))
	if page, status := r.ask(t, http.MethodPost, "/campaigns/1/pause", "127.0.0.1:4711", "mei@shop.example"); status != http.StatusInternalServerError {
		t.Errorf("a deed in the name of the console's login: status %d\n%s", status, page)
	}
	r.console.gate.Load().known.Range(func(role, known any) bool {
		old := known.(knownRights)
		old.asked = old.asked.Add(-rightsAge)
		r.console.gate.Load().known.Store(role, old)
		return true
	})
	if status := get(); status != http.StatusInternalServerError {
		t.Errorf("a page some seconds later: status %d", status)
	}
}

// Where one comes back to is a path of the console.
func TestNext(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/campaigns?status=paused&q=a%20b", "/tasks/12", "/%2F%2Fevil.example"} {
		if got := next(path); got != path {
			t.Errorf("%q leads to %q", path, got)
		}
	}
	for _, path := range []string{
		"", "tasks", "//evil.example", "/\\evil.example", "/\t/evil.example", "/\n/evil.example", "/\r/evil.example", "\t//evil.example", "/ /evil.example",
		"https://evil.example/", "javascript:alert(1)", "/\x00/evil.example", "/" + strings.Repeat("x", maxNext),
	} {
		if got := next(path); got != "/" {
			t.Errorf("%q leads to %q", path, got)
		}
	}
}
