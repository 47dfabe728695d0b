package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/forward"
)

// hostPlaceholder stands for the name asked for in the address of a pattern.
const hostPlaceholder = "{host}"

// parseEndpoint accepts "10.0.0.5:22", "[fd00::5]:22" and "db.example.net:22" and writes them in one way.
func parseEndpoint(s string) (string, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") || strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "[") {
		return "", fmt.Errorf("%q has no port: want 10.0.0.5:22, [fd00::5]:22 or db.example.net:22", s)
	}
	host, err := forward.ParseHost(s[:i])
	if err != nil {
		return "", err
	}
	// No name of the DNS ends in a number (RFC 3696, section 2): this is an address with a slip in it.
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil && endsInNumber(host) {
		return "", fmt.Errorf("%q is neither an IP address nor a name", host)
	}
	if _, err := forward.ParsePort(s[i+1:], false); err != nil {
		return "", err
	}
	return forward.JoinHostPort(host, s[i+1:]), nil
}

func endsInNumber(name string) bool {
	label := name[strings.LastIndexByte(name, '.')+1:]
	return label != "" && strings.Trim(label, "0123456789") == ""
}

// addressesValid guards what came out of {host}: a name that is only digits and dots must be an address.
func addressesValid(list []string) bool {
	for _, a := range list {
		if _, err := parseEndpoint(a); err != nil {
			return false
		}
	}
	return true
}

// endpointIP is the address of an endpoint that needs no DNS.
func endpointIP(s string) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(s)
	return ap.Addr().Unmap(), err == nil
}

// parsePrefix accepts a CIDR prefix without host bits and gives an IPv4-mapped one as the IPv4 prefix that it is.
func parsePrefix(s string) (netip.Prefix, string, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, aerr := netip.ParseAddr(s); aerr == nil && a.Zone() == "" {
			a = a.Unmap()
			return netip.Prefix{}, fmt.Sprintf("for that one address write %q", netip.PrefixFrom(a, a.BitLen()).String()), fmt.Errorf("%q is an address, not a network", s)
		}
		return netip.Prefix{}, `write it like "198.51.100.0/24"`, fmt.Errorf("%q is no network", s)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, "write IPv4 and IPv6 apart", fmt.Errorf("%q reaches beyond the IPv4-mapped addresses", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Sprintf("did you mean %q?", p.Masked().String()), fmt.Errorf("%q has bits set beyond its length", s)
	}
	return p, "", nil
}

// parseHostKey accepts one public key line, as in ssh_host_ed25519_key.pub, without options.
func parseHostKey(s string) (ssh.PublicKey, error) {
	k, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(s))
	switch {
	case err != nil:
		return nil, errors.New("this is no public key line")
	case len(options) > 0:
		return nil, errors.New("a key line with options in front")
	case len(strings.TrimSpace(string(rest))) > 0:
		return nil, errors.New("more than one line; each key is an element of its own")
	}
	switch k.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA:
		return k, nil
	}
	return nil, fmt.Errorf("key type %s: want ed25519, ecdsa or rsa, and no certificate", k.Type())
}
