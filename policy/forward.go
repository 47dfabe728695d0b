package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// ForwardKind is the direction and family of a forward, in the words of the policy.
type ForwardKind string

const (
	// ForwardLocal is ssh -L: the host's sshd connects to HOST:PORT (direct-tcpip).
	ForwardLocal ForwardKind = "local"
	// ForwardRemote is ssh -R: the host's sshd listens on BIND:PORT (tcpip-forward).
	ForwardRemote ForwardKind = "remote"
	// ForwardLocalUnix connects to a socket path on the host (direct-streamlocal@openssh.com).
	ForwardLocalUnix ForwardKind = "local-unix"
	// ForwardRemoteUnix listens on a socket path on the host (streamlocal-forward@openssh.com).
	ForwardRemoteUnix ForwardKind = "remote-unix"
)

// maxUnixPath is what fits into sockaddr_un.sun_path with its NUL.
const maxUnixPath = 107

// ErrForward is what every error of ParseForward wraps.
var ErrForward = errors.New("invalid forward")

// Forward is one port or socket forward. Its text is the same in a rule, a statement and the CA's answer.
type Forward struct {
	Kind    ForwardKind
	Host    string // lower case name, or an address as netip writes it, unmapped
	Port    uint16 // 0 with ForwardRemote: the host's sshd picks one
	AnyPort bool   // port "*"
	Path    string // of the two unix kinds
}

// ParseForward reads `local HOST:PORT`, `remote BIND:PORT`, `local-unix PATH` or `remote-unix PATH`; PORT may be `*`.
// An IPv6 address stands in brackets. Nothing is resolved: a name and its address are two different forwards.
func ParseForward(s string) (Forward, error) {
	kind, rest, ok := strings.Cut(s, " ")
	if !ok {
		return Forward{}, fmt.Errorf("%w %q: want `local HOST:PORT`, `remote BIND:PORT`, `local-unix PATH` or `remote-unix PATH`", ErrForward, s)
	}
	f := Forward{Kind: ForwardKind(kind)}
	switch f.Kind {
	case ForwardLocal, ForwardRemote:
		i := strings.LastIndexByte(rest, ':')
		if i < 0 {
			return Forward{}, fmt.Errorf("%w %q: want HOST:PORT", ErrForward, s)
		}
		var err error
		if f.Host, err = parseEndpointHost(rest[:i]); err != nil {
			return Forward{}, fmt.Errorf("%w %q: %v", ErrForward, s, err)
		}
		if port := rest[i+1:]; port == "*" {
			f.AnyPort = true
		} else if f.Port, err = parsePort(port, f.Kind == ForwardRemote); err != nil {
			return Forward{}, fmt.Errorf("%w %q: %v", ErrForward, s, err)
		}
	case ForwardLocalUnix, ForwardRemoteUnix:
		switch {
		case !strings.HasPrefix(rest, "/"), path.Clean(rest) != rest, rest == "/":
			return Forward{}, fmt.Errorf("%w %q: the path must be absolute, without . or .. or //", ErrForward, s)
		case len(rest) > maxUnixPath:
			return Forward{}, fmt.Errorf("%w %q: the path is longer than %d bytes", ErrForward, s, maxUnixPath)
		}
		for i := range len(rest) {
			if rest[i] <= ' ' || rest[i] >= 0x7f {
				return Forward{}, fmt.Errorf("%w %q: the path may hold printable ASCII without blanks only", ErrForward, s)
			}
		}
		f.Path = rest
	default:
		return Forward{}, fmt.Errorf("%w %q: %q is none of local, remote, local-unix, remote-unix", ErrForward, s, kind)
	}
	return f, nil
}

// String is the text that ParseForward reads.
func (f Forward) String() string {
	switch f.Kind {
	case ForwardLocalUnix, ForwardRemoteUnix:
		return string(f.Kind) + " " + f.Path
	}
	port := "*"
	if !f.AnyPort {
		port = strconv.Itoa(int(f.Port))
	}
	return string(f.Kind) + " " + joinHostPort(f.Host, port)
}

// MarshalText and UnmarshalText let a Forward stand in JSON as its text.
func (f Forward) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

func (f *Forward) UnmarshalText(b []byte) error {
	var err error
	*f, err = ParseForward(string(b))
	return err
}

// Allows tells whether what f permits includes all of g.
func (f Forward) Allows(g Forward) bool {
	if f.Kind != g.Kind || f.Host != g.Host || f.Path != g.Path {
		return false
	}
	return f.AnyPort || !g.AnyPort && f.Port == g.Port
}

// parseEndpointHost accepts a name or an address; an IPv6 address in brackets.
func parseEndpointHost(s string) (string, error) {
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

func parsePort(s string, zero bool) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != s || n == 0 && !zero {
		return 0, fmt.Errorf("%q is no port", s)
	}
	return uint16(n), nil
}

func joinHostPort(host, port string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]:" + port
	}
	return host + ":" + port
}
