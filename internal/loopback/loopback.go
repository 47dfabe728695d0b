// Package loopback finds addresses on 127.0.0.1 for tests and demos whose services have to know theirs before they listen, and listen on
// the same one again after a restart.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports from low to high are below those that systems give to connections (Linux: from 32768 on, net.ipv4.ip_local_port_range; RFC 6056):
// between a stop and the next start no connection of anybody's takes one.
const (
	low  = 10_000
	high = 30_000
	// tries bounds the search on a machine where much listens.
	tries = 1000
)

// Addresses gives n addresses, IP:PORT, on which nothing listens just now.
func Addresses(n int) ([]string, error) {
	var out []string
	var err error
	for range tries {
		if len(out) == n {
			return out, nil
		}
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", low+rand.IntN(high-low))); err != nil {
			continue
		}
		defer l.Close() // all are held until all are chosen, so that they differ
		out = append(out, l.Addr().String())
	}
	return nil, fmt.Errorf("finding a free port: %w", err)
}
