package config

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

// bindApps reads the list of apps.
func (l *loader) bindApps(n *node, path string) []App { return bindList(l, n, path, "app", l.bindApp) }

// bindList reads a list. The environment overrides items of the file by their
// position, and may add items after the last one.
func bindList[T any](l *loader, n *node, path, what string, bind func(item *node, at string) T) []T {
	var items []*node
	if n != nil {
		items = n.items
		if n.kind != list && n.kind != nothing {
			l.problem(path, "must be a list: each %s begins with a dash", what)
			return nil
		}
	}
	var bound []T
	for i := 0; ; i++ {
		at := fmt.Sprintf("%s[%d]", path, i)
		var item *node
		switch {
		case i < len(items):
			item = items[i]
			l.origins[at] = origin{line: item.line, column: item.column}
		case !l.hasEnvBelow(at):
			return bound
		}
		bound = append(bound, bind(item, at))
	}
}

func (l *loader) bindApp(n *node, path string) App {
	app := defaultApp()
	options := l.optionsOf(n, path)
	var names []string
	for _, o := range options {
		names = append(names, o.Name, o.Name+fileTwin)
	}
	l.bindStruct(n, path, reflect.ValueOf(&app).Elem(), names)
	app.Options = make(map[string]Secret, len(options))
	for _, o := range options {
		at := join(path, o.Name)
		if given := l.secret(n, at); given != "" {
			app.Options[o.Name] = given
		} else if o.Required {
			l.problem(at, "is required for the provider %s: %s", app.Provider, o.Help)
		}
	}
	return app
}

// optionsOf returns the options of the app's provider. When the provider is
// missing or unknown, the options of all providers are allowed: check reports the
// provider, and one mistake must not be reported as ten.
func (l *loader) optionsOf(n *node, path string) []dispatch.Option {
	named, ok := l.lookup(n, join(path, "provider"), true)
	if ok {
		if p := l.provider(named.text); p != nil {
			return p.Options()
		}
	}
	var all []dispatch.Option
	for _, p := range l.providers {
		for _, o := range p.Options() {
			o.Required = false
			all = append(all, o)
		}
	}
	return all
}

func (l *loader) provider(name string) Provider {
	for _, p := range l.providers {
		if p.Provider() == name {
			return p
		}
	}
	return nil
}

// quotas reads weekly_quota: a mapping of channel to number in the file, or
// channel=number,channel=number in the environment.
func (l *loader) quotas(n *node, path string) map[string]int {
	if text, ok := l.lookupEnv(path); ok {
		l.origins[path] = origin{env: envName(path)}
		return l.quotasOfText(path, text)
	}
	section := l.section(n, path)
	if section == nil || section.kind == nothing {
		return nil
	}
	if section.kind != mapping {
		l.problem(path, "must be a mapping of channel to number of calls")
		return nil
	}
	quotas := map[string]int{}
	for _, e := range section.entries {
		at := path + "[" + printable(e.key) + "]"
		l.origins[at] = origin{line: e.line, column: e.column, shown: true}
		if e.value.kind != scalar {
			l.problem(at, "must be a whole number")
			continue
		}
		text, err := expand(e.value.text, l.env)
		if err != nil {
			l.problem(at, "%s", err)
			continue
		}
		l.quota(quotas, at, e.key, text)
	}
	return quotas
}

func (l *loader) quotasOfText(path, text string) map[string]int {
	quotas := map[string]int{}
	for pair := range strings.SplitSeq(text, ",") {
		channel, number, _ := strings.Cut(strings.TrimSpace(pair), "=")
		l.quota(quotas, path, channel, number)
	}
	return quotas
}

func (l *loader) quota(quotas map[string]int, path, channel, number string) {
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 {
		l.problem(path, "must be a whole number, 0 for no quota, not %q", number)
		return
	}
	quotas[channel] = n
}

// checkApps checks each app, and that no two apps are the same.
func (l *loader) checkApps(apps []App) {
	type key struct{ appID, workspaceID string }
	seen := map[key]int{}
	for i, app := range apps {
		path := appPath(i)
		before := len(l.problems)
		l.checkApp(path, app)
		if len(l.problems) == before {
			l.tryApp(path, app)
		}
		k := key{app.AppID, app.WorkspaceID}
		if first, twice := seen[k]; twice && app.AppID != "" {
			l.problem(path+".app_id", "is that of apps[%d] too, with the same workspace_id", first)
			continue
		}
		seen[k] = i
	}
}

func appPath(i int) string { return fmt.Sprintf("apps[%d]", i) }

func (l *loader) checkApp(path string, app App) {
	if app.AppID == "" {
		l.problem(path+".app_id", "is required")
	}
	l.checkProvider(path, app)
	l.checkEndpoint(path+".endpoint", app.Endpoint)
	l.checkZone(path+".time_zone", app.TimeZone)
	l.atLeast(path+".pending_limit", app.PendingLimit, 1)
	l.checkQuiet(path, app)
	l.atLeast(path+".max_in_flight", app.MaxInFlight, 1)
	if app.CallsPerSecond < 0 {
		l.problem(path+".calls_per_second", "must not be negative; 0 is no bound")
	}
	if n := app.TargetsPerSecond; n != 0 && (n < minTargetsPerSecond || n > maxTargetsPerSecond) {
		l.problem(path+".targets_per_second", "must be from %v to %d, or 0 for what the database has", minTargetsPerSecond, maxTargetsPerSecond)
	}
}

// checkQuiet checks the app's quiet hours by the rules of scheduler.apps.
func (l *loader) checkQuiet(path string, app App) {
	if app.QuietFrom == "" && app.QuietUntil == "" {
		return
	}
	var times []time.Time
	for _, o := range []struct{ name, value string }{{".quiet_from", app.QuietFrom}, {".quiet_until", app.QuietUntil}} {
		if o.value == "" {
			l.problem(path+o.name, "is required: quiet hours have a beginning and an end")
			continue
		}
		at, err := time.Parse("15:04:05", o.value)
		if err != nil {
			at, err = time.Parse("15:04", o.value)
		}
		if err != nil || strings.ContainsAny(o.value, ".,") {
			l.problem(path+o.name, "must be a time of day from 00:00:00 to 23:59:59, such as \"22:00\", not %q", o.value)
			continue
		}
		times = append(times, at)
	}
	if len(times) == 2 && times[0].Equal(times[1]) {
		l.problem(path+".quiet_until", "must differ from quiet_from; to push nothing at all, pause the campaigns")
	}
}

// The bounds of an app's ceiling of targets per second. The database has the same.
const (
	minTargetsPerSecond = 0.01
	maxTargetsPerSecond = 10_000_000
)

// tryApp makes the adapter judge the app's options, such as keys that cannot be
// read. It does nothing when an option has been reported already.
func (l *loader) tryApp(path string, app App) {
	provider := l.provider(app.Provider)
	for _, o := range provider.Options() {
		if l.faulty[join(path, o.Name)] {
			return
		}
	}
	if l.faulty[join(path, "proxy")] || l.faulty[join(path, "ca_file")] {
		return
	}
	if _, err := provider.New(app.Settings()); err != nil {
		l.problem(path, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

func (l *loader) checkProvider(path string, app App) {
	var names []string
	for _, p := range l.providers {
		names = append(names, p.Provider())
	}
	provider := l.provider(app.Provider)
	switch {
	case app.Provider == "":
		l.problem(path+".provider", "is required: one of %s", strings.Join(names, ", "))
	case provider == nil:
		l.problem(path+".provider", "must be one of %s, not %q", strings.Join(names, ", "), app.Provider)
	default:
		l.checkQuotaChannels(path+".weekly_quota", app.WeeklyQuota, provider)
	}
}

func (l *loader) checkQuotaChannels(path string, quotas map[string]int, provider Provider) {
	var channels []string
	for _, c := range provider.Channels() {
		channels = append(channels, c.Name)
	}
	for channel := range quotas {
		if !slices.Contains(channels, channel) {
			at := path + "[" + printable(channel) + "]"
			l.problem(at, "is no channel of %s%s", provider.Provider(), didYouMean(channel, channels))
		}
	}
}

// Words that a proxy setting may hold instead of a URL.
const (
	proxyNone        = "none"
	proxyEnvironment = "environment"
)

// fillWays sets each app's Way and Authorities: the proxy of its calls, and the
// certificate authorities that it trusts.
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

// way reads a proxy setting and returns the function that chooses the proxy of an
// endpoint. The function is nil when calls go directly.
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

// environment chooses the proxy by HTTPS_PROXY and NO_PROXY, in upper or lower
// case, as other programs do. Calls to an endpoint that is not https go directly.
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

// authorities reads a file of certificate authorities. It returns the text of the
// file, and a pool of these authorities and the system's.
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
