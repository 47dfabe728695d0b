// Package forward is the text of a port or socket forward, the same in a policy's rule, a request's statement, the CA's answer and at the jump,
// which holds what a client asks for (RFC 4254 section 7, OpenSSH PROTOCOL section 2.4) against it.
package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// Kind is the direction and family of a forward, in the words of the policy.
type Kind string

const (
	// Local is ssh -L: the host's sshd connects to HOST:PORT (direct-tcpip).
	Local Kind = "local"
	// Remote is ssh -R: the host's sshd listens on BIND:PORT (tcpip-forward).
	Remote Kind = "remote"
	// LocalUnix connects to a socket path on the host (direct-streamlocal@openssh.com).
	LocalUnix Kind = "local-unix"
	// RemoteUnix listens on a socket path on the host (streamlocal-forward@openssh.com).
	RemoteUnix Kind = "remote-unix"
)

// maxUnixPath is what fits into sockaddr_un.sun_path with its NUL.
const maxUnixPath = 107

// ErrInvalid is what every error of Parse and of the Of functions wraps.
var ErrInvalid = errors.New("invalid forward")

// Forward is one port or socket forward. Its text is the same in a rule, a statement and the CA's answer.
type Forward struct {
	Kind    Kind
	Host    string // lower case name, or an address as netip writes it, unmapped
	Port    uint16 // 0 with Remote: the host's sshd picks one
	AnyPort bool   // port "*"
	Path    string // of the two unix kinds
}

// Parse reads `local HOST:PORT`, `remote BIND:PORT`, `local-unix PATH` or `remote-unix PATH`; PORT may be `*`.
// An IPv6 address stands in brackets. Nothing is resolved: a name and its address are two different forwards.
func Parse(s string) (Forward, error) {
	kind, rest, ok := strings.Cut(s, " ")
	if !ok {
		return Forward{}, fmt.Errorf("%w %q: want `local HOST:PORT`, `remote BIND:PORT`, `local-unix PATH` or `remote-unix PATH`", ErrInvalid, s)
	}
	f := Forward{Kind: Kind(kind)}
	switch f.Kind {
	case Local, Remote:
		i := strings.LastIndexByte(rest, ':')
		if i < 0 {
			return Forward{}, fmt.Errorf("%w %q: want HOST:PORT", ErrInvalid, s)
		}
		var err error
		if f.Host, err = ParseHost(rest[:i]); err != nil {
			return Forward{}, fmt.Errorf("%w %q: %v", ErrInvalid, s, err)
		}
		if port := rest[i+1:]; port == "*" {
			f.AnyPort = true
		} else if f.Port, err = ParsePort(port, f.Kind == Remote); err != nil {
			return Forward{}, fmt.Errorf("%w %q: %v", ErrInvalid, s, err)
		}
	case LocalUnix, RemoteUnix:
		switch {
		case !strings.HasPrefix(rest, "/"), path.Clean(rest) != rest, rest == "/":
			return Forward{}, fmt.Errorf("%w %q: the path must be absolute, without . or .. or //", ErrInvalid, s)
		case len(rest) > maxUnixPath:
			return Forward{}, fmt.Errorf("%w %q: the path is longer than %d bytes", ErrInvalid, s, maxUnixPath)
		}
		for i := range len(rest) {
			if rest[i] <= ' ' || rest[i] >= 0x7f {
				return Forward{}, fmt.Errorf("%w %q: the path may hold printable ASCII without blanks only", ErrInvalid, s)
			}
		}
		f.Path = rest
	default:
		return Forward{}, fmt.Errorf("%w %q: %q is none of local, remote, local-unix, remote-unix", ErrInvalid, s, kind)
	}
	return f, nil
}

// String is the text that Parse reads.
func (f Forward) String() string {
	switch f.Kind {
	case LocalUnix, RemoteUnix:
		return string(f.Kind) + " " + f.Path
	}
	port := "*"
	if !f.AnyPort {
		port = strconv.Itoa(int(f.Port))
	}
	return string(f.Kind) + " " + JoinHostPort(f.Host, port)
}

// MarshalText and UnmarshalText let a Forward stand in JSON as its text.
func (f Forward) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

func (f *Forward) UnmarshalText(b []byte) error {
	var err error
	*f, err = Parse(string(b))
	return err
}

// Allows tells whether what f permits includes all of g.
func (f Forward) Allows(g Forward) bool {
	if f.Kind != g.Kind || f.Host != g.Host || f.Path != g.Path {
		return false
	}
	return f.AnyPort || !g.AnyPort && f.Port == g.Port
}

// ParseHost accepts a name or an address; an IPv6 address in brackets.
func ParseHost(s string) (string, error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		if !ok || err != nil || a.Zone() != "" || !a.Is6() {
			return "", fmt.Errorf("%q is no bracketed IPv6 address", s)
		}
		return a.Unmap().String(), nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Is6() {
			return "", fmt.Errorf("an IPv6 address stands in brackets: [%s]", s)
		}
		return a.String(), nil
	}
	if s == "" || len(s) > 253 {
		return "", fmt.Errorf("%q is no host name or address", s)
	}
	digits := true
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '-' && i > 0:
			digits = false
		case c >= '0' && c <= '9', c == '.' && i > 0:
		default:
			return "", fmt.Errorf("%q is no host name or address", s)
		}
	}
	if digits { // "010.0.0.1", "1": resolvers differ on what they mean
		return "", fmt.Errorf("%q is no host name or address", s)
	}
	return strings.ToLower(s), nil
}

// ParsePort accepts a decimal port, 0 only if zero.
func ParsePort(s string, zero bool) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != s || n == 0 && !zero {
		return 0, fmt.Errorf("%q is no port", s)
	}
	return uint16(n), nil
}

// JoinHostPort is HOST:PORT, an IPv6 address in brackets.
func JoinHostPort(host, port string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]:" + port
	}
	return host + ":" + port
}
