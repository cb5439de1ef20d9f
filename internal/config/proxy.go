package config

import (
	"crypto/x509"
	"net/url"

	"golang.org/x/net/http/httpproxy"

	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

// Words in the place of a proxy's URL.
const (
	proxyNone        = "none"
	proxyEnvironment = "environment"
)

// fillWays works out how each app's calls leave, and reads its authorities.
func (l *loader) fillWays(c *Config) {
	general, ok := l.way("dispatch.proxy", c.Dispatch.Proxy)
	if !ok {
		general = nil
	}
	for i := range c.Apps {
		app, path := &c.Apps[i], appPath(i)
		app.Way = general
		if app.Proxy != "" {
			app.Way, _ = l.way(path+".proxy", app.Proxy)
		}
		app.Authorities, _ = l.authorities(path+".ca_file", app.CAFile)
	}
	if c.Dispatch.Proxy == "" && l.env["HTTPS_PROXY"]+l.env["https_proxy"] != "" && len(c.Apps) > 0 {
		l.warnings = append(l.warnings, "HTTPS_PROXY is set and not used: dispatch.proxy: environment has push calls go through it")
	}
}

// way reads the setting of a proxy: nil for none.
func (l *loader) way(path string, setting Secret) (func(*url.URL) (*url.URL, error), bool) {
	switch text := setting.Reveal(); text {
	case "", proxyNone:
		return nil, true
	case proxyEnvironment:
		return l.environment(path)
	default:
		proxy, err := httpcall.ParseProxy(text)
		if err != nil {
			l.problem(path, "%s", err)
			return nil, false
		}
		return func(*url.URL) (*url.URL, error) { return proxy, nil }, true
	}
}

// environment takes HTTPS_PROXY and NO_PROXY, in capitals or not, as other
// programs do. An endpoint that is not https goes directly.
func (l *loader) environment(path string) (func(*url.URL) (*url.URL, error), bool) {
	first := func(names ...string) string {
		for _, name := range names {
			if l.env[name] != "" {
				return l.env[name]
			}
		}
		return ""
	}
	wanted := httpproxy.Config{HTTPSProxy: first("HTTPS_PROXY", "https_proxy"), NoProxy: first("NO_PROXY", "no_proxy")}
	if wanted.HTTPSProxy != "" {
		if _, err := httpcall.ParseProxy(wanted.HTTPSProxy); err != nil {
			l.problem(path, "is environment, and HTTPS_PROXY %s", err)
			return nil, false
		}
	}
	choose := wanted.ProxyFunc()
	return func(endpoint *url.URL) (*url.URL, error) {
		if endpoint.Scheme != "https" {
			return nil, nil //nolint:nilnil // no proxy is no error
		}
		return choose(endpoint)
	}, true
}

// authorities reads a file of authorities: its text, and those with the system's.
func (l *loader) authorities(path, name string) (string, *x509.CertPool) {
	if name == "" {
		return "", nil
	}
	text := l.readText(path, name)
	if text == "" {
		return "", nil
	}
	pool, err := httpcall.ParseAuthorities(text)
	if err != nil {
		l.problem(path, "%s %s", name, err)
		return "", nil
	}
	return text, pool
}
