package jump

import (
	"errors"
	"fmt"
	"net"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/proxyproto"
)

// A preamble names the host before the first byte of SSH, so that the key exchange can show that host's certificate: a
// PROXY protocol v2 header (package proxyproto) with command LOCAL, family UNSPEC and exactly one TLV, of
// type AUTHORITY. It is unauthenticated, so it picks a host certificate among known names and nothing else; what it says of
// addresses would be a lie that anybody can tell (CVE-2024-35175), so a header that could hold any is refused.
//
// Behind a listed proxy the proxy's own header, with the person's address, comes first, and the person's preamble after it.

var (
	errPreamble = errors.New("malformed preamble")
	// errProxied: somebody claims to speak for another address.
	errProxied = errors.New("preamble with addresses")
	// errUnproxied: a listed proxy that doesn't say whose connection it is. Everybody behind it would have its address.
	errUnproxied = errors.New("a listed proxy without its header")
	// errHealth: a listed proxy that looks whether we live.
	errHealth = errors.New("a proxy's health check")
)

// proxyTimeout bounds the header of a listed proxy, which sends it at once.
const proxyTimeout = 3 * time.Second

// preambleHost reads a header that is a preamble, and nothing else.
func preambleHost(b []byte) (name.Host, error) {
	command, family, err := proxyproto.Kind(b)
	if err == nil && (command != proxyproto.Local || family != proxyproto.Unspec) {
		return "", errProxied // whatever else is wrong with it
	}
	h, err := proxyproto.Parse(b)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errPreamble, err)
	}
	if len(h.TLVs) != 1 || h.TLVs[0].Type != proxyproto.TypeAuthority {
		return "", fmt.Errorf("%w: want one TLV, the authority", errPreamble)
	}
	host, err := name.ParseHost(string(h.TLVs[0].Value))
	if err != nil {
		return "", fmt.Errorf("%w: %w", errPreamble, err)
	}
	return host, nil
}

// Preamble is what a client sends before its SSH identification string to reach host in one hop.
func Preamble(host name.Host) []byte {
	return proxyproto.Append(nil, proxyproto.Header{Local: true, TLVs: []proxyproto.TLV{{Type: proxyproto.TypeAuthority, Value: []byte(host)}}})
}

// readProxy takes a listed proxy's header: from here on the connection is its client's.
func (d *doorConn) readProxy() error {
	d.SetReadDeadline(time.Now().Add(proxyTimeout))
	defer d.SetReadDeadline(time.Time{})
	h, err := proxyproto.Read(d.quickConn)
	switch {
	case errors.Is(err, proxyproto.ErrMissing):
		return errUnproxied
	case err != nil:
		return fmt.Errorf("%w: %w", errPreamble, err)
	case h.Local && len(h.TLVs) > 0 && h.TLVs[0].Type == proxyproto.TypeAuthority: // its client's preamble: its own header is missing
		return errUnproxied
	case h.Local:
		return errHealth
	}
	d.remote = net.TCPAddrFromAddrPort(h.Source)
	d.peer = h.Source.Addr()
	return nil
}
