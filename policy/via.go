package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

// This file is [vias]: machines through which the jump reaches hosts that it has no way to itself. A via carries the SSH connection to the host and sees
// nothing of it; the host is known by its own key all the same. There is one via between the jump and a host, never a chain: each link more is a machine
// more that has to be up in an emergency.

// ViaKind is what a via speaks.
type ViaKind string

const (
	ViaSSH   ViaKind = "ssh"    // a bastion's sshd: a direct-tcpip channel
	ViaSOCKS ViaKind = "socks5" // RFC 1928, without authentication
	ViaHTTP  ViaKind = "http"   // CONNECT, RFC 9110 section 9.3.6, without authentication
)

// Via is an entry of [vias].
type Via struct {
	Name     name.Via
	Kind     ViaKind
	Address  []string // "ip:port" or "name:port", in order of preference
	Login    name.Login
	HostKeys []ssh.PublicKey // of an SSH bastion
	HostCA   []ssh.PublicKey
	Source   []netip.Addr // as the hosts behind it see it: session certificates are good from there alone
	File     string       // of a set
	Line     int
}

// maxViaSources is how many addresses a via may have towards its hosts: they all go into each session certificate (sshcert.MaxSources).
const maxViaSources = 8

// Via finds an entry of [vias].
func (p *Policy) Via(n name.Via) (Via, bool) {
	v, ok := p.vias[n]
	if !ok {
		return Via{}, false
	}
	return *v, true
}

// Vias gives every via, sorted by name.
func (p *Policy) Vias() []Via {
	out := make([]Via, 0, len(p.vias))
	for _, v := range p.vias {
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b Via) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (c *compiler) vias(f *file) {
	c.p.vias = map[name.Via]*Via{}
	for _, key := range sortedKeys(f.Vias) {
		path := []string{"vias", key}
		at := func(k string) []string { return []string{"vias", key, k} }
		in := f.Vias[key]
		n, err := name.ParseVia(key)
		if err != nil {
			c.key(path, "", "%v", err)
			continue
		}
		if key == direct {
			c.key(path, "choose another name", "%q is what a host says that has no via", key)
		}
		v := &Via{Name: n, Kind: ViaKind(in.Kind)}
		v.File, v.Line = c.where(path...)
		v.Address = c.endpoints(in.Address, at("address"), false)
		for i, s := range in.Address {
			if strings.Contains(s, hostPlaceholder) {
				c.at(element(at("address"), i), "", "%s stands for a target host, not for a via", hostPlaceholder)
			}
		}
		if !c.ix.has(at("address")...) {
			c.key(path, `write address = ["10.0.0.9:22"]`, "via %q has no address", key)
		}
		v.HostKeys = c.hostKeys(in.HostKeys, at("host_keys"))
		v.HostCA = c.hostKeys(in.HostCA, at("host_ca"))
		c.viaKind(v, &in, at)
		v.Source = c.viaSource(&in, at)
		c.p.vias[n] = v
	}
}

// viaKind holds a via's keys against what it speaks.
func (c *compiler) viaKind(v *Via, in *fileVia, at func(string) []string) {
	switch v.Kind {
	case ViaSSH:
		if login, err := name.ParseLogin(in.Login); err != nil {
			c.at(at("login"), `write login = "jump", an account of the bastion that may forward and nothing else`, "login of the bastion: %v", err)
		} else {
			v.Login = login
		}
		if len(in.HostKeys)+len(in.HostCA) == 0 {
			c.key(at("host_keys"), "write host_keys or host_ca: nothing is trusted on first use", "bastion %q has no key to check it by", v.Name)
		}
	case ViaSOCKS, ViaHTTP:
		for _, k := range []string{"login", "host_keys", "host_ca"} {
			if c.ix.has(at(k)...) {
				c.at(at(k), "leave it out: the host's own key is checked through the proxy", "a via of kind %q has no %s", v.Kind, k)
			}
		}
	default:
		c.at(at("kind"), `want "ssh", "socks5" or "http"`, "kind = %q", in.Kind)
	}
}

func (c *compiler) viaSource(in *fileVia, at func(string) []string) []netip.Addr {
	const hint = `write source = ["10.0.5.1/32"], the address from which hosts behind it see it come`
	if len(in.Source) == 0 {
		c.at(at("source"), hint, "no source: a session certificate would be good from nowhere")
	}
	if len(in.Source) > maxViaSources {
		c.at(at("source"), "", "more than %d sources", maxViaSources)
	}
	var out []netip.Addr
	for i, p := range c.prefixes(in.Source, at("source")) {
		if !p.IsSingleIP() {
			c.at(element(at("source"), i), hint, "%q is more than one address", p)
			continue
		}
		out = append(out, p.Addr())
	}
	return out
}

// direct is what a host's via is that is reached by the jump itself, whatever a pattern says.
const direct = "direct"

// via reads a host's via.
func (c *compiler) via(s string, path []string) name.Via {
	if s == direct || !c.ix.has(path...) {
		return ""
	}
	if c.p.vias[name.Via(s)] == nil {
		c.at(path, suggest(s, append(sortedKeys(c.p.vias), direct)), "unknown via %q", s)
	}
	return name.Via(s)
}

// viaLoop finds a host that would be reached through itself.
func (c *compiler) viaLoop(h *HostInfo, path []string) {
	v := c.p.vias[h.Via]
	if v == nil {
		return
	}
	for _, a := range h.Address {
		if slices.Contains(v.Address, a) {
			c.key(path, `write via = "direct", if it is reached directly`, "host %q would be reached through itself: %s is where via %q is", h.Name, a, h.Via)
			return
		}
	}
}

// viaNeedsDNS finds a host whose own address is an IP, behind a via that is known by name only.
func (k *checker) viaNeedsDNS(h *HostInfo) {
	v := k.p.vias[h.Via]
	if v == nil || slices.ContainsFunc(v.Address, func(a string) bool { _, ok := endpointIP(a); return ok }) {
		return
	}
	k.addIn(v.File, SeverityWarning, v.Line, "add an IP address to the via", "host %q is unreachable while DNS is down: via %q is known by name only", h.Name, v.Name)
}

// viasUnused finds vias that no host is reached through.
func (k *checker) viasUnused() {
	used := map[name.Via]bool{}
	for _, h := range k.p.hosts {
		used[h.Via] = true
	}
	for i := range k.p.patterns {
		used[k.p.patterns[i].via] = true
	}
	for _, v := range k.p.Vias() {
		if !used[v.Name] {
			k.addIn(v.File, SeverityWarning, v.Line, "use it or remove it", "via %q is used by no host", v.Name)
		}
	}
}
