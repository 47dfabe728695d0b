package loopback

import (
	"net"
	"net/netip"
	"testing"
)

func TestAddressesDifferAreFreeAndNotGivenToConnections(t *testing.T) {
	list, err := Addresses(20)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range list {
		if seen[a] {
			t.Errorf("%s twice", a)
		}
		seen[a] = true
		if p := netip.MustParseAddrPort(a).Port(); p < low || p >= high {
			t.Errorf("%s is a port that a connection may be given", a)
		}
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Errorf("%s: %v", a, err)
			continue
		}
		l.Close()
	}
}
