package webhook

import (
	"net/netip"
	"slices"
	"syscall"
)

// internal are the ranges, beyond those netip knows by name, that are not the
// public internet: IANA's special-purpose registries. The last three carry an
// IPv4 address inside, of any kind.
var internal = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("fec0::/10"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("64:ff9b::/32"),
	netip.MustParsePrefix("2002::/16"),
}

// public reports whether an address is of the public internet.
func public(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return false
	}
	return !slices.ContainsFunc(internal, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// A refusedAddress is a receiver's address that is not of the public internet.
type refusedAddress struct{ addr netip.Addr }

func (r *refusedAddress) Error() string {
	return "has the address " + r.addr.String() + ", which is not public; " + optAllowPrivate + " allows it"
}

// refuseInternal judges the address after the name was resolved and for each
// connection anew, so that no answer of a name server leads into the network
// around the daemon. Behind a proxy that is the proxy's affair.
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
