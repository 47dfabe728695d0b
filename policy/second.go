package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

var secondText = [...]string{SecondAsk: "ask", SecondAllow: "allow", SecondDeny: "deny"}

// second looks for a grant of the person that is alive and came from another country than this request: one of the two is likely not
// them. A session opens under one of these grants, at an address that its certificate lists, and is not judged.
func (e *evaluation) second(line int) {
	a := &e.p.Always
	e.elsewhere = false
	if a.SecondCountry == SecondAllow || e.req.Kind == KindSession {
		return
	}
	other := e.another()
	switch {
	case other == "":
		if e.trace != nil && len(e.facts.Live.Person) > 0 {
			e.pass(line, "no grant of %s is alive that came from another country", e.req.Person)
		}
	case a.SecondCountry == SecondDeny:
		next := "wait until the other grant ends"
		if len(a.Trusted) > 0 {
			next = e.trustedHint(next)
		}
		e.fail(line, Reason{AnotherCountry, other, next})
	default:
		e.elsewhere = true
		if e.trace != nil {
			e.pass(line, "%s: one approval more", other)
		}
	}
}

// another says what speaks for another country; "" if nothing does. What isn't known does.
func (e *evaluation) another() string {
	var from []*Source
	for i := range e.facts.Sources {
		if s := &e.facts.Sources[i]; !e.isTrusted(s) {
			from = append(from, s)
		}
	}
	live := &e.facts.Live
	switch {
	case len(from) == 0:
		return ""
	case !live.Known:
		return fmt.Sprintf("it is unknown whether a grant of %s is alive that came from another country", e.req.Person)
	}
	for i := range live.Person {
		g := &live.Person[i]
		if len(g.Sources) == 0 {
			return fmt.Sprintf("it is unknown from where the grant %s of %s came, and it is alive", g.ID, e.req.Person)
		}
		for j := range g.Sources {
			then := &g.Sources[j]
			if e.isTrusted(then) {
				continue
			}
			for _, s := range from {
				now, was := normalise(s.Addr), normalise(then.Addr)
				if now.IsValid() && now == was {
					continue
				}
				here, there := e.countryOf(s), e.countryOf(then)
				if here != "" && here == there {
					continue
				}
				grant := "a grant" // of a [[test]], or an explanation's: it has no number
				if g.ID != "" {
					grant = "the grant " + string(g.ID)
				}
				return fmt.Sprintf("%s is in %s, and %s of %s, which is alive, came from %s in %s", told(now), orUnknown(here), grant, e.req.Person, told(was), orUnknown(there))
			}
		}
	}
	return ""
}

func (e *evaluation) isTrusted(s *Source) bool {
	a := normalise(s.Addr)
	return a.IsValid() && within(e.p.Always.trusted, a)
}

// countryOf is the country of an address, if the database can be believed.
func (e *evaluation) countryOf(s *Source) string {
	if e.doubt(s.Country != "", s.CountryBuilt) != "" {
		return ""
	}
	return s.Country
}

func orUnknown(country string) string {
	if country == "" {
		return "an unknown country"
	}
	return country
}

func told(a netip.Addr) string {
	if !a.IsValid() {
		return "an unknown address"
	}
	return a.String()
}

// circumstancesOfPlace are the circumstances that the evaluator finds itself. The unknown place stands first: it stands in for a refusal,
// and may not be dropped because others took the approvers (place refuses where there is none for it).
func (e *evaluation) circumstancesOfPlace() []Added {
	var out []Added
	if len(e.unsure)+len(e.unsureOf) > 0 {
		out = append(out, AddedPlace)
	}
	if e.elsewhere && !slices.Contains(e.facts.Added, AddedCountry) {
		out = append(out, AddedCountry)
	}
	return out
}
