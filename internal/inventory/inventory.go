// Package inventory reads what other tools know of hosts (ssh's known_hosts, Ansible's inventories, a table) and writes it as hosts of a policy.
//
// It guarantees to whoever imports: no key was fetched or guessed, each stands in the file that was given; no line is passed over in silence, what can't
// be a host of a policy is in Refused with its line and what to do; and what is written says exactly what is in Hosts, whatever stood in the file.
// Whether a policy takes it is not judged here.
package inventory

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

// MaxBytes bounds a file: some 50,000 hosts.
const MaxBytes = 16 << 20

// maxHosts bounds what a file of a few bytes may expand to (ranges).
const maxHosts = 100_000

// ErrFormat is what the error wraps of a file that is none of its kind.
var ErrFormat = errors.New("can't be read")

// Host is one host as a file describes it. Name may be a pattern with one '*'.
type Host struct {
	Name    string
	Address []string // "ip:port", "[ip]:port" or "name:port", literal addresses first
	Keys    []string // public key lines without comment
	CA      []string
	Groups  []string
	Line    int // 0: the format has none

	names []string // in the file: "host" or "[host]:port", lower case
}

// Refused is a line that is no host of a policy.
type Refused struct {
	Line int // 0: the format has none
	What string
	Why  string
	Next string // what to do
}

// List is what a file holds.
type List struct {
	Hosts   []Host // sorted by name
	Refused []Refused
}

func (l *List) refuse(line int, what, next, why string, args ...any) {
	l.Refused = append(l.Refused, Refused{line, what, fmt.Sprintf(why, args...), next})
}

func (l *List) sort() {
	slices.SortStableFunc(l.Hosts, func(a, b Host) int { return strings.Compare(a.Name, b.Name) })
}

// TOML writes a host as an entry of a policy.
func (h Host) TOML() string {
	var b strings.Builder
	n := h.Name
	if strings.ContainsAny(n, ".*") {
		n = quote(n)
	}
	fmt.Fprintf(&b, "[hosts.%s]\n", n)
	for _, f := range []struct {
		key  string
		list []string
	}{{"address", h.Address}, {"host_keys", h.Keys}, {"host_ca", h.CA}, {"groups", h.Groups}} {
		if len(f.list) == 0 {
			continue
		}
		var q []string
		for _, s := range f.list {
			q = append(q, quote(s))
		}
		fmt.Fprintf(&b, "%s = [%s]\n", f.key, strings.Join(q, ", "))
	}
	return b.String()
}

// quote makes a TOML basic string. What is quoted was checked: addresses, keys and names have neither quotes nor controls; anything else is escaped.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// keyLine checks a key and gives its line without comment; of the types that a policy takes.
func keyLine(typ, blob string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		return "", fmt.Errorf("the key is no base64")
	}
	k, err := ssh.ParsePublicKey(raw)
	if err != nil {
		return "", fmt.Errorf("the key can't be read")
	}
	if k.Type() != typ {
		return "", fmt.Errorf("the key is %s, the line says %s", k.Type(), typ)
	}
	switch typ {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA:
		return typ + " " + base64.StdEncoding.EncodeToString(raw), nil
	}
	return "", fmt.Errorf("a key of type %s: want ed25519, ecdsa or rsa", typ)
}

// endpoint joins host and port; port "" is 22.
func endpoint(host, port string) (string, error) {
	if port == "" {
		port = "22"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
		return "", fmt.Errorf("port %q", port)
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		if ip.Zone() != "" {
			return "", fmt.Errorf("address %q has a zone, which means something on one machine alone", host)
		}
		return net.JoinHostPort(ip.Unmap().String(), port), nil
	}
	host = strings.ToLower(host)
	if _, err := name.ParseHost(host); err != nil {
		return "", fmt.Errorf("address: %w", err)
	}
	return net.JoinHostPort(host, port), nil
}

// isIP tells literal addresses from names.
func isIP(host string) bool {
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// order puts literal addresses before names, which need DNS, and each once.
func order(address []string) []string {
	slices.SortStableFunc(address, func(a, b string) int {
		_, x := netip.ParseAddrPort(a)
		_, y := netip.ParseAddrPort(b)
		switch {
		case x == nil && y != nil:
			return -1
		case x != nil && y == nil:
			return 1
		}
		return 0
	})
	var out []string
	for _, a := range address {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// AddKeys gives hosts without a key those that known, a known_hosts, has for their name or for one of their addresses. Which matched says nothing of who
// answers there: it is what the person who wrote known_hosts trusts already.
func (l *List) AddKeys(known *List) {
	for i := range l.Hosts {
		h := &l.Hosts[i]
		if len(h.Keys)+len(h.CA) > 0 {
			continue
		}
		want := []string{}
		for _, a := range h.Address {
			host, port, _ := net.SplitHostPort(a)
			if want = append(want, "["+host+"]:"+port); port == "22" {
				want = append(want, host)
			}
			if port == "22" {
				want = append(want, h.Name)
			}
		}
		for _, k := range known.Hosts {
			if slices.ContainsFunc(k.names, func(n string) bool { return slices.Contains(want, n) }) {
				for _, line := range k.Keys {
					h.Keys = appendNew(h.Keys, line)
				}
				for _, line := range k.CA {
					h.CA = appendNew(h.CA, line)
				}
			}
		}
	}
}
