// Package proxyproto reads PROXY protocol version 2 headers (HAProxy, proxy-protocol.txt section 2.2), by which a proxy says whose connection
// it hands on. Whoever may be believed is its caller's to know: a header is a claim that anybody can make (CVE-2024-35175, CVE-2021-23409), so
// CA and jump take an address from listed proxies alone, and end the connection of everybody else who sends one.
//
// Read takes exactly the header's bytes, within MaxLength, and waits for no more. It is strict: version 2; command PROXY with TCP over IPv4 or
// IPv6, or LOCAL; well-formed TLVs behind the addresses; a checksum that is there must be right. Version 1, UDP and Unix sockets are refused.
// There is no other place from which CA or jump take an address: no X-Forwarded-For, no Forwarded.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
)

const (
	// FixedLength is the part of every header that says how long the rest is.
	FixedLength = 16
	// MaxLength bounds what follows: addresses have 36 bytes, an authority at most 255. More would only be held for strangers.
	MaxLength = 512

	// Version and command in one byte.
	Local = 0x20
	Proxy = 0x21

	// Families: address family and protocol in one byte.
	Unspec = 0x00
	TCP4   = 0x11
	TCP6   = 0x21

	// TypeAuthority is the TLV that names the host that a client asked for.
	TypeAuthority = 0x02
	typeCRC32C    = 0x03
)

// Signature begins each header. It can begin neither an SSH identification string (RFC 4253 section 4.2) nor a TLS record.
var signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// Start is enough of the signature to tell a header from anything else that CA or jump expect.
const Start = "\r\n\r\n"

var (
	// ErrMalformed is what every error about a header's bytes wraps.
	ErrMalformed = errors.New("malformed PROXY header")
	// ErrMissing says that what came is no header.
	ErrMissing = errors.New("no PROXY header")
)

// TLV is a field behind the addresses.
type TLV struct {
	Type  byte
	Value []byte
}

// Header is one header.
type Header struct {
	Local  bool // command LOCAL: the sender speaks for itself
	Family byte
	// Source and Destination are those of command PROXY, unmapped; zero with LOCAL, whatever it brings.
	Source, Destination netip.AddrPort
	TLVs                []TLV
}

// Length reads the fixed part, FixedLength bytes, and says how many follow.
func Length(b []byte) (int, error) {
	if len(b) != FixedLength || !bytes.HasPrefix(b, signature) {
		return 0, fmt.Errorf("%w: signature", ErrMalformed)
	}
	if b[12] != Local && b[12] != Proxy {
		return 0, fmt.Errorf("%w: version and command %#02x", ErrMalformed, b[12])
	}
	n := int(binary.BigEndian.Uint16(b[14:]))
	if n > MaxLength {
		return 0, fmt.Errorf("%w: %d bytes, limit %d", ErrMalformed, n, MaxLength)
	}
	return n, nil
}

// Kind reads what a header is, of its fixed part.
func Kind(b []byte) (command, family byte, err error) {
	if len(b) < FixedLength {
		return 0, 0, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	_, err = Length(b[:FixedLength])
	return b[12], b[13], err
}

// Parse reads a whole header and nothing behind it.
func Parse(b []byte) (Header, error) {
	var h Header
	if len(b) < FixedLength {
		return h, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	n, err := Length(b[:FixedLength])
	if err != nil {
		return h, err
	}
	if len(b) != FixedLength+n {
		return h, fmt.Errorf("%w: %d bytes, it says %d", ErrMalformed, len(b), FixedLength+n)
	}
	h.Local, h.Family = b[12] == Local, b[13]
	rest := b[FixedLength:]
	size := 0
	switch h.Family {
	case Unspec:
		if !h.Local {
			return h, fmt.Errorf("%w: command PROXY without an address", ErrMalformed)
		}
	case TCP4:
		size = 2*4 + 2*2
	case TCP6:
		size = 2*16 + 2*2
	default:
		return h, fmt.Errorf("%w: family and protocol %#02x: only TCP", ErrMalformed, h.Family)
	}
	if len(rest) < size {
		return h, fmt.Errorf("%w: addresses cut off", ErrMalformed)
	}
	if size > 0 && !h.Local { // "the receiver must accept … and must use the real connection endpoints" with LOCAL
		w := (size - 4) / 2
		at := func(i, port int) netip.AddrPort {
			a, _ := netip.AddrFromSlice(rest[i : i+w])
			return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(rest[port:]))
		}
		h.Source, h.Destination = at(0, 2*w), at(w, 2*w+2)
		if a := h.Source.Addr(); a.IsUnspecified() || a.IsMulticast() {
			return h, fmt.Errorf("%w: nobody connects from %s", ErrMalformed, a)
		}
	}
	h.TLVs, err = tlvs(b, FixedLength+size)
	return h, err
}

// tlvs reads those of the header b from offset on.
func tlvs(b []byte, offset int) ([]TLV, error) {
	var out []TLV
	for i := offset; i < len(b); {
		if len(b)-i < 3 {
			return nil, fmt.Errorf("%w: a TLV cut off", ErrMalformed)
		}
		n := int(binary.BigEndian.Uint16(b[i+1:]))
		if len(b)-i-3 < n {
			return nil, fmt.Errorf("%w: a TLV of %d bytes, %d are left", ErrMalformed, n, len(b)-i-3)
		}
		t := TLV{b[i], bytes.Clone(b[i+3 : i+3+n])}
		if t.Type == typeCRC32C {
			if err := checksum(b, i+3, n); err != nil {
				return nil, err
			}
		}
		out = append(out, t)
		i += 3 + n
	}
	return out, nil
}

// checksum is over the whole header with its own four bytes as zero (section 2.2.3).
func checksum(b []byte, at, n int) error {
	if n != 4 {
		return fmt.Errorf("%w: a checksum of %d bytes", ErrMalformed, n)
	}
	blank := bytes.Clone(b)
	clear(blank[at : at+4])
	if crc32.Checksum(blank, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b[at:]) {
		return fmt.Errorf("%w: wrong checksum", ErrMalformed)
	}
	return nil
}

// Read takes one header from r, whose deadline is the caller's. ErrMissing is there for what is none; what was read of it is lost.
func Read(r io.Reader) (Header, error) {
	b := make([]byte, FixedLength, FixedLength+MaxLength)
	if _, err := io.ReadFull(r, b[:len(Start)]); err != nil {
		return Header{}, err
	}
	if string(b[:len(Start)]) != Start {
		return Header{}, ErrMissing
	}
	if _, err := io.ReadFull(r, b[len(Start):]); err != nil {
		return Header{}, err
	}
	n, err := Length(b)
	if err != nil {
		return Header{}, err
	}
	b = b[:FixedLength+n]
	if _, err := io.ReadFull(r, b[FixedLength:]); err != nil {
		return Header{}, err
	}
	return Parse(b)
}

// Append writes a header. The addresses of one header are of one family; LOCAL has none.
func Append(b []byte, h Header) []byte {
	b = append(b, signature...)
	var body []byte
	command, family := byte(Local), byte(Unspec)
	if !h.Local {
		command, family = Proxy, TCP6
		if h.Source.Addr().Is4() && h.Destination.Addr().Is4() {
			family = TCP4
			src, dst := h.Source.Addr().As4(), h.Destination.Addr().As4()
			body = append(append(body, src[:]...), dst[:]...)
		} else {
			src, dst := h.Source.Addr().As16(), h.Destination.Addr().As16()
			body = append(append(body, src[:]...), dst[:]...)
		}
		body = binary.BigEndian.AppendUint16(body, h.Source.Port())
		body = binary.BigEndian.AppendUint16(body, h.Destination.Port())
	}
	for _, t := range h.TLVs {
		body = append(body, t.Type)
		body = binary.BigEndian.AppendUint16(body, uint16(len(t.Value)))
		body = append(body, t.Value...)
	}
	b = append(b, command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// Listed tells whether a is one of the proxies.
func Listed(proxies []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// ParseList reads a configuration's list of proxies: addresses, or prefixes no wider than /16 and /48: a network that wide is no list of proxies,
// and everybody in it may say who they are.
func ParseList(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); aerr == nil && a.Zone() == "" {
			a = a.Unmap()
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		switch {
		case err != nil || p != p.Masked() || p.Addr().Is4In6():
			return nil, fmt.Errorf(`proxies: %q: want an address or a network, as in "10.0.0.5" or "10.0.0.0/29"`, s)
		case p.Addr().Is4() && p.Bits() < 16 || p.Addr().Is6() && p.Bits() < 48:
			return nil, fmt.Errorf("proxies: %q: whoever is in there may claim any address: name the proxies themselves", s)
		}
		out = append(out, p)
	}
	return out, nil
}
