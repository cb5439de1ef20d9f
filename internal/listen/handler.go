package listen

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// loopbackHosts serves requests only that name this machine by a loopback name or
// address. A browser writes there the name of the page's own site.
func loopbackHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !IsLoopbackHost(r.Host) {
			http.Error(w, WrongHost, http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// WrongHost is the refusal of a request whose Host is not IsLoopbackHost.
const WrongHost = "the host named is not this machine's loopback; use 127.0.0.1 or localhost"

// IsLoopbackHost says whether a Host, with a port or without, names this machine by
// a loopback name or address.
func IsLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}
