package webhook

import (
	"net/netip"
	"testing"
)

func TestPublic(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"93.184.216.34": true, "8.8.8.8": true, "2606:2800:220:1::1": true, "::ffff:8.8.8.8": true, "172.32.0.1": true,
		"127.0.0.1": false, "127.255.0.1": false, "::1": false, "::ffff:127.0.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "::": false,
		"10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false, "fd00::1": false, "::ffff:10.0.0.1": false,
		"169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "100.64.0.1": false, "192.0.0.170": false,
		"198.18.0.1": false, "224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false, "ff02::1": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "::127.0.0.1": false,

		// Every range of IANA's special-purpose registries, its first and last address and its neighbours.
		"0.255.255.255": false, "1.0.0.0": true, "9.255.255.255": true, "10.255.255.255": false, "11.0.0.0": true,
		"100.63.255.255": true, "100.127.255.255": false, "100.128.0.0": true, "126.255.255.255": true, "128.0.0.0": true,
		"169.253.255.255": true, "169.254.0.0": false, "169.254.255.255": false, "169.255.0.0": true, "172.15.255.255": true,
		"191.255.255.255": true, "192.0.0.0": false, "192.0.0.8": false, "192.0.0.9": true, "192.0.0.10": true, "192.0.0.11": false, "192.0.0.255": false, "192.0.1.0": true,
		"192.0.1.255": true, "192.0.2.0": false, "192.0.2.1": false, "192.0.2.255": false, "192.0.3.0": true, "192.31.196.1": true, "192.52.193.1": true, "192.175.48.1": true,
		"192.88.98.255": true, "192.88.99.0": false, "192.88.99.2": false, "192.88.99.255": false, "192.88.100.0": true,
		"192.167.255.255": true, "192.168.0.0": false, "192.168.255.255": false, "192.169.0.0": true,
		"198.17.255.255": true, "198.19.255.255": false, "198.20.0.0": true, "198.51.99.255": true, "198.51.100.0": false, "198.51.100.255": false, "198.51.101.0": true,
		"203.0.112.255": true, "203.0.113.0": false, "203.0.113.255": false, "203.0.114.0": true, "223.255.255.255": true, "239.255.255.255": false,

		"::ffff:192.0.2.1": false, "::ffff:203.0.113.9": false, "::ffff:0:8.8.8.8": false, "::8.8.8.8": false,
		"64:ff9b::8.8.8.8": true, "64:ff9b::10.0.0.1": false, "64:ff9b::169.254.169.254": false, "64:ff9b::192.0.2.1": false, "64:ff9b:0:0:0:1::": false, "64:ff9b:1::1": false, "64:ff9b:1::8.8.8.8": false,
		"100::": false, "100::1": false, "100::ffff:ffff:ffff:ffff": false, "100:0:0:1::1": false, "100:0:0:2::1": false, "1fff::1": false,
		"2001::1": false, "2001:0:4136:e378:8000:63bf:3fff:fdd2": false, "2001:1::1": true, "2001:1::2": true, "2001:1::3": true, "2001:1::4": false, "2001:2::1": false, "2001:3::1": true,
		"2001:4:112::1": true, "2001:4:113::1": false, "2001:10::1": false, "2001:20::1": true, "2001:2f:ffff::1": true, "2001:30::1": true, "2001:40::1": false, "2001:1ff:ffff::1": false, "2001:200::1": true,
		"2001:4860:4860::8888": true, "2001:db7::1": true, "2001:db8::": false, "2001:db8::1": false, "2001:db8:ffff:ffff::1": false, "2001:db9::1": true,
		"2002::1": false, "2002:808:808::1": false, "2003::1": true, "2620:4f:8000::1": true, "3ffe::1": true, "3fff::1": false, "3fff:fff::1": false, "3fff:1000::1": true,
		"4000::1": false, "5f00::1": false, "fc00::1": false, "fdff:ffff::1": false, "fe80::": false, "febf::1": false, "ff00::1": false,
		"2606:2800::5efe:10.0.0.1": false, "2606:2800::200:5efe:127.0.0.1": false, "2606:2800::5efe:8.8.8.8": true,
	} {
		if got := public(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}
