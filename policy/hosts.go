package policy

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

// pattern is a host name with one '*', which stands for any text, the empty one too.
type pattern struct{ prefix, suffix string }

// parsePattern accepts a text with exactly one '*' and otherwise the characters of a host name.
func parsePattern(s string) (pattern, error) {
	prefix, suffix, ok := strings.Cut(s, "*")
	if !ok || strings.Contains(suffix, "*") {
		return pattern{}, fmt.Errorf("pattern %q: want exactly one '*'", s)
	}
	// The shortest names that fit must be names, but for their length and first character.
	if _, err := name.ParseHost("x" + prefix + suffix); err != nil {
		return pattern{}, fmt.Errorf("pattern %q: beside '*' only a-z, 0-9, '_', '.' and '-'", s)
	}
	return pattern{prefix, suffix}, nil
}

func (p pattern) match(h name.Host) bool {
	return len(h) >= len(p.prefix)+len(p.suffix) && strings.HasPrefix(string(h), p.prefix) && strings.HasSuffix(string(h), p.suffix)
}

// fixed is how much of a name the pattern says: the more, the closer.
func (p pattern) fixed() int { return len(p.prefix) + len(p.suffix) }

// overlaps tells whether some name fits both.
func (p pattern) overlaps(q pattern) bool {
	return (strings.HasPrefix(p.prefix, q.prefix) || strings.HasPrefix(q.prefix, p.prefix)) &&
		(strings.HasSuffix(p.suffix, q.suffix) || strings.HasSuffix(q.suffix, p.suffix))
}

// covers tells whether every name that fits q fits p.
func (p pattern) covers(q pattern) bool {
	return strings.HasPrefix(q.prefix, p.prefix) && strings.HasSuffix(q.suffix, p.suffix)
}

// hostEntry is an entry of [hosts], compiled. Which settings it has is said apart from what they are: an empty list
// is a setting too.
type hostEntry struct {
	text                           string
	pattern                        pattern // of a pattern entry
	file                           string  // of a set
	line                           int
	address                        []string
	keys, cas                      []ssh.PublicKey
	groups                         []name.Group
	via                            name.Via
	hasAddress, hasKeys, hasGroups bool
	hasVia                         bool
	slack                          time.Duration
	hasSlack                       bool
}

// resolve fills a host in from its own entry, if it has one, and the patterns that fit, closest first.
func resolve(h name.Host, own *hostEntry, patterns []hostEntry) *HostInfo {
	info := &HostInfo{Name: h, ClockSlack: DefaultClockSlack}
	var address, keys, groups, via, slack bool
	take := func(e *hostEntry) {
		if info.Entry == "" {
			info.Entry, info.File, info.Line = e.text, e.file, e.line
		}
		if !address && e.hasAddress {
			address = true
			for _, a := range e.address {
				info.Address = append(info.Address, strings.ReplaceAll(a, hostPlaceholder, string(h)))
			}
		}
		if !keys && e.hasKeys {
			keys, info.HostKeys, info.HostCA = true, e.keys, e.cas
		}
		if !groups && e.hasGroups {
			groups, info.Groups = true, e.groups
		}
		if !via && e.hasVia {
			via, info.Via = true, e.via
		}
		if !slack && e.hasSlack {
			slack, info.ClockSlack = true, e.slack
		}
	}
	if own != nil {
		take(own)
	}
	for i := range patterns {
		if patterns[i].pattern.match(h) {
			take(&patterns[i])
		}
	}
	return info
}

// complete tells whether a session can be opened to the host at all.
func (h *HostInfo) complete() bool {
	return len(h.Address) > 0 && len(h.HostKeys)+len(h.HostCA) > 0
}

// Host finds a host by its own entry or by patterns. A name without an address, or without keys to check the
// host by, is unknown.
func (p *Policy) Host(h name.Host) (HostInfo, bool) {
	info := p.host(h)
	if info == nil {
		return HostInfo{}, false
	}
	return *info, true
}

func (p *Policy) host(h name.Host) *HostInfo {
	if info, ok := p.hosts[h]; ok {
		return info
	}
	for i := range p.patterns {
		if p.patterns[i].pattern.match(h) {
			if _, err := name.ParseHost(string(h)); err != nil {
				return nil
			}
			info := resolve(h, nil, p.patterns)
			if !info.complete() || !addressesValid(info.Address) {
				return nil
			}
			return info
		}
	}
	return nil
}

// HostNames are the names written out in [hosts], sorted: those for which the jump can show a host certificate before
// anybody asks.
func (p *Policy) HostNames() []name.Host {
	out := make([]name.Host, 0, len(p.hosts))
	for n := range p.hosts {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// HostCA is a CA by which some hosts' keys are checked.
type HostCA struct {
	Entry string // the entry of [hosts], a name or a pattern; or vias.NAME
	File  string // of a set
	Line  int
	Key   ssh.PublicKey
}

// HostCAs lists every host CA of the policy, by file and line. The CA's own host CA, which signs names for the jump's key,
// must not be among them: who holds it could then pass for any host (SameKey compares).
func (p *Policy) HostCAs() []HostCA {
	var out []HostCA
	add := func(entry, file string, line int, keys []ssh.PublicKey) {
		for _, k := range keys {
			out = append(out, HostCA{Entry: entry, File: file, Line: line, Key: k})
		}
	}
	for _, n := range p.HostNames() {
		add(p.hosts[n].Entry, p.hosts[n].File, p.hosts[n].Line, p.hosts[n].HostCA)
	}
	for _, e := range p.patterns {
		add(e.text, e.file, e.line, e.cas)
	}
	for _, v := range p.Vias() {
		add("vias."+string(v.Name), v.File, v.Line, v.HostCA)
	}
	slices.SortStableFunc(out, func(a, b HostCA) int { return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line) })
	return out
}

// SameKey compares two public keys by their wire form.
func SameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// hostSet is a rule's hosts.
type hostSet struct {
	names    map[name.Host]bool
	groups   map[name.Group]bool
	patterns []pattern
}

func (s *hostSet) has(h *HostInfo) bool {
	if s.names[h.Name] {
		return true
	}
	for _, g := range h.Groups {
		if s.groups[g] {
			return true
		}
	}
	for _, p := range s.patterns {
		if p.match(h.Name) {
			return true
		}
	}
	return false
}
