package ca

import (
	"net/netip"
	"strings"
	"time"

	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// live are the grants that are alive now, but for the one that r extends: of the person one of each place that some come from or, where the policy
// counts them, as many as it would refuse; and how many stand on each rule that counts its own. It is asked within the writer's transaction, so
// that of many requests at once none takes a place that another has.
func live(tx *state.Tx, p *policy.Policy, r *statement.Request, now time.Time) (policy.Live, error) {
	var except name.RequestID
	if r.Request == statement.RequestExtend {
		except = r.Of
	}
	out := policy.Live{}
	grants, err := tx.LiveOf(r.Person, except, now, p.Always.MaxGrants)
	if err != nil {
		return out, err
	}
	for _, g := range grants {
		found, err := found(g.Addresses)
		if err != nil {
			return out, err
		}
		out.Person = append(out.Person, policy.LiveGrant{ID: g.ID, Rule: g.Rule, Sources: found})
	}
	for _, rule := range p.CountedFor(r.Person) {
		if out.Rules == nil {
			out.Rules = map[name.Rule]int{}
		}
		if out.Rules[rule.Name], err = tx.LiveOn(rule.Name, except, now, rule.MaxGrants); err != nil {
			return out, err
		}
	}
	out.Known = true
	return out, nil
}

// found is what an entry says of addresses, as the policy wants it.
func found(list []ledger.UsedAddress) ([]policy.Source, error) {
	var out []policy.Source
	for _, a := range list {
		s := policy.Source{Country: a.Country, Subdivisions: strings.Fields(a.Subdivision), ASN: a.ASN}
		var err error
		if s.Addr, err = netip.ParseAddr(a.Address); err != nil {
			return nil, err
		}
		if a.Database != "" {
			if s.CountryBuilt, err = time.Parse(time.RFC3339, a.Database); err != nil {
				return nil, err
			}
		}
		if a.Anonymous != "" {
			if err := s.Anonymous.UnmarshalText([]byte(a.Anonymous)); err != nil {
				return nil, err
			}
		}
		out = append(out, s)
	}
	return out, nil
}
