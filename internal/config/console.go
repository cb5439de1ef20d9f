package config

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Ways to sign in to the console.
const (
	SignInLogin = "login" // a person's own database login
	SignInOIDC  = "oidc"  // an OpenID Connect identity provider
	SignInProxy = "proxy" // a header of a proxy in front
)

// Console configures the web console.
type Console struct {
	// Listen is host:port. Empty: no console, or, with the embedded database,
	// 127.0.0.1:8082, or a free port when that one is in use.
	Listen string `yaml:"listen"`
	// URL is the address at which browsers reach the console, such as
	// https://push.example, if it differs from Listen. Sign-in links start with it,
	// and identity providers send people back to it.
	URL string `yaml:"url"`
	// CertFile and KeyFile, PEM, make the listener speak TLS.
	CertFile string `yaml:"cert_file" as:"path"`
	KeyFile  string `yaml:"key_file" as:"path"`
	// BehindProxy says that a proxy in front speaks TLS to browsers.
	BehindProxy bool `yaml:"behind_proxy"`
	// SignIn is how people sign in: SignInLogin, SignInOIDC or SignInProxy.
	SignIn string `yaml:"sign_in" oneof:"login,oidc,proxy"`
	// DatabaseURL holds the login that acts for the people whom OIDC or Proxy names.
	// The login must be a member of scheduler_front and of each role in Roles.
	DatabaseURL Secret `yaml:"database_url"`
	// MaxConnections bounds the pool of that login, which all people share.
	MaxConnections int          `yaml:"max_connections"`
	OIDC           OIDC         `yaml:"oidc"`
	Proxy          ConsoleProxy `yaml:"proxy"`
	// Roles are the rules that give each person a database role. The first rule that
	// fits what OIDC or Proxy says of the person counts. A person whom no rule fits
	// cannot sign in.
	Roles []RoleRule `yaml:"roles"`
}

// OIDC is an OpenID Connect identity provider.
type OIDC struct {
	// Issuer is the URL of the identity provider, as its discovery document names it.
	Issuer       string `yaml:"issuer"`
	ClientID     string `yaml:"client_id"`
	ClientSecret Secret `yaml:"client_secret"`
	// Scopes are requested in addition to openid.
	Scopes []string `yaml:"scopes"`
	// Claim is the claim of those rules in Roles that name none.
	Claim string `yaml:"claim"`
	// CAFile, PEM, holds certificate authorities that are trusted in addition to the
	// system's.
	CAFile string `yaml:"ca_file" as:"path"`

	// Authorities are the authorities of CAFile and of the system. nil: those of the
	// system.
	Authorities *x509.CertPool `yaml:"-"`
}

// ConsoleProxy is a proxy in front of the console that signs people in.
type ConsoleProxy struct {
	// Header is the header in which the proxy names the person.
	Header string `yaml:"header"`
	// From are the addresses and networks from which the proxy connects.
	From []string `yaml:"from"`
	// SignOut is the path, on the console's host, at which the proxy signs people
	// out. Empty: there is none.
	SignOut string `yaml:"sign_out"`

	// Networks are the parsed entries of From.
	Networks []netip.Prefix `yaml:"-"`
}

// A RoleRule gives a database role to people.
type RoleRule struct {
	// Claim is a claim of the ID token, or a path of names with dots. Empty:
	// OIDC.Claim. With a proxy, Claim must be empty and the value of the header is
	// used.
	Claim string `yaml:"claim"`
	// Value is the value of the claim, or one of its values if it is a list. Upper
	// and lower case differ.
	Value string `yaml:"value"`
	// Role is the database role.
	Role string `yaml:"role"`
}

var roleRulesType = reflect.TypeFor[[]RoleRule]()

func defaultConsole() Console {
	return Console{SignIn: SignInLogin, MaxConnections: 8, OIDC: OIDC{Scopes: []string{"profile", "email"}, Claim: "groups"}}
}

// bindRoleRules reads the list of rules.
func (l *loader) bindRoleRules(n *node, path string) []RoleRule {
	return bindList(l, n, path, "rule", func(item *node, at string) RoleRule {
		var r RoleRule
		l.bindStruct(item, at, reflect.ValueOf(&r).Elem(), nil)
		return r
	})
}

func (l *loader) checkConsole(c *Console) {
	l.checkCertificate("console", c.CertFile, c.KeyFile)
	u, err := url.Parse(c.URL)
	if c.URL != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "") {
		l.problem("console.url", "must be a scheme and a host such as https://push.example")
	}
	if c.Listen != "" {
		l.checkListen("console.listen", c.Listen)
		if c.CertFile == "" && !c.BehindProxy && !IsLoopback(c.Listen) {
			l.problem("console.listen", "%s can be reached from other machines: set console.cert_file and key_file, or behind_proxy where a proxy speaks TLS, or listen on 127.0.0.1", c.Listen)
		}
	}
	l.checkDatabaseURL("console.database_url", c.DatabaseURL)
	l.atLeast("console.max_connections", c.MaxConnections, 1)
	switch c.SignIn {
	case SignInOIDC:
		l.checkFront(c)
		l.checkOIDC(&c.OIDC, c.URL)
	case SignInProxy:
		l.checkFront(c)
		l.checkConsoleProxy(&c.Proxy)
	default:
		for _, unused := range []struct {
			path  string
			given bool
		}{{"console.oidc", c.OIDC.Issuer != ""}, {"console.proxy", c.Proxy.Header != ""}, {"console.roles", len(c.Roles) > 0}} {
			if unused.given {
				l.warnings = append(l.warnings, unused.path+" is set and not used: console.sign_in is "+c.SignIn)
			}
		}
	}
}

// checkFront checks the settings that the console needs to act for people: the
// login and the rules.
func (l *loader) checkFront(c *Console) {
	if c.DatabaseURL == "" {
		l.problem("console.database_url", "is required with sign_in: %s, or database_url_file: a login in scheduler_front that may take on the roles of console.roles", c.SignIn)
	}
	if len(c.Roles) == 0 {
		l.problem("console.roles", "is required with sign_in: %s, since nobody gets in without a rule: write a value and a role for each person or group", c.SignIn)
	}
	type key struct{ claim, value string }
	seen := map[key]int{}
	for i := range c.Roles {
		r, at := &c.Roles[i], fmt.Sprintf("console.roles[%d]", i)
		switch {
		case c.SignIn == SignInProxy && r.Claim != "":
			l.problem(at+".claim", "must be left out with sign_in: proxy, where the header's value counts")
		case c.SignIn == SignInOIDC && r.Claim == "":
			r.Claim = c.OIDC.Claim
		}
		if r.Value == "" {
			l.problem(at+".value", "is required: the person or group as the claim or header names it")
		} else if first, twice := seen[key{r.Claim, r.Value}]; twice {
			l.problem(at+".value", "is that of roles[%d] too; the first rule counts, so remove one", first)
		} else {
			seen[key{r.Claim, r.Value}] = i
		}
		switch r.Role {
		case "":
			l.problem(at+".role", "is required: the database role whose rights the person has")
		case "none": // SET ROLE takes it for the login itself
			l.problem(at+".role", "must be the name of a role")
		}
	}
}

func (l *loader) checkOIDC(o *OIDC, address string) {
	if o.Issuer == "" {
		l.problem("console.oidc.issuer", "is required with sign_in: oidc: the URL that the identity provider's discovery document names")
	} else if rule := SecureURL(o.Issuer); rule != "" {
		l.problem("console.oidc.issuer", "%s", rule)
	}
	if address == "" {
		l.problem("console.url", "is required with sign_in: oidc, since the identity provider sends people back to it: the console's address in browsers, such as https://push.example")
	} else if rule := SecureURL(address); rule != "" {
		l.problem("console.url", "%s", rule)
	}
	if o.ClientID == "" {
		l.problem("console.oidc.client_id", "is required with sign_in: oidc: the client that the identity provider has for the console")
	}
	if o.ClientSecret == "" {
		l.problem("console.oidc.client_secret", "is required with sign_in: oidc, or client_secret_file")
	}
	if o.Claim == "" {
		l.problem("console.oidc.claim", "must not be empty: leave it out for groups")
	}
	for i, s := range o.Scopes {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			l.problem(fmt.Sprintf("console.oidc.scopes[%d]", i), "must be a scope's name, without spaces")
		}
	}
	_, o.Authorities = l.authorities("console.oidc.ca_file", o.CAFile)
}

// SecureURL checks a URL whose traffic must not be read on the way. It must be
// https, or http to loopback, without user, query and fragment. SecureURL returns
// the rule that the address breaks, or "" when it breaks none.
func SecureURL(address string) string {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "must be a URL such as https://login.example"
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "must have no user, password, query or fragment"
	case u.Scheme == "http" && !IsLoopback(net.JoinHostPort(u.Hostname(), "0")):
		return "must begin with https://: only a loopback address may be http"
	}
	return ""
}

// unfit are headers that cannot name the person, since browsers or HTTP itself set
// them.
var unfit = []string{
	"Host", "Cookie", "Authorization", "Origin", "Referer", "User-Agent", "Accept", "Accept-Language", "Content-Type", "Content-Length", "Connection",
	"Transfer-Encoding", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip",
}

func (l *loader) checkConsoleProxy(p *ConsoleProxy) {
	switch {
	case p.Header == "":
		l.problem("console.proxy.header", "is required with sign_in: proxy: the header in which the proxy names the person, such as X-Forwarded-User")
	case !httpguts.ValidHeaderFieldName(p.Header):
		l.problem("console.proxy.header", "must be the name of a header, such as X-Forwarded-User")
	case slices.ContainsFunc(unfit, func(name string) bool { return strings.EqualFold(name, p.Header) }):
		l.problem("console.proxy.header", "must be a header that only the proxy writes, such as X-Forwarded-User: browsers fill %s", p.Header)
	}
	if len(p.From) == 0 {
		l.problem("console.proxy.from", "is required with sign_in: proxy: the addresses or networks that the proxy connects from, such as 10.0.0.5 or 10.0.0.0/28")
	}
	p.Networks = nil
	for i, text := range p.From {
		network, rule := parseNetwork(text)
		if rule != "" {
			l.problem(fmt.Sprintf("console.proxy.from[%d]", i), "%s, not %q", rule, text)
			continue
		}
		p.Networks = append(p.Networks, network)
	}
	if p.SignOut != "" && (!strings.HasPrefix(p.SignOut, "/") || strings.HasPrefix(p.SignOut, "//") || strings.ContainsFunc(p.SignOut, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' })) {
		l.problem("console.proxy.sign_out", "must be a path on the console's host, such as /oauth2/sign_out")
	}
}

// parseNetwork parses an address or a network. rule is the rule that the text
// breaks, or "".
func parseNetwork(text string) (network netip.Prefix, rule string) {
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return network, "must have no zone"
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), ""
	}
	network, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return network, "must be an address or a network, such as 10.0.0.5 or 10.0.0.0/28"
	case network.Addr().Is4In6():
		return network, "must be written as IPv4"
	case network.Masked() != network:
		return network, "must have no bits set behind its mask: " + network.Masked().String()
	case network.Bits() == 0:
		return network, "must not be every address: whoever connects from there can name anybody"
	}
	return network, ""
}
