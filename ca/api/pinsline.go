package api

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"breakglass/ledger"
)

// PinsLine is what a client has to know to fetch its pins and prove them: short enough to be typed from paper, and no secret.
//
// The line is "bgpins1-" and the bytes below in Crockford's base32 (lower case, no i, l, o, u; the first three are read as 1, 1 and 0), five characters
// a group:
//
//	16         SHA-256 of the ledger's verifier key, which begins with the origin; its first half
//	1          n, number of TLS keys (1 to 4)
//	n × 16     SHA-256 of each key's SubjectPublicKeyInfo, active first; its first half
//	1          m, number of addresses (1 to 8)
//	m × (1 + 4 or 16 + 2)   4 or 6 for the family, address, port (big endian)
//	4          SHA-256 of all that; its first four bytes: a slip of the pen is told from a wrong CA
//
// Half a hash is enough: somebody else's key would have to fit one that is given (2^128 trials).
type PinsLine struct {
	LedgerKey [16]byte
	TLS       [][16]byte
	Addresses []netip.AddrPort
}

const (
	linePrefix = "bgpins1"
	// maxLine bounds a line in bytes: what is longer was not printed by us.
	maxLine     = 1 << 10
	lineKeys    = 4
	lineAddress = 8
	lineCheck   = 4
)

// ErrLine is wrapped by the errors of ParsePinsLine.
var ErrLine = errors.New("malformed pins line")

var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// Line is the site's pins as a line. Of more keys or addresses than fit the first are taken: the active ones.
func Line(s ledger.Site) (PinsLine, error) {
	var l PinsLine
	h := sha256.Sum256([]byte(s.LedgerKey))
	copy(l.LedgerKey[:], h[:])
	for _, t := range s.TLS[:min(len(s.TLS), lineKeys)] {
		b, err := hex.DecodeString(t)
		if err != nil || len(b) != sha256.Size {
			return l, fmt.Errorf("TLS key %q is no SHA-256 in hex", t)
		}
		l.TLS = append(l.TLS, [16]byte(b))
	}
	for _, a := range s.Addresses[:min(len(s.Addresses), lineAddress)] {
		ap, err := netip.ParseAddrPort(a)
		if err != nil {
			return l, err
		}
		l.Addresses = append(l.Addresses, netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()))
	}
	if len(l.TLS) == 0 || len(l.Addresses) == 0 {
		return l, errors.New("the site has no TLS key or no address")
	}
	return l, nil
}

// Is says whether the ledger's verifier key is the one that the line pins.
func (l PinsLine) Is(ledgerKey string) bool {
	h := sha256.Sum256([]byte(ledgerKey))
	return [16]byte(h[:16]) == l.LedgerKey
}

// Trusts says whether a SubjectPublicKeyInfo's SHA-256 is pinned.
func (l PinsLine) Trusts(spki [sha256.Size]byte) bool {
	for _, t := range l.TLS {
		if t == [16]byte(spki[:16]) {
			return true
		}
	}
	return false
}

func (l PinsLine) bytes() []byte {
	out := append([]byte(nil), l.LedgerKey[:]...)
	out = append(out, byte(len(l.TLS)))
	for _, t := range l.TLS {
		out = append(out, t[:]...)
	}
	out = append(out, byte(len(l.Addresses)))
	for _, a := range l.Addresses {
		family := byte(6)
		if a.Addr().Is4() {
			family = 4
		}
		out = append(append(out, family), a.Addr().AsSlice()...)
		out = append(out, byte(a.Port()>>8), byte(a.Port()))
	}
	h := sha256.Sum256(out)
	return append(out, h[:lineCheck]...)
}

// String is the one spelling of the line.
func (l PinsLine) String() string {
	var b strings.Builder
	b.WriteString(linePrefix)
	for s := crockford.EncodeToString(l.bytes()); s != ""; {
		n := min(5, len(s))
		b.WriteString("-" + s[:n])
		s = s[n:]
	}
	return b.String()
}

// ParsePinsLine reads a line as people type it: spaces, line ends, dashes and the case of letters say nothing.
func ParsePinsLine(s string) (PinsLine, error) {
	var l PinsLine
	bad := func(format string, a ...any) (PinsLine, error) {
		return PinsLine{}, fmt.Errorf("%w: "+format, append([]any{ErrLine}, a...)...)
	}
	if len(s) > maxLine {
		return bad("%d bytes, limit %d", len(s), maxLine)
	}
	s = strings.ToLower(strings.NewReplacer("-", "", " ", "", "\n", "", "\r", "", "\t", "").Replace(s))
	body, ok := strings.CutPrefix(s, linePrefix)
	if !ok {
		return bad("it should begin with %s", linePrefix)
	}
	body = strings.NewReplacer("o", "0", "i", "1", "l", "1").Replace(body)
	b, err := crockford.DecodeString(body)
	if err != nil {
		return bad("%w", err)
	}
	if crockford.EncodeToString(b) != body { // spare bits at the end
		return bad("the end of it is mistyped")
	}
	if len(b) < lineCheck {
		return bad("it is too short")
	}
	rest, check := b[:len(b)-lineCheck], b[len(b)-lineCheck:]
	if h := sha256.Sum256(rest); string(h[:lineCheck]) != string(check) {
		return bad("a character is mistyped, or a part is missing")
	}
	take := func(n int) []byte {
		if n > len(rest) {
			ok = false
			return make([]byte, n)
		}
		x := rest[:n]
		rest = rest[n:]
		return x
	}
	l.LedgerKey = [16]byte(take(16))
	n := int(take(1)[0])
	if n < 1 || n > lineKeys {
		return bad("%d TLS keys", n)
	}
	for range n {
		l.TLS = append(l.TLS, [16]byte(take(16)))
	}
	m := int(take(1)[0])
	if m < 1 || m > lineAddress {
		return bad("%d addresses", m)
	}
	for range m {
		size := 16
		switch family := take(1)[0]; family {
		case 4:
			size = 4
		case 6:
		default:
			return bad("address of family %d", family)
		}
		a, _ := netip.AddrFromSlice(take(size))
		p := take(2)
		if size == 16 && a.Is4In6() {
			return bad("an IPv4 address written as IPv6")
		}
		l.Addresses = append(l.Addresses, netip.AddrPortFrom(a, uint16(p[0])<<8|uint16(p[1])))
	}
	if !ok || len(rest) != 0 {
		return bad("it is cut off, or something follows")
	}
	return l, nil
}
