package policy

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"breakglass/internal/name"
)

// maxSystems bounds a list of autonomous systems: those of every hosting company are some thousand.
const maxSystems = 10_000

// Place is what [always], or a rule, says of the addresses that somebody comes from. Each list that isn't empty is a condition of its own.
// Networks are looked up in the policy itself; all else is of the geo databases, and a trusted network passes it.
type Place struct {
	Networks      []name.Network // only from these
	DenyNetworks  []name.Network // never from these, trusted or not
	Countries     []string       // only from these, ISO 3166-1 alpha-2
	DenyCountries []string
	Subdivisions  []string // ISO 3166-2: of a country that has some here, only these parts
	ASNs          []uint32 // only from these autonomous systems; sorted
	DenyASNs      []uint32 // sorted
	DenyAnonymous bool     // no VPN, Tor, proxy, hosting network

	allowed, denied []netip.Prefix
}

// filePlace are the keys of [always] and of a rule that make a Place.
type filePlace struct {
	networks, denyNetworks, countries, denyCountries, subdivisions []string
	asns, denyASNs                                                 []int
	anonymous                                                      string
}

// place compiles a Place; at gives a key's path. denyAnonymous holds where the file doesn't say.
func (c *compiler) place(in *filePlace, at func(string) []string, denyAnonymous bool) Place {
	var p Place
	for _, list := range []struct {
		key, what, hint string
		n               int
	}{
		{"networks", "networks", "leave the key out to allow any", len(in.networks)},
		{"deny_networks", "networks", "leave the key out to deny none", len(in.denyNetworks)},
		{"countries", "countries", "leave the key out to allow any", len(in.countries)},
		{"deny_countries", "countries", "leave the key out to deny none", len(in.denyCountries)},
		{"subdivisions", "subdivisions", "leave the key out to allow any", len(in.subdivisions)},
		{"asns", "autonomous systems", "leave the key out to allow any", len(in.asns)},
		{"deny_asns", "autonomous systems", "leave the key out to deny none", len(in.denyASNs)},
	} {
		if c.ix.has(at(list.key)...) && list.n == 0 {
			c.at(at(list.key), list.hint, "an empty list of %s", list.what)
		}
	}
	p.Networks, p.allowed = c.networkNames(in.networks, at("networks"))
	p.DenyNetworks, p.denied = c.networkNames(in.denyNetworks, at("deny_networks"))
	p.Countries = c.countries(in.countries, at("countries"))
	p.DenyCountries = c.countries(in.denyCountries, at("deny_countries"))
	p.Subdivisions = c.subdivisions(in.subdivisions, at("subdivisions"))
	p.ASNs = c.systems(in.asns, at("asns"))
	p.DenyASNs = c.systems(in.denyASNs, at("deny_asns"))
	p.DenyAnonymous = c.anonymous(in.anonymous, at("anonymous"), denyAnonymous)
	c.contradictions(in, at)
	return p
}

// contradictions are lists of one table that can't both be meant.
func (c *compiler) contradictions(in *filePlace, at func(string) []string) {
	twice := func(i int, key, other, what string) {
		c.at(element(at(key), i), "take it out of one of them", "%s is in %s and in %s", what, other, key)
	}
	for i, s := range in.denyNetworks {
		if slices.Contains(in.networks, s) {
			twice(i, "deny_networks", "networks", s)
		}
	}
	for i, s := range in.denyCountries {
		if slices.Contains(in.countries, s) {
			twice(i, "deny_countries", "countries", s)
		}
	}
	for i, n := range in.denyASNs {
		if slices.Contains(in.asns, n) {
			twice(i, "deny_asns", "asns", fmt.Sprintf("AS%d", n))
		}
	}
	for i, s := range in.subdivisions {
		country, _, _ := strings.Cut(s, "-")
		switch {
		case !isSubdivision(s):
		case slices.Contains(in.denyCountries, country):
			c.at(element(at("subdivisions"), i), "take the one or the other out", "%s lies in %s, which is in deny_countries", s, country)
		case len(in.countries) > 0 && !slices.Contains(in.countries, country):
			c.at(element(at("subdivisions"), i), fmt.Sprintf("add %q to countries, or take this out", country), "%s lies in %s, which is not in countries", s, country)
		}
	}
}

func (c *compiler) countries(list, path []string) []string {
	for i, s := range list {
		if !isCountry(s) {
			c.at(element(path, i), countryHint(s), "unknown country %q", s)
		} else if slices.Contains(list[:i], s) {
			c.at(element(path, i), "", "%s stands here twice", s)
		}
	}
	return slices.Clone(list)
}

func countryHint(s string) string {
	up := strings.ToUpper(s)
	switch {
	case up == "UK":
		return `did you mean "GB"?`
	case isCountry(up):
		return fmt.Sprintf("did you mean %q?", up)
	}
	return `two capital letters, ISO 3166-1, like "DE"`
}

// subdivisions reads codes of ISO 3166-2. Whether a country has the part is not known here, but its country is: the list of parts
// changes several times a year.
func (c *compiler) subdivisions(list, path []string) []string {
	for i, s := range list {
		if isSubdivision(s) {
			if slices.Contains(list[:i], s) {
				c.at(element(path, i), "", "%s stands here twice", s)
			}
			continue
		}
		c.at(element(path, i), subdivisionHint(s), "unknown subdivision %q", s)
	}
	return slices.Clone(list)
}

func subdivisionHint(s string) string {
	up := strings.ReplaceAll(strings.ToUpper(s), "_", "-")
	country, part, _ := strings.Cut(up, "-")
	switch {
	case isSubdivision(up):
		return fmt.Sprintf("did you mean %q?", up)
	case country == "UK" && isSubdivision("GB-"+part):
		return fmt.Sprintf("did you mean %q?", "GB-"+part)
	case isCountry(s):
		return fmt.Sprintf("a whole country stands in countries; a part is like %q", s+"-X")
	}
	return `country, hyphen and part, ISO 3166-2, like "DE-BE" or "GB-ENG"`
}

// isSubdivision tells whether s is a country, a hyphen and one to three capital letters or digits.
func isSubdivision(s string) bool {
	country, part, ok := strings.Cut(s, "-")
	return ok && isCountry(country) && len(part) >= 1 && len(part) <= 3 &&
		!strings.ContainsFunc(part, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
}

func (c *compiler) systems(list []int, path []string) []uint32 {
	if len(list) > maxSystems {
		c.at(path, "", "more than %d autonomous systems", maxSystems)
		return nil
	}
	seen := make(map[int]bool, len(list))
	out := make([]uint32, 0, len(list))
	for i, n := range list {
		switch {
		case n < 1 || n > math.MaxUint32:
			c.at(element(path, i), "want 1 to 4294967295, like 3320", "%d is no number of an autonomous system", n)
			continue
		case seen[n]:
			c.at(element(path, i), "", "AS%d stands here twice", n)
		}
		seen[n] = true
		out = append(out, uint32(n))
	}
	slices.Sort(out)
	return out
}

// placeMeasures compiles what [always] says of unknown places and of second ones.
func (c *compiler) placeMeasures(in *fileAlways, at func(string) []string) {
	a := &c.p.Always
	switch in.GeoUnknown {
	case "ask":
		a.AskUnknown = true
	case "deny":
	default:
		if c.ix.has(at("geo_unknown")...) {
			c.at(at("geo_unknown"), `want "deny" or "ask"`, "geo_unknown = %q", in.GeoUnknown)
		}
	}
	if !c.ix.has(at("second_country")...) {
		return
	}
	i := slices.Index(secondText[:], in.SecondCountry)
	if i < 0 {
		c.at(at("second_country"), `want "ask", "allow" or "deny"`, "second_country = %q", in.SecondCountry)
		return
	}
	a.SecondCountry = SecondCountry(i)
}
