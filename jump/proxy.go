package jump

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// This file asks proxies for a way. They are read byte by byte where the length isn't known, so that not one byte of the host's is taken from it, and never
// further than to a bound; how long they may take is the caller's to say.

// errProxy is wrapped by what a proxy does against its protocol: there is no use in asking it for another host.
var errProxy = errors.New("the proxy answers against its protocol")

// errNoWay is wrapped where a proxy says that it doesn't connect.
var errNoWay = errors.New("the proxy opens no way")

// RFC 1928.
const (
	socksVersion    = 5
	socksNoAuth     = 0
	socksNoneFits   = 0xff
	socksConnectCmd = 1
	socksIPv4       = 1
	socksName       = 3
	socksIPv6       = 4
	maxSocksName    = 255
)

// socksReplies are what section 6 has for a refusal.
var socksReplies = map[byte]string{1: "general failure", 2: "not allowed by its rules", 3: "network unreachable", 4: "host unreachable",
	5: "connection refused", 6: "TTL expired", 7: "command not supported", 8: "address type not supported"}

// socksConnect asks a SOCKS5 proxy for a connection, without authentication.
func socksConnect(c io.ReadWriter, host, port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	if _, err := c.Write([]byte{socksVersion, 1, socksNoAuth}); err != nil {
		return err
	}
	var method [2]byte
	if _, err := io.ReadFull(c, method[:]); err != nil {
		return fmt.Errorf("%w: choosing a method: %w", errProxy, err)
	}
	switch {
	case method[0] != socksVersion:
		return fmt.Errorf("%w: version %d", errProxy, method[0])
	case method[1] == socksNoneFits:
		return fmt.Errorf("%w: it wants a password or the like", errProxy)
	case method[1] != socksNoAuth:
		return fmt.Errorf("%w: it chooses method %d, which wasn't offered", errProxy, method[1])
	}
	ask := []byte{socksVersion, socksConnectCmd, 0}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		kind := byte(socksIPv6)
		if ip.Is4() {
			kind = socksIPv4
		}
		ask = append(append(ask, kind), ip.AsSlice()...)
	} else {
		if len(host) > maxSocksName {
			return fmt.Errorf("name of %d bytes, at most %d go into SOCKS5", len(host), maxSocksName)
		}
		ask = append(append(ask, socksName, byte(len(host))), host...)
	}
	if _, err := c.Write(binary.BigEndian.AppendUint16(ask, uint16(n))); err != nil {
		return err
	}
	var reply [4]byte
	if _, err := io.ReadFull(c, reply[:]); err != nil {
		return fmt.Errorf("%w: %w", errNoWay, err) // perhaps it is the host that doesn't answer it
	}
	if reply[0] != socksVersion || reply[2] != 0 {
		return fmt.Errorf("%w: reply % x", errProxy, reply)
	}
	if reply[1] != 0 {
		why := socksReplies[reply[1]]
		if why == "" {
			why = "reply " + strconv.Itoa(int(reply[1]))
		}
		return fmt.Errorf("%w: %s", errNoWay, why)
	}
	var bound int // the address that the proxy connects from: nobody needs it, but the host's bytes come after it
	switch reply[3] {
	case socksIPv4:
		bound = net.IPv4len
	case socksIPv6:
		bound = net.IPv6len
	case socksName:
		var l [1]byte
		if _, err := io.ReadFull(c, l[:]); err != nil {
			return fmt.Errorf("%w: its address: %w", errProxy, err)
		}
		bound = int(l[0])
	default:
		return fmt.Errorf("%w: address type %d", errProxy, reply[3])
	}
	var rest [maxSocksName + 2]byte
	if _, err := io.ReadFull(c, rest[:bound+2]); err != nil {
		return fmt.Errorf("%w: its address: %w", errProxy, err)
	}
	return nil
}

const (
	// maxHeader is how long a proxy's whole answer may be: what goes before the host's first byte is small.
	maxHeader = 8 << 10
	// maxStatus is how much of a proxy's own words is shown.
	maxStatus = 80
)

// httpConnect asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6). Whatever its header fields say, the tunnel begins after the empty line.
func httpConnect(c io.ReadWriter, host, port string) error {
	at := net.JoinHostPort(host, port)
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", at, at); err != nil {
		return err
	}
	left := maxHeader
	line := func() (string, error) {
		var b strings.Builder
		var one [1]byte
		for ; left > 0; left-- {
			if _, err := io.ReadFull(c, one[:]); err != nil {
				return "", fmt.Errorf("%w: %w", errNoWay, err)
			}
			if one[0] == '\n' {
				left--
				return strings.TrimSuffix(b.String(), "\r"), nil
			}
			b.WriteByte(one[0])
		}
		return "", fmt.Errorf("%w: its header is longer than %d bytes", errProxy, maxHeader)
	}
	status, err := line()
	if err != nil {
		return err
	}
	code, ok := statusCode(status)
	if len(status) > maxStatus {
		status = status[:maxStatus] + "..."
	}
	if !ok {
		return fmt.Errorf("%w: %q is no status", errProxy, status)
	}
	if code < 200 || code > 299 {
		return fmt.Errorf("%w: %q", errNoWay, status)
	}
	for {
		if l, err := line(); err != nil {
			return err
		} else if l == "" {
			return nil
		}
	}
}

// statusCode reads "HTTP/1.1 200 Connection established"; the words after the code are anybody's.
func statusCode(line string) (int, bool) {
	rest, ok := strings.CutPrefix(line, "HTTP/1.")
	if !ok || len(rest) < 5 || rest[0] != '0' && rest[0] != '1' || rest[1] != ' ' || len(rest) > 5 && rest[5] != ' ' {
		return 0, false
	}
	n := 0
	for _, d := range []byte(rest[2:5]) {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = 10*n + int(d-'0')
	}
	return n, true
}
