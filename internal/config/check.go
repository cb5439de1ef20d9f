package config

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
	"github.com/campaign-scheduler/scheduler/internal/textfile"
)

// check reports values that are out of range or do not fit each other. The types
// of values have been checked before.
func (l *loader) check(c *Config) {
	l.checkDatabase(c)
	l.checkAdmin(&c.Admin)
	l.checkConsole(&c.Console)
	l.checkDispatch(&c.Dispatch)
	l.positive("planner.interval", c.Planner.Interval)
	l.positive("restore_guard.max_gap", c.RestoreGuard.MaxGap)
	if r := c.Retention.Tasks; r > 0 && r < time.Hour {
		l.problem("retention.tasks", "must be 0s or at least 1h, since the database keeps a decision for an hour, not %s", r)
	}
	l.checkTracing(&c.Tracing)
	l.checkListen("sandbox.listen", c.Sandbox.Listen)
	if _, _, err := net.SplitHostPort(c.Sandbox.Listen); err == nil && !IsLoopback(c.Sandbox.Listen) {
		l.problem("sandbox.listen", "%s can be reached from other machines, and the sandbox's pages ask for no credential: listen on 127.0.0.1", c.Sandbox.Listen)
	}
	l.checkAPI(&c.API, c.Database.URL == "")
	l.fillWays(c)
	l.checkApps(c.Apps)
}

func (l *loader) checkDatabase(c *Config) {
	// With fewer than four connections the listener for notifications and the loops
	// would wait for each other.
	l.atLeast("database.max_connections", c.Database.MaxConnections, 4)
	l.positive("database.connect_timeout", c.Database.ConnectTimeout)
	l.positive("database.statement_timeout", c.Database.StatementTimeout)
	l.checkDatabaseURL("database.url", c.Database.URL)
	if c.Embedded.Port < 0 || c.Embedded.Port > 65535 {
		l.problem("embedded.port", "must be between 0 and 65535, not %d", c.Embedded.Port)
	}
	if c.DataDir == "" {
		l.problem("data_dir", "has no default for a user without a home directory; set it or %s", envName("data_dir"))
	}
}

func (l *loader) checkDatabaseURL(path string, u Secret) {
	scheme, _, isURL := strings.Cut(u.Reveal(), "://")
	if isURL && scheme != "postgres" && scheme != "postgresql" {
		l.problem(path, "must begin with postgres://")
	}
}

// checkCertificate checks the certificate file and the key file of a listener.
func (l *loader) checkCertificate(section, cert, key string) {
	if (cert == "") != (key == "") {
		l.problem(section+".cert_file", "needs key_file beside it, and the reverse")
	}
	certText, certRead := l.readChecked(section+".cert_file", cert)
	keyText, keyRead := l.readChecked(section+".key_file", key)
	if !certRead || !keyRead {
		return
	}
	_, certErr, keyErr := textfile.KeyPair(certText, keyText)
	if certErr != nil {
		l.problem(section+".cert_file", "%s: %v", cert, certErr)
	}
	if keyErr != nil {
		l.problem(section+".key_file", "%s: %v", key, keyErr)
	}
}

// readChecked reads the file that a setting names. ok is false when no file is
// named, and when the file cannot be read, which is reported.
func (l *loader) readChecked(path, name string) (text string, ok bool) {
	if name == "" {
		return "", false
	}
	content, err := readSmall(name)
	if err != nil {
		l.problem(path, "cannot read %s: %s", name, reason(err))
		return "", false
	}
	return string(content), true
}

func (l *loader) checkAdmin(a *Admin) {
	l.checkListen("admin.listen", a.Listen)
	l.checkCertificate("admin", a.CertFile, a.KeyFile)
	if a.ClientCAFile != "" && a.CertFile == "" {
		l.problem("admin.client_ca_file", "needs cert_file and key_file: clients show certificates over TLS only")
	}
	if text, ok := l.readChecked("admin.client_ca_file", a.ClientCAFile); ok {
		if _, err := textfile.Certificates(text); err != nil {
			l.problem("admin.client_ca_file", "%s: %v", a.ClientCAFile, err)
		}
	}
	if a.Token == "" && a.ClientCAFile == "" && !IsLoopback(a.Listen) {
		l.problem("admin.listen", "%s can be reached from other machines: set admin.token or admin.client_ca_file, or listen on 127.0.0.1", a.Listen)
	}
}

func (l *loader) checkDispatch(d *Dispatch) {
	l.positive("dispatch.push_timeout", d.PushTimeout)
	if d.Lease < 3*time.Second {
		l.problem("dispatch.lease", "must be at least 3s, since it is renewed every second, not %s", d.Lease)
	}
	l.atLeast("dispatch.max_in_flight", d.MaxInFlight, 1)
	l.positive("dispatch.retry.initial", d.Retry.Initial)
	if d.Retry.Max < d.Retry.Initial {
		l.problem("dispatch.retry.max", "must be at least retry.initial, %s, not %s", d.Retry.Initial, d.Retry.Max)
	}
}

func (l *loader) checkListen(path, listen string) {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		l.problem(path, "must be host:port, not %q", listen)
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		l.problem(path, "must end in a port between 0 and 65535, not %q", port)
	}
}

// IsLoopback reports whether only the machine itself can reach a host:port. A host
// name other than localhost is not resolved: IsLoopback returns false for it.
func IsLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// checkEndpoint checks that an endpoint is a URL without a password. The adapter
// decides whether an endpoint is required, and whether it may have a path.
func (l *loader) checkEndpoint(path, endpoint string) {
	if endpoint == "" {
		return
	}
	u, err := url.Parse(endpoint)
	_, unwritable := httpcall.ParseURL(endpoint)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "":
		l.problem(path, "must be a URL such as https://host")
	case u.User != nil || u.Fragment != "":
		l.problem(path, "must have no user, password or fragment")
	case unwritable != nil:
		l.problem(path, "%s", strings.TrimPrefix(unwritable.Error(), "endpoint "))
	case u.Scheme == "http" && !IsLoopback(net.JoinHostPort(u.Hostname(), "0")):
		l.warnings = append(l.warnings, path+" is not https: pushes and their answers can be read and changed on the way")
	}
}

func (l *loader) checkZone(path, zone string) {
	if _, err := time.LoadLocation(zone); err != nil || zone == "" || zone == "Local" {
		l.problem(path, "must be an IANA time zone such as Asia/Shanghai, not %q", zone)
	}
}

func (l *loader) positive(path string, d time.Duration) {
	if d <= 0 {
		l.problem(path, "must be more than zero")
	}
}

func (l *loader) atLeast(path string, n, least int) {
	if n < least {
		l.problem(path, "must be at least %d, not %d", least, n)
	}
}
