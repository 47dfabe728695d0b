package policy

import (
	"fmt"
	"slices"
	"time"

	"breakglass/internal/name"
)

// This file looks for the one way in which a fact that is lost could let somebody in. Within a rule what is unknown counts as the bad case; but a
// condition that does not hold hands the request to the rules behind, and the first of them decides. Where one of those asks fewer people, a geo
// database that is gone, or an on-call file that nobody wrote today, turns an ask into an allow. Decide cannot mend that: it would have to tell "does
// not hold" from "is not known" in each condition, and a rule for what is abroad would then never be reached while nobody can tell. So the order is
// refused before it goes live.

// loss is a fact that a decision may have to do without, or a limit that is reached.
type loss struct {
	while string
	hits  func(r *Rule) bool // whether the rule looks at it
	take  func(f *Facts, r *Rule)
}

var losses = []loss{
	{"no geo database answers", func(r *Rule) bool { return r.Place.geo() }, func(f *Facts, _ *Rule) {
		f.Sources = slices.Clone(f.Sources)
		for i := range f.Sources {
			f.Sources[i] = Source{Addr: f.Sources[i].Addr}
		}
	}},
	{"the country is unknown", func(r *Rule) bool { return len(r.Countries)+len(r.DenyCountries)+len(r.Subdivisions) > 0 }, func(f *Facts, _ *Rule) {
		f.Sources = slices.Clone(f.Sources)
		for i := range f.Sources {
			f.Sources[i].Country, f.Sources[i].Subdivisions, f.Sources[i].CountryBuilt = "", nil, time.Time{}
		}
	}},
	{"the autonomous system is unknown", func(r *Rule) bool { return len(r.ASNs)+len(r.DenyASNs) > 0 }, func(f *Facts, _ *Rule) {
		f.Sources = slices.Clone(f.Sources)
		for i := range f.Sources {
			f.Sources[i].ASN, f.Sources[i].ASNBuilt = 0, time.Time{}
		}
	}},
	{"it is unknown whether an address is anonymous", func(r *Rule) bool { return r.DenyAnonymous }, func(f *Facts, _ *Rule) {
		f.Sources = slices.Clone(f.Sources)
		for i := range f.Sources {
			f.Sources[i].Anonymous, f.Sources[i].AnonymousBuilt = Unknown, time.Time{}
		}
	}},
	{"its on-call lists are missing or too old", func(r *Rule) bool { return len(r.OnCall) > 0 }, func(f *Facts, r *Rule) {
		f.OnCall = slices.Clone(f.OnCall)
		for i := range f.OnCall {
			if slices.Contains(r.OnCall, f.OnCall[i].List) {
				f.OnCall[i] = OnCall{List: f.OnCall[i].List}
			}
		}
	}},
	{"its max_grants are alive", func(r *Rule) bool { return r.MaxGrants > 0 }, func(f *Facts, r *Rule) {
		f.Live.Rules = map[name.Rule]int{r.Name: r.MaxGrants}
	}},
}

// laxer reports rules that take over from an earlier one with less when a fact is lost. What it says was decided by Decide.
func (y *play) laxer() {
	in := y.night(night{geo: true, oncall: true, key: KeyLive, at: y.moments})
	for i := range y.p.Rules {
		s := &y.p.Rules[i]
		if s.Approvals == 0 || !slices.ContainsFunc(losses, func(l loss) bool { return l.hits(s) }) {
			continue
		}
		for j := i + 1; j < len(y.p.Rules); j++ {
			r := &y.p.Rules[j]
			if r.Drill || r.Approvals >= s.Approvals && (!s.Veto || r.Veto) {
				continue
			}
			if y.spent() {
				y.cut()
				return
			}
			if a, while, ok := y.takesOver(i, j, in); ok {
				what := fmt.Sprintf("at once, where that one wants %s", approvals(s.Approvals))
				if r.Approvals > 0 && r.Approvals < s.Approvals {
					what = fmt.Sprintf("with %s, where that one wants %d", approvals(r.Approvals), s.Approvals)
				} else if r.Approvals > 0 {
					what = "against a no, where that one has a veto"
				}
				y.found(SeverityError, r.Line, fmt.Sprintf("write the conditions of rule %q in rule %q too, or have it ask as many", s.Name, r.Name),
					"rule %q takes over from rule %q (line %d) with less: while %s, it lets %s into %s@%s %s", r.Name, s.Name, s.Line, while, a.Person, a.Login, a.Host, what)
			}
		}
	}
}

// takesOver looks for a request that rule i asks people about and that, with something lost, rule j gives more.
func (y *play) takesOver(i, j int, n *night) (Request, string, bool) {
	s, r := &y.p.Rules[i], &y.p.Rules[j]
	person, ok := common(s.who, r.who)
	if !ok {
		return Request{}, "", false
	}
	login := slices.IndexFunc(s.Logins, func(l name.Login) bool { return slices.Contains(r.Logins, l) })
	if login < 0 {
		return Request{}, "", false
	}
	host, ok := y.commonHost(i, j)
	if !ok {
		return Request{}, "", false
	}
	for _, scene := range y.scenes(i, n) {
		q, f := scene.req, scene.facts
		q.Person, q.Host, q.Login = person, host, s.Logins[login]
		if s.ticket == nil {
			q.Ticket = sampleTicket(r.Ticket)
		}
		for len([]rune(q.Reason)) < 2*r.ReasonMin {
			q.Reason += q.Reason
		}
		given := r.approversFor(person)
		f.Approved = given[:min(len(given), r.Approvals)]
		if s.Veto && !r.Veto && r.Approvals >= s.Approvals {
			no := s.approversFor(person)
			if len(no) == 0 {
				continue
			}
			f.Approved, f.Refused = slices.DeleteFunc(slices.Clone(given), func(p name.Person) bool { return p == no[0] }), no[:1]
		}
		decide := func(f Facts) Decision {
			y.decides++
			y.inAll++
			return Decide(y.p, q, f)
		}
		was := decide(f)
		if was.Outcome == Allow || was.Rule != s.Name {
			continue
		}
		for _, l := range losses {
			if y.spent() {
				return Request{}, "", false
			}
			if !l.hits(s) {
				continue
			}
			lost := f
			l.take(&lost, s)
			if is := decide(lost); is.Outcome == Allow && is.Rule == r.Name {
				return q, l.while, true
			}
		}
	}
	return Request{}, "", false
}

// common is the first of the people whom both name.
func common(a, b map[name.Person]bool) (first name.Person, ok bool) {
	if len(b) < len(a) {
		a, b = b, a
	}
	for n := range a {
		if b[n] && (!ok || n < first) {
			first, ok = n, true
		}
	}
	return first, ok
}

// commonHost is a host that both rules reach.
func (y *play) commonHost(i, j int) (name.Host, bool) {
	for _, h := range y.hosts {
		if slices.Contains(h.rules, i) && slices.Contains(h.rules, j) {
			return h.names[0], true
		}
	}
	if s := &y.p.Rules[i]; s.Drill { // the classes are those of rules for real
		h, ok := y.reached[i]
		return h, ok && y.p.Rules[j].hosts.has(y.p.host(h))
	}
	return "", false
}
