package policy

import (
	"net/netip"

	"breakglass/internal/name"
)

// Place is what [always], or a rule, says of the addresses that somebody comes from. Each list that isn't empty is a condition of its own.
// Networks are looked up in the policy itself; all else is of the geo databases, and a trusted network passes it.
type Place struct {
	Networks      []name.Network // only from these
	DenyNetworks  []name.Network // never from these, trusted or not
	Countries     []string       // only from these, ISO 3166-1 alpha-2
	DenyCountries []string
	Subdivisions  []string // ISO 3166-2: of a country that has some here, only these parts
	ASNs          []uint32 // only from these autonomous systems
	DenyASNs      []uint32
	DenyAnonymous bool // no VPN, Tor, proxy, hosting network

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
	p.Networks, p.allowed = c.networkNames(in.networks, at("networks"))
	if c.ix.has(at("networks")...) && len(in.networks) == 0 {
		c.at(at("networks"), "leave the key out to allow any", "an empty list of networks")
	}
	p.DenyNetworks, p.denied = c.networkNames(in.denyNetworks, at("deny_networks"))
	p.Countries = c.countries(in.countries, at("countries"))
	p.DenyAnonymous = c.anonymous(in.anonymous, at("anonymous"), denyAnonymous)
	return p
}
