package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"breakglass/internal/name"
)

// clockSlack is how far in the future a database's build time may lie. More, and either the clock or the file is
// wrong, and neither can vouch for the other.
const clockSlack = 24 * time.Hour

// place checks every address that the person comes from: against [always], or (r not nil) against what a rule wants
// beyond it. Each address must pass by itself: the certificate will list them all.
func (e *evaluation) place(r *Rule) {
	a := &e.p.Always
	if len(e.facts.Sources) == 0 && r == nil {
		e.fail(a.Line, Reason{AddressUnknown, "it is unknown from which address this comes", "report this to the site's operators"})
	}
	for i := range e.facts.Sources {
		s := &e.facts.Sources[i]
		addr := normalise(s.Addr)
		if !addr.IsValid() {
			if r == nil {
				e.fail(a.Line, Reason{AddressUnknown, "it is unknown from which address this comes", "report this to the site's operators"})
			}
			continue
		}
		trusted := within(a.trusted, addr)
		if r == nil {
			if within(a.denied, addr) {
				e.fail(a.Line, Reason{NetworkDenied, fmt.Sprintf("%s is in a network from which nobody is let in", addr), "use another network"})
			} else if e.trace != nil {
				e.pass(a.Line, "%s is in no denied network", addr)
			}
			e.country(a.Line, "", a.Countries, s, addr, trusted)
			e.anonymous(a.Line, "", a.DenyAnonymous, s, addr, trusted)
			continue
		}
		if len(r.allowed) > 0 {
			if !within(r.allowed, addr) {
				e.fail(r.Line, Reason{NetworkNotAllowed, fmt.Sprintf("%s is outside the networks of rule %q", addr, r.Name), "come from " + words(r.Networks)})
			} else if e.trace != nil {
				e.pass(r.Line, "%s is in %s", addr, words(r.Networks))
			}
		}
		e.country(r.Line, r.Name, r.Countries, s, addr, trusted)
		e.anonymous(r.Line, r.Name, r.DenyAnonymous && !a.DenyAnonymous, s, addr, trusted)
	}
}

func (e *evaluation) country(line int, rule name.Rule, allowed []string, s *Source, addr netip.Addr, trusted bool) {
	if len(allowed) == 0 {
		return
	}
	if trusted {
		if e.trace != nil {
			e.pass(line, "%s is in a trusted network: its country is not asked", addr)
		}
		return
	}
	by := "this site"
	if rule != "" {
		by = fmt.Sprintf("rule %q", rule)
	}
	if doubt := e.doubt(s.Country != "", s.CountryBuilt); doubt != "" {
		e.fail(line, Reason{CountryUnknown, fmt.Sprintf("%s may not come in under the countries of %s (country unknown: %s)", addr, by, doubt), e.trustedHint("")})
		return
	}
	if !slices.Contains(allowed, s.Country) {
		next := e.trustedHint("")
		if !e.stranger {
			next = "allowed are " + words(allowed) + "; " + next
		}
		e.fail(line, Reason{CountryDenied, fmt.Sprintf("%s is in %s, which is not among the countries of %s", addr, s.Country, by), next})
		return
	}
	if e.trace != nil {
		e.pass(line, "%s is in %s (allowed: %s)", addr, s.Country, words(allowed))
	}
}

func (e *evaluation) anonymous(line int, rule name.Rule, deny bool, s *Source, addr netip.Addr, trusted bool) {
	if !deny {
		return
	}
	if trusted {
		if e.trace != nil {
			e.pass(line, "%s is in a trusted network: whether it is anonymous is not asked", addr)
		}
		return
	}
	by := ""
	if rule != "" {
		by = fmt.Sprintf(" by rule %q", rule)
	}
	if s.Anonymous == Yes { // of whatever age: an old yes is still no no
		e.fail(line, Reason{AnonymousDenied, fmt.Sprintf("%s belongs to an anonymous network (VPN, Tor, proxy or hosting), refused%s", addr, by), e.trustedHint("leave the VPN or proxy")})
		return
	}
	if doubt := e.doubt(s.Anonymous == No, s.AnonymousBuilt); doubt != "" {
		e.fail(line, Reason{AnonymousUnknown, fmt.Sprintf("it is unknown whether %s belongs to an anonymous network (%s), refused%s", addr, doubt, by), e.trustedHint("")})
		return
	}
	if e.trace != nil {
		e.pass(line, "%s belongs to no anonymous network", addr)
	}
}

// doubt says why a database can't be believed about an address; "" if it can.
func (e *evaluation) doubt(known bool, built time.Time) string {
	switch {
	case built.IsZero() && !known:
		return "there is no geo database"
	case built.IsZero():
		return "the age of the geo database is unknown"
	case e.facts.Now.IsZero():
		return "the time is unknown"
	case !known:
		return "no entry in the geo database of " + built.UTC().Format(time.DateOnly)
	case e.facts.Now.Sub(built) > e.p.Always.GeoMaxAge:
		return fmt.Sprintf("the geo database of %s is older than %d days", built.UTC().Format(time.DateOnly), e.p.Always.GeoMaxAge/(24*time.Hour))
	case built.Sub(e.facts.Now) > clockSlack:
		return fmt.Sprintf("the geo database of %s comes from the future", built.UTC().Format(time.DateOnly))
	}
	return ""
}

// trustedHint says what gets around a check of place; first is said before it.
func (e *evaluation) trustedHint(first string) string {
	hint := "from a network that this site trusts this check is passed"
	switch {
	case e.stranger:
	case len(e.p.Always.Trusted) == 0:
		hint = "this site has no trusted network from which the check would be passed"
	default:
		hint = "from a trusted network (" + words(e.p.Always.Trusted) + ") this check is passed"
	}
	if first != "" {
		return first + "; " + hint
	}
	return hint
}
