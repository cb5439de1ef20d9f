package httpcall

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/idna"

	"github.com/campaign-scheduler/scheduler/internal/textfile"
)

// ParseEndpoint reads an endpoint of the configuration: a scheme and a host and
// nothing else. Errors do not quote it, since it may hold a password.
func ParseEndpoint(s string) (*url.URL, error) {
	u, err := ParseURL(s)
	switch {
	case err != nil:
		return nil, err
	case u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return nil, errors.New("endpoint must be a scheme and a host only")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// ParseURL reads an endpoint of the configuration that is a whole URL. It
// returns the URL in the form in which it is sent: a host outside ASCII as name
// servers and certificates know it, and percent-encoded all characters that a
// request line may not hold. It refuses a URL that fits into no well-formed
// request line. Errors do not quote the text, since it may hold a password or a
// token.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("endpoint is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("endpoint must begin with https:// or http://")
	case u.User != nil:
		return nil, errors.New("endpoint must not hold a user or password: calls are signed")
	case u.Hostname() == "":
		return nil, errors.New("endpoint names no host")
	}
	if u.Host, err = wireHost(u); err != nil {
		return nil, err
	}
	u.RawQuery, err = wireQuery(u.RawQuery)
	return u, err
}

var (
	errHost  = errors.New("endpoint names a host that cannot be one")
	errPort  = errors.New("endpoint must name a port between 1 and 65535, or none")
	errZone  = errors.New("endpoint names an address with a zone (%), which no request can hold")
	errQuery = errors.New("endpoint has a % in its query that is not followed by two hex digits: write %25")
)

// wireHost returns a URL's host and port as a request and a certificate name
// them.
func wireHost(u *url.URL) (string, error) {
	name, port := u.Hostname(), u.Port()
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", errPort
		}
		port = ":" + port
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		switch {
		case addr.Zone() != "":
			return "", errZone
		case addr.Is6():
			name = "[" + name + "]"
		}
		return name + port, nil
	}
	if !isASCII(name) {
		var err error
		if name, err = idna.Lookup.ToASCII(name); err != nil {
			return "", errHost
		}
	}
	if !isHostName(name) {
		return "", errHost
	}
	return name + port, nil
}

// isHostName reports whether a text may be the name of a host: labels of
// letters, digits, "-" and "_", which some networks use.
func isHostName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notInLabel) {
			return false
		}
	}
	return true
}

func notInLabel(r rune) bool {
	return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// inQuery are the characters, beside letters and digits, that a query holds as
// they are (RFC 3986).
const inQuery = "-._~!$&'()*+,;=:@/?"

// wireQuery percent-encodes what a query may not hold as it is. net/url does so
// with a path, and leaves a query alone.
func wireQuery(query string) (string, error) {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(query) {
		switch c := query[i]; {
		case c == '%':
			if _, err := url.QueryUnescape(query[i:min(i+3, len(query))]); err != nil {
				return "", errQuery
			}
			b.WriteByte(c)
		case !notInLabel(rune(c)) || strings.IndexByte(inQuery, c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String(), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// A Way says how a client's calls leave the machine. The zero value is the
// direct way.
type Way struct {
	// Transport, when not nil, makes the calls instead of the package's own
	// connections. See NewClient.
	Transport http.RoundTripper
	// Proxy returns the forward proxy for an endpoint, or nil for none. A proxy is
	// used as a tunnel (CONNECT) to an https endpoint only, so that it can neither
	// read nor answer a call.
	Proxy func(endpoint *url.URL) (*url.URL, error)
	// Authorities are certificates in PEM form that are trusted in addition to
	// the system's.
	Authorities string
	// Control may refuse a connection by its address before it is made; see
	// net.Dialer. It is not asked about a proxy's address.
	Control func(network, address string, c syscall.RawConn) error
}

var errClear = errors.New("endpoint must begin with https:// to be called through a proxy; proxy: none calls it directly")

// NewClientFor returns a Client for calls to an endpoint by a way. Clients of
// the same way share connections, except those with a Control.
func NewClientFor(endpoint *url.URL, way Way) (*Client, error) {
	if way.Transport != nil {
		return NewClient(way.Transport), nil
	}
	var proxy *url.URL
	if way.Proxy != nil {
		var err error
		if proxy, err = way.Proxy(endpoint); err != nil {
			return nil, fmt.Errorf("proxy %w", err)
		}
	}
	if proxy != nil && endpoint.Scheme != "https" {
		return nil, errClear
	}
	roots, err := ParseAuthorities(way.Authorities)
	if err != nil {
		return nil, fmt.Errorf("ca_file %w", err)
	}
	if way.Control != nil && proxy == nil {
		p := newPool(way.Control)
		p.tls.RootCAs = roots
		return &Client{pool: p}, nil
	}
	return &Client{pool: poolOf(proxy, way.Authorities, roots)}, nil
}

// ParseProxy reads a proxy's URL: a scheme, a host, and a user and password where
// it wants some. Errors do not quote it.
func ParseProxy(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("is not a URL; a password in it has to be percent-encoded")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("must begin with http:// or https://")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("must be a scheme and a host, and nothing after them")
	}
	host, err := ParseURL(u.Scheme + "://" + u.Host)
	if err != nil {
		return nil, errors.New("names a host or port that cannot be one")
	}
	return &url.URL{Scheme: u.Scheme, Host: host.Host, User: u.User}, nil
}

// ParseAuthorities returns the system's authorities and those of a text, which
// are certificates in PEM form. It returns nil where the text has none.
func ParseAuthorities(text string) (*x509.CertPool, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // the system's alone
	}
	list, err := textfile.Certificates(text)
	if err != nil {
		return nil, fmt.Errorf("is not certificates in PEM form: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, cert := range list {
		pool.AddCert(cert)
	}
	return pool, nil
}

// A route identifies ways that can share connections.
type route struct {
	proxy       string
	authorities [sha256.Size]byte
}

var routes = struct {
	mu    sync.Mutex
	pools map[route]*pool
}{pools: make(map[route]*pool)}

func poolOf(proxy *url.URL, authorities string, roots *x509.CertPool) *pool {
	r := route{authorities: sha256.Sum256([]byte(authorities))}
	if proxy != nil {
		r.proxy = proxy.String()
	}
	routes.mu.Lock()
	defer routes.mu.Unlock()
	p := routes.pools[r]
	if p == nil {
		p = newPool(nil)
		p.proxy, p.tls.RootCAs = proxy, roots
		routes.pools[r] = p
	}
	return p
}

// connect tells net/http how to read a proxy's answer.
var connect = &http.Request{Method: http.MethodConnect}

var errEager = errors.New("the proxy sent more than its answer")

// tunnel asks a proxy for a connection to a host. No byte of a call is sent
// before the tunnel stands, so a call that fails here was certainly not sent.
// Errors repeat only the status of the proxy's answer, since its other texts may
// hold anything.
func tunnel(ctx context.Context, to net.Conn, proxy *url.URL, h host) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	undisturbed := context.AfterFunc(ctx, func() { _ = to.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !undisturbed() && err == nil {
			err = ctx.Err()
		}
	}()
	address := net.JoinHostPort(h.name, h.port)
	var b strings.Builder
	b.WriteString("CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: " + userAgent + "\r\n")
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		b.WriteString("Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n")
	}
	b.WriteString("\r\n")
	if _, err := to.Write([]byte(b.String())); err != nil {
		return fmt.Errorf("the proxy took no request: %w", because(ctx, err))
	}
	r := bufio.NewReader(to)
	res, err := http.ReadResponse(r, connect)
	if err != nil {
		return fmt.Errorf("the proxy gave no answer: %w", because(ctx, err))
	}
	_ = res.Body.Close()
	switch {
	case res.StatusCode/100 != 2:
		return fmt.Errorf("the proxy refused the tunnel: HTTP %d", res.StatusCode)
	case r.Buffered() > 0:
		return errEager
	}
	return nil
}

// Reach makes a connection as a call to the URL would, with its guard and TLS,
// sends nothing, and closes it. With a transport that the caller gave there is
// nothing to try, and Reach returns nil.
func (c *Client) Reach(ctx context.Context, to *url.URL) error {
	if c.pool == nil {
		return nil
	}
	conn, err := c.pool.open(ctx, hostOf(to))
	if err != nil {
		return because(ctx, err)
	}
	return conn.Close()
}
