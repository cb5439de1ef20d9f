package httpcall

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
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

// ParseURL reads an endpoint of the configuration that is a whole URL, and puts
// it into the form in which it is written on the wire: a host outside ASCII as
// name servers and certificates know it, and characters that no request line may
// hold percent-encoded. What cannot be put into a well-formed request line is
// refused. Errors do not quote the text, since it may hold a password or a token.
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
