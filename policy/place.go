package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"breakglass/internal/name"
)

// clockSlack is how far in the future a database's build time may lie. More, and either the clock or the file is
// wrong, and neither can vouch for the other.
const clockSlack = 24 * time.Hour

// maxWords bounds what a hint lists: a site may allow a hundred networks' systems, and a person reads one line.
const maxWords = 8

// asked is whose conditions are checked: those of [always], or those of a rule beyond them.
type asked struct {
	*Place
	line int
	rule name.Rule // "" of [always]
}

func (a *asked) by() string {
	if a.rule == "" {
		return "this site"
	}
	return fmt.Sprintf("rule %q", a.rule)
}

// geo tells whether any condition asks the databases.
func (p *Place) geo() bool {
	return len(p.Countries)+len(p.DenyCountries)+len(p.Subdivisions)+len(p.ASNs)+len(p.DenyASNs) > 0 || p.DenyAnonymous
}

// place checks every address that the person comes from: against [always], or (r not nil) against what a rule wants
// beyond it. Each address must pass by itself: the certificate will list them all.
func (e *evaluation) place(r *Rule) {
	a := &e.p.Always
	at := asked{&a.Place, a.Line, ""}
	if r == nil {
		e.unsure = nil
		if len(e.facts.Sources) == 0 {
			e.nowhere(a.Line)
		}
	} else {
		at = asked{&r.Place, r.Line, r.Name}
	}
	e.unsureOf = nil
	for i := range e.facts.Sources {
		s := &e.facts.Sources[i]
		addr := normalise(s.Addr)
		if !addr.IsValid() {
			if r == nil {
				e.nowhere(a.Line)
			}
			continue
		}
		e.network(&at, addr)
		switch {
		case !at.geo():
		case !within(a.trusted, addr):
			e.country(&at, s, addr)
			e.subdivision(&at, s, addr)
			e.system(&at, s, addr)
			e.anonymous(&at, s, addr)
		case e.trace != nil:
			e.pass(at.line, "%s is in a trusted network: the geo databases are not asked", addr)
		}
	}
	// Instead of the databases a person is asked; where nobody is left to be asked, it is refused as ever.
	if r != nil && len(e.unsure)+len(e.unsureOf) > 0 && len(r.approversFor(e.req.Person)) <= r.Approvals {
		for _, reason := range slices.Concat(e.unsure, e.unsureOf) {
			e.fail(r.Line, reason)
		}
	}
}

func (e *evaluation) nowhere(line int) {
	e.fail(line, Reason{AddressUnknown, "it is unknown from which address this comes", "report this to the site's operators"})
}

// unknown is what the databases can't tell: refused or, where the site would rather ask a person, one approval more.
func (e *evaluation) unknown(at *asked, r Reason) {
	switch {
	case !e.p.Always.AskUnknown:
		e.fail(at.line, r)
		return
	case at.rule == "":
		e.unsure = append(e.unsure, r)
	default:
		e.unsureOf = append(e.unsureOf, r)
	}
	if e.trace != nil {
		e.pass(at.line, "%s: an approval more is asked instead (%s)", r.Detail, r.Code)
	}
}

// network checks what stands in the policy itself. No trusted network passes this.
func (e *evaluation) network(at *asked, addr netip.Addr) {
	if within(at.denied, addr) {
		detail := fmt.Sprintf("%s is in a network from which nobody is let in", addr)
		if at.rule != "" {
			detail += fmt.Sprintf(" by rule %q", at.rule)
		}
		e.fail(at.line, Reason{NetworkDenied, detail, "use another network"})
	} else if e.trace != nil && (at.rule == "" || len(at.denied) > 0) {
		e.pass(at.line, "%s is in no denied network", addr)
	}
	if len(at.allowed) == 0 {
		return
	}
	if within(at.allowed, addr) {
		if e.trace != nil {
			e.pass(at.line, "%s is in %s", addr, words(at.Networks))
		}
		return
	}
	next := "use another network"
	if !e.stranger {
		next = "come from " + firstOf(at.Networks)
	}
	e.fail(at.line, Reason{NetworkNotAllowed, fmt.Sprintf("%s is outside the networks of %s", addr, at.by()), next})
}

// country checks the country. A bad answer is one whatever the age of the database: only a good one has to be believed.
func (e *evaluation) country(at *asked, s *Source, addr netip.Addr) {
	if len(at.Countries)+len(at.DenyCountries) == 0 {
		return
	}
	if s.Country != "" {
		switch {
		case slices.Contains(at.DenyCountries, s.Country):
			e.fail(at.line, Reason{CountryDenied, fmt.Sprintf("%s is in %s, from where %s lets nobody in", addr, s.Country, at.by()), e.trustedHint("")})
			return
		case len(at.Countries) > 0 && !slices.Contains(at.Countries, s.Country):
			e.fail(at.line, Reason{CountryDenied, fmt.Sprintf("%s is in %s, which is not among the countries of %s", addr, s.Country, at.by()), e.trustedHint(e.allowed(at.Countries))})
			return
		}
	}
	if doubt := e.doubt(s.Country != "", s.CountryBuilt); doubt != "" {
		e.unknown(at, Reason{CountryUnknown, fmt.Sprintf("%s may not come in under the countries of %s (country unknown: %s)", addr, at.by(), doubt), e.trustedHint("")})
	} else if e.trace != nil {
		e.pass(at.line, "%s is in %s (%s)", addr, s.Country, lists(at.Countries, at.DenyCountries))
	}
}

// subdivision checks the part of a country, where the country has some listed.
func (e *evaluation) subdivision(at *asked, s *Source, addr netip.Addr) {
	if len(at.Subdivisions) == 0 {
		return
	}
	parts := partsOf(at.Subdivisions, s.Country)
	if len(parts) > 0 && len(s.Subdivisions) > 0 && !slices.ContainsFunc(s.Subdivisions, func(x string) bool { return slices.Contains(parts, x) }) {
		e.fail(at.line, Reason{SubdivisionDenied, fmt.Sprintf("%s is in %s, which is not among the parts of %s that %s lists", addr, words(s.Subdivisions), s.Country, at.by()), e.trustedHint(e.allowed(parts))})
		return
	}
	switch doubt := e.doubt(s.Country != "" && (len(parts) == 0 || len(s.Subdivisions) > 0), s.CountryBuilt); {
	case doubt != "":
		where := "country"
		if s.Country != "" {
			where = "part of " + s.Country
		}
		e.unknown(at, Reason{SubdivisionUnknown, fmt.Sprintf("%s may not come in under the subdivisions of %s (%s unknown: %s)", addr, at.by(), where, doubt), e.trustedHint("")})
	case e.trace == nil:
	case len(parts) == 0:
		e.pass(at.line, "%s is in %s, of which no part is listed", addr, s.Country)
	default:
		e.pass(at.line, "%s is in %s (allowed of %s: %s)", addr, words(s.Subdivisions), s.Country, words(parts))
	}
}

// system checks the autonomous system.
func (e *evaluation) system(at *asked, s *Source, addr netip.Addr) {
	if len(at.ASNs)+len(at.DenyASNs) == 0 {
		return
	}
	if s.ASN != 0 {
		switch {
		case listed(at.DenyASNs, s.ASN):
			e.fail(at.line, Reason{ASNDenied, fmt.Sprintf("%s is in AS%d, from where %s lets nobody in", addr, s.ASN, at.by()), e.trustedHint("use another provider's network")})
			return
		case len(at.ASNs) > 0 && !listed(at.ASNs, s.ASN):
			e.fail(at.line, Reason{ASNDenied, fmt.Sprintf("%s is in AS%d, which is not among the autonomous systems of %s", addr, s.ASN, at.by()), e.trustedHint(e.allowed(systems(at.ASNs)))})
			return
		}
	}
	if doubt := e.doubt(s.ASN != 0, s.ASNBuilt); doubt != "" {
		e.unknown(at, Reason{ASNUnknown, fmt.Sprintf("%s may not come in under the autonomous systems of %s (system unknown: %s)", addr, at.by(), doubt), e.trustedHint("")})
	} else if e.trace != nil {
		e.pass(at.line, "%s is in AS%d (%s)", addr, s.ASN, lists(systems(at.ASNs), systems(at.DenyASNs)))
	}
}

// anonymous checks for VPN, Tor, proxies and hosting. What [always] denies, a rule needn't again.
func (e *evaluation) anonymous(at *asked, s *Source, addr netip.Addr) {
	if !at.DenyAnonymous || at.rule != "" && e.p.Always.DenyAnonymous {
		return
	}
	by := ""
	if at.rule != "" {
		by = " by " + at.by()
	}
	if s.Anonymous == Yes { // of whatever age: an old yes is still no no
		e.fail(at.line, Reason{AnonymousDenied, fmt.Sprintf("%s belongs to an anonymous network (VPN, Tor, proxy or hosting), refused%s", addr, by), e.trustedHint("leave the VPN or proxy")})
		return
	}
	if doubt := e.doubt(s.Anonymous == No, s.AnonymousBuilt); doubt != "" {
		e.unknown(at, Reason{AnonymousUnknown, fmt.Sprintf("it is unknown whether %s belongs to an anonymous network (%s), refused%s", addr, doubt, by), e.trustedHint("")})
	} else if e.trace != nil {
		e.pass(at.line, "%s belongs to no anonymous network", addr)
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

// allowed says what would do, but not to a stranger.
func (e *evaluation) allowed(list []string) string {
	if e.stranger {
		return ""
	}
	return "allowed are " + firstOf(list)
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

// partsOf are those of a list of subdivisions that lie in a country.
func partsOf(list []string, country string) []string {
	var out []string
	for _, s := range list {
		if c, _, ok := strings.Cut(s, "-"); ok && c == country {
			out = append(out, s)
		}
	}
	return out
}

func listed(sorted []uint32, n uint32) bool {
	_, ok := slices.BinarySearch(sorted, n)
	return ok
}

func systems(list []uint32) []string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = "AS" + strconv.FormatUint(uint64(n), 10)
	}
	return out
}

func lists(allowed, denied []string) string {
	switch {
	case len(denied) == 0:
		return "allowed: " + words(allowed)
	case len(allowed) == 0:
		return "denied: " + words(denied)
	}
	return "allowed: " + words(allowed) + "; denied: " + words(denied)
}

// firstOf is words, of a long list its beginning.
func firstOf[T ~string](list []T) string {
	if len(list) <= maxWords {
		return words(list)
	}
	return fmt.Sprintf("%s and %d more", words(list[:maxWords]), len(list)-maxWords)
}
