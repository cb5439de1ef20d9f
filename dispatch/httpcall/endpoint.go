package httpcall

import (
	"errors"
	"net/url"
)

// ParseEndpoint reads an endpoint of the configuration: a scheme and a host and
// nothing else. Errors do not quote it, since it may hold a password.
func ParseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("endpoint is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("endpoint must begin with https:// or http://")
	case u.User != nil:
		return nil, errors.New("endpoint must not hold a user or password")
	case u.Hostname() == "":
		return nil, errors.New("endpoint names no host")
	case u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return nil, errors.New("endpoint must be a scheme and a host only")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}
