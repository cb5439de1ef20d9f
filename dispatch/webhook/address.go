package webhook

import (
	"net/netip"
	"slices"
	"syscall"
)

// special are the ranges that IANA's special-purpose registries for IPv4 and IPv6
// do not call globally reachable, by the registries of 2025. reachable are the
// parts of these ranges that the registries do call so. No receiver has a
// multicast address either.
var (
	special = prefixes(
		"0.0.0.0/8",       // this network
		"10.0.0.0/8",      // private use
		"100.64.0.0/10",   // shared by a carrier's customers
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local, with a cloud's metadata
		"172.16.0.0/12",   // private use
		"192.0.0.0/24",    // IETF protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // 6to4 relays, deprecated
		"192.168.0.0/16",  // private use
		"198.18.0.0/15",   // benchmarking
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, and broadcast

		"2001::/23",     // IETF protocol assignments, with Teredo, which carries an IPv4 address
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4, which carries an IPv4 address
		"3fff::/20",     // documentation
	)
	reachable = prefixes(
		"192.0.0.9/32", "192.0.0.10/32", // anycast: port control, TURN
		"2001:1::1/128", "2001:1::2/128", "2001:1::3/128", // anycast: port control, TURN, DNS-SD
		"2001:3::/32",                  // AMT
		"2001:4:112::/48",              // AS112
		"2001:20::/28", "2001:30::/28", // ORCHIDv2, drones
	)
	// global holds the unicast addresses of the IPv6 internet. No receiver may have
	// an IPv6 address outside it: loopback, unique local (fc00::/7),
	// link-local, site-local, discard-only (100::/64), segment routing (5f00::/16),
	// and IPv4 addresses in IPv6 (::/96, ::ffff:0:0:0/96, 64:ff9b:1::/48).
	global = netip.MustParsePrefix("2000::/3")
	// translated addresses carry an IPv4 address to which a network translates
	// them (RFC 6052). They are judged by that address.
	translated = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}

// public reports whether an address belongs to the public internet.
func public(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if translated.Contains(addr) {
		bytes := addr.As16()
		addr = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	if !addr.IsValid() || addr.Is6() && !global.Contains(addr) {
		return false
	}
	within := func(p netip.Prefix) bool { return p.Contains(addr) }
	if slices.ContainsFunc(special, within) && !slices.ContainsFunc(reachable, within) {
		return false
	}
	inside, carries := tunnelled(addr)
	return !carries || public(inside)
}

// tunnelled returns the IPv4 address in an interface identifier of ISATAP (RFC
// 5214), which any prefix may have.
func tunnelled(addr netip.Addr) (inside netip.Addr, carries bool) {
	if !addr.Is6() {
		return addr, false
	}
	b := addr.As16()
	if (b[8] == 0 || b[8] == 2) && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		return netip.AddrFrom4([4]byte(b[12:])), true
	}
	return addr, false
}

// A refusedAddress is a receiver's address that is not of the public internet.
type refusedAddress struct{ addr netip.Addr }

func (r *refusedAddress) Error() string {
	return "has the address " + r.addr.String() + ", which is not public; " + optAllowPrivate + " allows it"
}

// refuseInternal refuses addresses that are not public. It is called for each
// connection, after the name was resolved, so that no name server's answer can
// lead into the daemon's own network. It is not called for a proxy's address.
func refuseInternal(_, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !public(addr.Addr()) {
		return &refusedAddress{addr.Addr()}
	}
	return nil
}
