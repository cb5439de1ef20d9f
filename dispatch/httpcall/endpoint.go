package httpcall

import (
	"errors"
	"net"
	"net/url"

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

// ParseURL reads an endpoint of the configuration that is a whole URL. A host
// outside ASCII is put into the form that name servers and certificates know.
// Errors do not quote it, since it may hold a password or a token.
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
	return u, toASCII(u)
}

func toASCII(u *url.URL) error {
	name := u.Hostname()
	if isASCII(name) {
		return nil
	}
	name, err := idna.Lookup.ToASCII(name)
	if err != nil {
		return errors.New("endpoint names a host that cannot be one")
	}
	if port := u.Port(); port != "" {
		name = net.JoinHostPort(name, port)
	}
	u.Host = name
	return nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
