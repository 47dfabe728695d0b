// Package listen opens the addresses of a configuration, all or none: a service that is there for one family of addresses only would be found
// out at night.
package listen

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// All opens each IP:PORT. An error names the address that can't be had, and none is open then.
//
// An IPv4 address takes IPv4 only: "0.0.0.0" would take both families otherwise (package net). "[::]:PORT" alone takes both; beside an IPv4 address
// of the same port it takes its own, or the two would be in each other's way.
func All(addresses []string) ([]net.Listener, error) {
	var ls []net.Listener
	for _, a := range addresses {
		l, err := one(a, addresses)
		if err != nil {
			for _, l := range ls {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
		ls = append(ls, l)
	}
	return ls, nil
}

func one(a string, all []string) (net.Listener, error) {
	ap, err := netip.ParseAddrPort(a)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: want IP:PORT: %w", a, err)
	}
	network := "tcp"
	if ap.Addr().Is4() {
		network = "tcp4"
	} else if slices.ContainsFunc(all, func(b string) bool {
		bp, err := netip.ParseAddrPort(b)
		return err == nil && bp.Addr().Is4() && bp.Port() == ap.Port()
	}) {
		network = "tcp6"
	}
	return net.Listen(network, a)
}
