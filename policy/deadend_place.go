package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"breakglass/internal/name"
)

// This file makes up addresses from which a rule could be asked, for the play-through (deadend.go). It decides nothing: what it makes up is
// handed to the evaluator, and what that refuses is thrown away. It has to make up enough, else a way in would be missed.

// maxPlaces bounds the addresses tried for one rule: each stands for a class of them, and a rule knows few.
const maxPlaces = 64

// outside stands for the rest of the world: addresses in none of the policy's networks are looked for in these.
var outside = []netip.Prefix{netip.MustParsePrefix("192.0.0.0/2"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("2000::/3")}

// addresses gives one address of the outside, and one of each of the policy's networks, all but those that [always] or the rule refuses.
func (y *play) addresses(r *Rule) []netip.Addr {
	refused := slices.Concat(y.p.Always.denied, r.denied)
	var out []netip.Addr
	add := func(in netip.Prefix, but []netip.Prefix) bool {
		a, ok := free(in, but)
		switch {
		case !ok, len(y.p.Always.allowed) > 0 && !within(y.p.Always.allowed, a), len(r.allowed) > 0 && !within(r.allowed, a), slices.Contains(out, a):
			return false
		}
		out = append(out, a)
		return true
	}
	all := refused
	for _, prefixes := range y.p.networks {
		all = append(all, prefixes...)
	}
	for _, in := range outside {
		if add(in, all) {
			break
		}
	}
	// The rule's own networks first, then those that the databases are not asked about.
	for _, prefixes := range [][]netip.Prefix{r.allowed, y.p.Always.trusted, y.p.Always.allowed} {
		for _, in := range prefixes {
			add(in, refused)
		}
	}
	for _, n := range sortedKeys(y.p.networks) {
		for _, in := range y.p.networks[name.Network(n)] {
			if len(out) >= maxPlaces {
				return out
			}
			add(in, refused)
		}
	}
	if len(out) == 0 { // then the evaluator shall say why, of an address that the rule would want
		for _, in := range slices.Concat(r.allowed, y.p.Always.allowed, outside) {
			return []netip.Addr{in.Addr()}
		}
	}
	return out
}

// free finds an address of a network that is in none of the others.
func free(in netip.Prefix, but []netip.Prefix) (netip.Addr, bool) {
	a := in.Addr()
	if in.Bits() < a.BitLen()-1 {
		a = a.Next() // the first of a network is nobody's address
	}
	for range len(but) + 1 {
		if !in.Contains(a) {
			break
		}
		i := slices.IndexFunc(but, func(p netip.Prefix) bool { return p.Contains(a) })
		if i < 0 {
			return a, true
		}
		if a = last(but[i]).Next(); !a.IsValid() {
			break
		}
	}
	return netip.Addr{}, false
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// spot is what the places to ask from depend on: a rule, by its number, and whether the databases answer.
type spot struct {
	rule int
	geo  bool
}

// sources gives what the databases, as of a time, could say of an address in the best case; while they are gone, nothing.
func (y *play) sources(i int, geo bool, built time.Time) []Source {
	all, ok := y.spots[spot{i, geo}]
	if !ok {
		all = y.allSources(&y.p.Rules[i], geo)
		y.spots[spot{i, geo}] = all
	}
	out := slices.Clone(all)
	for n := range out {
		if s := &out[n]; s.Country != "" {
			s.CountryBuilt, s.ASNBuilt, s.AnonymousBuilt = built, built, built
		}
	}
	return out
}

func (y *play) allSources(r *Rule, geo bool) []Source {
	var out []Source
	for _, a := range y.addresses(r) {
		if !geo || within(y.p.Always.trusted, a) {
			out = append(out, Source{Addr: a})
			continue
		}
		for _, country := range y.countries(r) {
			for _, asn := range y.asns(r) {
				out = append(out, Source{Addr: a, Country: country, Subdivisions: subdivisionsOf(country, r.Subdivisions, y.p.Always.Subdivisions), ASN: asn, Anonymous: No})
			}
		}
	}
	return out
}

// countries gives those from which the rule could be asked, one of each kind: countries that no rule tells apart are alike.
func (y *play) countries(r *Rule) []string {
	a := &y.p.Always
	seen := map[string]bool{}
	var out []string
	for _, c := range strings.Fields(countryCodes) {
		switch {
		case len(a.Countries) > 0 && !slices.Contains(a.Countries, c), len(r.Countries) > 0 && !slices.Contains(r.Countries, c),
			slices.Contains(a.DenyCountries, c), slices.Contains(r.DenyCountries, c), seen[y.kinds[c]]:
			continue
		}
		seen[y.kinds[c]] = true
		out = append(out, c)
	}
	if len(out) == 0 { // as above
		out = slices.Concat(r.Countries, a.Countries, []string{"DE"})[:1]
	}
	// A country of which some parts are listed may be none of the rule's: the others first.
	slices.SortStableFunc(out, func(c, d string) int { return len(subdivisionsOf(c, y.listed)) - len(subdivisionsOf(d, y.listed)) })
	return out
}

// kindsOfCountries says of each country which rules speak of it, and how.
func kindsOfCountries(p *Policy) map[string]string {
	out := map[string]string{}
	places := []*Place{&p.Always.Place}
	for i := range p.Rules {
		places = append(places, &p.Rules[i].Place)
	}
	for _, c := range strings.Fields(countryCodes) {
		kind := make([]byte, len(places))
		for i, place := range places {
			kind[i] = '-'
			switch {
			case slices.Contains(place.DenyCountries, c):
				kind[i] = 'd'
			case slices.ContainsFunc(place.Subdivisions, func(s string) bool { return strings.HasPrefix(s, c+"-") }):
				kind[i] = 's'
			case slices.Contains(place.Countries, c):
				kind[i] = 'c'
			}
		}
		out[c] = string(kind)
	}
	return out
}

// subdivisionsOf gives parts of a country that every list which has some of it knows: a common one, else one of each, for one may lie in the other.
func subdivisionsOf(country string, lists ...[]string) []string {
	var own [][]string
	for _, list := range lists {
		var parts []string
		for _, s := range list {
			if strings.HasPrefix(s, country+"-") {
				parts = append(parts, s)
			}
		}
		if len(parts) > 0 {
			own = append(own, parts)
		}
	}
	var out []string
	for i, parts := range own {
		if i == 0 {
			for _, s := range parts {
				if len(own) == 2 && slices.Contains(own[1], s) {
					return []string{s}
				}
			}
		}
		out = append(out, parts[0])
	}
	return out
}

// asns gives autonomous systems from which the rule could be asked: one that the policy doesn't know, or of those that it lists.
func (y *play) asns(r *Rule) []uint32 {
	a := &y.p.Always
	listed := r.ASNs
	if len(listed) == 0 {
		listed = a.ASNs
	}
	if len(listed) == 0 {
		return []uint32{y.otherASN}
	}
	var out []uint32
	for _, n := range listed {
		if (len(a.ASNs) == 0 || slices.Contains(a.ASNs, n)) && !slices.Contains(a.DenyASNs, n) && !slices.Contains(r.DenyASNs, n) && len(out) < 8 {
			out = append(out, n)
		}
	}
	if len(out) == 0 { // as above
		return listed[:1]
	}
	return out
}

// unlistedASN is an autonomous system that the policy doesn't name: of those for documentation (RFC 5398) and the private ones after them.
func unlistedASN(p *Policy) uint32 {
	listed := slices.Concat(p.Always.ASNs, p.Always.DenyASNs)
	for i := range p.Rules {
		listed = append(listed, p.Rules[i].ASNs...)
		listed = append(listed, p.Rules[i].DenyASNs...)
	}
	n := uint32(64496)
	for slices.Contains(listed, n) {
		n++
	}
	return n
}
