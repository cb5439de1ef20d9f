package console

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/campaign-scheduler/scheduler/internal/config"
)

// text is all that the page says.
func (b *tab) text() string {
	b.t.Helper()
	return result(b, chromedp.Evaluate[string](`document.body.innerText`))
}

// signInThrough follows the link to the identity provider and waits for the page
// that was asked for.
func (b *tab) signInThrough(path string) {
	b.t.Helper()
	b.open(path)
	b.do(chromedp.WaitVisible(chromedp.CSS(`main a[href^="/sign-in/start"]`)), chromedp.Click(chromedp.CSS(`main a[href^="/sign-in/start"]`)), chromedp.WaitVisible(chromedp.CSS("form.person")))
	if at := result(b, chromedp.Location()); at != b.rig.url+path {
		b.t.Errorf("after the sign-in the browser is at %s, want %s", at, path)
	}
}

// In a real browser, with its rules of cookies, redirects and content policy:
// somebody signs in at the provider, sees what is theirs, is out with the next
// request when the role is taken away, and signs out.
func TestOIDCInABrowser(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, config.SignInOIDC)
	r.issuer.Person(named("preferred_username", "mei"))
	b := newTab(t, r.rig)
	b.open("/campaigns")
	for _, problem := range append(b.problems(), b.nameless()...) {
		t.Errorf("the page to sign in at: %s", problem)
	}
	b.signInThrough("/campaigns?status=paused")
	has(t, b.text(), r.mei)
	b.open("/limits")
	if text := b.text(); !strings.Contains(text, "shop") || strings.Contains(text, "hook") {
		t.Errorf("the limits of another app than mei's:\n%s", text)
	}
	b.open("/hold")
	has(t, b.text(), "Only an admin may hold.")
	if said := b.heard(); len(said) > 0 {
		t.Errorf("the browser says %q", said)
	}

	exec(t, r.db, fmt.Sprintf(`REVOKE %s FROM %s`, r.mei, r.desk))
	b.open("/tasks")
	has(t, b.text(), "Your database role cannot be used here")
	b.open("/tasks")
	has(t, b.text(), "Sign in through")
	exec(t, r.db, fmt.Sprintf(`GRANT %s TO %s`, r.mei, r.desk))
	b.heard() // the browser's own word on the answer 403

	b.signInThrough("/tasks")
	b.do(chromedp.Click(chromedp.CSS("form.person button")), chromedp.WaitVisible(chromedp.CSS(`a[href*="/logout"]`)))
	has(t, b.text(), "Sign out there, too")
	b.open("/tasks")
	has(t, b.text(), "Sign in through")
	if said := b.heard(); len(said) > 0 {
		t.Errorf("the browser says %q", said)
	}
}

// The same at a proxy, whose header every request of the browser carries: the
// session is the proxy's, so a request without the header is nobody's.
func TestProxyInABrowser(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, config.SignInProxy)
	r.settings.Proxy.SignOut = "/oauth2/sign_out"
	r.console.SetSignIn(r.settings)
	b := newTab(t, r.rig)
	as := func(headers network.Headers) {
		call(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: headers})
	}
	as(network.Headers{"X-Forwarded-User": "mei@shop.example"})
	b.open("/limits")
	if text := b.text(); !strings.Contains(text, r.mei) || !strings.Contains(text, "shop") || strings.Contains(text, "hook") {
		t.Errorf("mei's limits:\n%s", text)
	}
	b.open("/campaigns/new")
	b.do(chromedp.SetValue(chromedp.CSS("[name=name]"), "weekly news"), chromedp.SetValue(chromedp.CSS("[name=targets]"), "user-1"),
		chromedp.Evaluate[chromedp.Void](`document.querySelector('[name=day] option').selected = true`),
		chromedp.Click(chromedp.CSS("form.fields button.main")), chromedp.WaitVisible(chromedp.CSS("[value=insert]")),
		chromedp.Click(chromedp.CSS("[value=insert]")), chromedp.WaitVisible(chromedp.CSS(`form[action$="/pause"]`)))
	var by string
	if err := r.db.QueryRow(t.Context(), `SELECT created_by FROM scheduler.campaigns`).Scan(&by); err != nil || by != r.mei {
		t.Errorf("the campaign was written by %q: %v", by, err)
	}
	if said := b.heard(); len(said) > 0 {
		t.Errorf("the browser says %q", said)
	}
	as(network.Headers{"X-Forwarded-User": "li@shop.example"})
	b.open("/limits")
	if text := b.text(); !strings.Contains(text, r.li) || strings.Contains(text, "shop") {
		t.Errorf("li's limits, in the browser that was mei's:\n%s", text)
	}
	b.do(chromedp.Click(chromedp.CSS("form.person button")), chromedp.WaitNotPresent(chromedp.CSS("main h2")))
	if at := result(b, chromedp.Location()); at != r.url+"/oauth2/sign_out" {
		t.Errorf("the way out leads to %s", at)
	}
	as(network.Headers{})
	b.open("/limits")
	has(t, b.text(), "it does not say who you are")
}
