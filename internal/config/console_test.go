package config_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/campaign-scheduler/scheduler/internal/config"
)

const oidcConsole = `
console:
  url: https://push.example
  sign_in: oidc
  database_url_file: url
  oidc:
    issuer: https://login.example/realms/push
    client_id: scheduler-console
    client_secret_file: secret
  roles:
    - {claim: preferred_username, value: mei, role: mei}
    - {value: push-operators, role: operators}
`

const proxyConsole = `
console:
  sign_in: proxy
  database_url: postgres://desk@db/push
  proxy:
    header: X-Forwarded-User
    from:
      - 10.0.0.5
      - 10.0.1.0/28
      - ::1
    sign_out: /oauth2/sign_out
  roles:
    - {value: mei@shop.example, role: mei}
`

// How people sign in, as it is written.
func TestSignInThroughOthers(t *testing.T) {
	t.Parallel()
	oidc := load(t, write(t, oidcConsole, "url", "postgres://desk@db/push\n", "secret", "hunter2\n")).Console
	want := config.Default().Console
	want.URL, want.SignIn, want.DatabaseURL = "https://push.example", "oidc", "postgres://desk@db/push"
	want.OIDC.Issuer, want.OIDC.ClientID, want.OIDC.ClientSecret = "https://login.example/realms/push", "scheduler-console", "hunter2"
	want.Roles = []config.RoleRule{{Claim: "preferred_username", Value: "mei", Role: "mei"}, {Claim: "groups", Value: "push-operators", Role: "operators"}}
	if diff := cmp.Diff(want, oidc, byValue); diff != "" {
		t.Errorf("oidc (-want +got):\n%s", diff)
	}

	proxy := load(t, write(t, proxyConsole), "SCHEDULER_CONSOLE_PROXY_FROM=10.9.0.1, 10.9.1.0/24").Console
	want = config.Default().Console
	want.SignIn, want.DatabaseURL = "proxy", "postgres://desk@db/push"
	want.Proxy = config.ConsoleProxy{
		Header: "X-Forwarded-User", From: []string{"10.9.0.1", "10.9.1.0/24"}, SignOut: "/oauth2/sign_out",
		Networks: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/32"), netip.MustParsePrefix("10.9.1.0/24")},
	}
	want.Roles = []config.RoleRule{{Value: "mei@shop.example", Role: "mei"}}
	if diff := cmp.Diff(want, proxy, byValue, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("proxy (-want +got):\n%s", diff)
	}

	unused := load(t, write(t, strings.Replace(oidcConsole, "sign_in: oidc", "sign_in: login", 1), "url", "postgres://desk@db/push", "secret", "s"))
	warned := []string{"console.oidc is set and not used: console.sign_in is login", "console.roles is set and not used: console.sign_in is login"}
	if diff := cmp.Diff(warned, unused.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// Each mistake is told with its key, the rule and the way out.
func TestSignInRules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, from, to, want string }{
		"no such way":              {oidcConsole, "sign_in: oidc", "sign_in: saml", `console.sign_in: must be one of login, oidc, proxy, not "saml"`},
		"no login for the front":   {oidcConsole, "  database_url_file: url\n", "", "console.database_url: is required with sign_in: oidc, or database_url_file: a login in scheduler_front"},
		"no rules":                 {strings.SplitAfter(oidcConsole, "  roles:")[0], "  roles:", "", "console.roles: is required with sign_in: oidc, since nobody gets in without a rule"},
		"no address":               {oidcConsole, "  url: https://push.example\n", "", "console.url: is required with sign_in: oidc, since the identity provider sends people back to it"},
		"an open address":          {oidcConsole, "url: https://push.example", "url: http://push.example", "console.url: must begin with https://: only a loopback address may be http"},
		"no issuer":                {oidcConsole, "issuer: https://login.example/realms/push", "issuer: ''", "console.oidc.issuer: is required with sign_in: oidc"},
		"an open issuer":           {oidcConsole, "issuer: https:", "issuer: http:", "console.oidc.issuer: must begin with https://: only a loopback address may be http"},
		"an issuer that is no URL": {oidcConsole, "issuer: https://login.example", "issuer: login.example", "console.oidc.issuer: must be a URL such as https://login.example"},
		"an issuer with a query":   {oidcConsole, "realms/push", "realms/push?a=b", "console.oidc.issuer: must have no user, password, query or fragment"},
		"no client":                {oidcConsole, "    client_id: scheduler-console\n", "", "console.oidc.client_id: is required with sign_in: oidc"},
		"no secret":                {oidcConsole, "    client_secret_file: secret\n", "", "console.oidc.client_secret: is required with sign_in: oidc, or client_secret_file"},
		"an empty secret":          {oidcConsole, "client_secret_file: secret", "client_secret_file: empty", "console.oidc.client_secret: the file"},
		"no authority":             {oidcConsole, "client_id:", "ca_file: secret\n    client_id:", "console.oidc.ca_file:"},
		"two scopes in one":        {oidcConsole, "client_id:", "scopes: [profile email]\n    client_id:", "console.oidc.scopes[0]: must be a scope's name, without spaces"},
		"scopes in no list":        {oidcConsole, "client_id:", "scopes: profile\n    client_id:", "console.oidc.scopes: must be a list: each item begins with a dash"},
		"no claim":                 {oidcConsole, "client_id:", "claim: ''\n    client_id:", "console.oidc.claim: must not be empty"},
		"a rule for everybody":     {oidcConsole, "value: push-operators, ", "", "console.roles[1].value: is required"},
		"a rule without a role":    {oidcConsole, ", role: operators", "", "console.roles[1].role: is required"},
		"a rule for the login":     {oidcConsole, "role: operators", "role: none", "console.roles[1].role: must be the name of a role"},
		"a rule twice":             {oidcConsole, "value: push-operators", "claim: preferred_username, value: mei", "console.roles[1].value: is that of roles[0] too; the first rule counts, so remove one"},
		"a rule that is none":      {oidcConsole, "value: push-operators", "group: push-operators", "console.roles[1].group: unknown key"},
		"no header":                {proxyConsole, "header: X-Forwarded-User", "header: ''", "console.proxy.header: is required with sign_in: proxy"},
		"no name of a header":      {proxyConsole, "header: X-Forwarded-User", "header: 'X Forwarded User'", "console.proxy.header: must be the name of a header"},
		"a browser's header":       {proxyConsole, "header: X-Forwarded-User", "header: cookie", "console.proxy.header: must be a header that only the proxy writes, such as X-Forwarded-User: browsers fill cookie"},
		"from nowhere":             {strings.Replace(proxyConsole, "\n      - 10.0.0.5\n      - 10.0.1.0/28\n      - ::1", " []", 1), "", "", "console.proxy.from: is required with sign_in: proxy"},
		"from a name":              {proxyConsole, "10.0.0.5", "proxy.example", `console.proxy.from[0]: must be an address or a network, such as 10.0.0.5 or 10.0.0.0/28, not "proxy.example"`},
		"from anywhere":            {proxyConsole, "10.0.1.0/28", "0.0.0.0/0", "console.proxy.from[1]: must not be every address: whoever connects from there can name anybody"},
		"from a crooked network":   {proxyConsole, "10.0.1.0/28", "10.0.1.3/28", "console.proxy.from[1]: must have no bits set behind its mask: 10.0.1.0/28"},
		"from a zone":              {proxyConsole, "::1", "fe80::1%eth0", "console.proxy.from[2]: must have no zone"},
		"a claim of a proxy":       {proxyConsole, "value: mei@", "claim: email, value: mei@", "console.roles[0].claim: must be left out with sign_in: proxy"},
		"a way out to others":      {proxyConsole, "/oauth2/sign_out", "//evil.example", "console.proxy.sign_out: must be a path on the console's host"},
		"no connection":            {proxyConsole, "sign_in: proxy", "sign_in: proxy\n  max_connections: 0", "console.max_connections: must be at least 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(c.text, c.from) {
				t.Fatalf("the configuration has no %q", c.from)
			}
			path := write(t, strings.Replace(c.text, c.from, c.to, 1), "url", "postgres://desk@db/push", "secret", "hunter2", "empty", "")
			_, err := config.Load(path, home, providers())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
