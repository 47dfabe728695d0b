package jump

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"breakglass/internal/name"
)

// A preamble names the host before the first byte of SSH, so that the key exchange can show that host's certificate: a
// PROXY protocol v2 header (HAProxy proxy-protocol.txt section 2.2) with command LOCAL, family UNSPEC and exactly one TLV, of
// type AUTHORITY. It is unauthenticated, so it picks a host certificate among known names and nothing else; what it says of
// addresses would be a lie that anybody can tell (CVE-2024-35175), so a header that could hold any is refused.
const (
	preambleHeader = 16 // signature, command, family, length
	tlvAuthority   = 0x02
	commandLocal   = 0x20
	commandProxy   = 0x21
	familyUnspec   = 0x00
	// maxPreamble bounds what a stranger can make us hold; a name takes at most 3 + name.MaxLen bytes.
	maxPreamble = 512
)

// preambleStart can never begin an SSH identification string (RFC 4253 section 4.2).
var (
	preambleStart     = []byte("\r\n\r\n")
	preambleSignature = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

var (
	errPreamble = errors.New("malformed preamble")
	// errProxied: somebody claims to speak for another address.
	errProxied = errors.New("preamble with addresses")
)

// preambleLength reads the fixed part and says how many bytes follow.
func preambleLength(b []byte) (int, error) {
	if len(b) != preambleHeader || !bytes.HasPrefix(b, preambleSignature) {
		return 0, fmt.Errorf("%w: signature", errPreamble)
	}
	switch {
	case b[12] == commandProxy:
		return 0, errProxied
	case b[12] != commandLocal:
		return 0, fmt.Errorf("%w: version and command %#02x", errPreamble, b[12])
	case b[13] != familyUnspec:
		return 0, errProxied
	}
	n := int(binary.BigEndian.Uint16(b[14:]))
	if n > maxPreamble {
		return 0, fmt.Errorf("%w: %d bytes, limit %d", errPreamble, n, maxPreamble)
	}
	return n, nil
}

// parsePreamble reads the TLVs behind the fixed part.
func parsePreamble(b []byte) (name.Host, error) {
	if len(b) < 3 || b[0] != tlvAuthority || int(binary.BigEndian.Uint16(b[1:])) != len(b)-3 {
		return "", fmt.Errorf("%w: want one TLV, the authority", errPreamble)
	}
	h, err := name.ParseHost(string(b[3:]))
	if err != nil {
		return "", fmt.Errorf("%w: %w", errPreamble, err)
	}
	return h, nil
}

// Preamble is what a client sends before its SSH identification string to reach host in one hop.
func Preamble(host name.Host) []byte {
	b := bytes.Clone(preambleSignature)
	b = append(b, commandLocal, familyUnspec)
	b = binary.BigEndian.AppendUint16(b, uint16(3+len(host)))
	b = append(b, tlvAuthority)
	b = binary.BigEndian.AppendUint16(b, uint16(len(host)))
	return append(b, host...)
}
