package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"breakglass/internal/name"
)

// Severity of a Finding. The zero value is the worse one.
type Severity uint8

const (
	SeverityError   Severity = iota // must not go live
	SeverityWarning                 // a person should look
)

func (s Severity) String() string {
	if s == SeverityWarning {
		return "warning"
	}
	return "error"
}

// Finding is something about a valid policy that its writer can't have meant, or should know.
type Finding struct {
	Severity Severity
	File     string // of the set; of a policy of one file empty
	Line     int    // in File; 0: the policy as a whole
	Message  string
	Next     string // what to do
}

// Check looks at a policy that loads for dead ends, dead rules and doors that stand open wider than they look. It is
// sorted by line, errors first within one.
func Check(p *Policy) []Finding { return CheckWith(p, Known{}) }

// Known is what a check can be told beside the policy. Every zero value is unknown, and nothing is said of it then.
type Known struct {
	Now  time.Time
	Keys map[name.Person]int // how many keys that count each person has; who is missing has none
}

// CheckWith is Check by somebody who knows more: the CA, which has the keys.
func CheckWith(p *Policy, known Known) []Finding {
	return (&checker{p: p, known: known, most: maxInAll}).run()
}

func (k *checker) run() []Finding {
	p, known := k.p, k.known
	k.site()
	k.always()
	for i := range p.Rules {
		k.approvers(&p.Rules[i])
		k.observers(&p.Rules[i])
		k.shadowed(i)
	}
	k.windows(known.Now)
	k.lists()
	k.keys()
	k.people()
	k.jumps()
	k.viasUnused()
	k.playThrough()
	k.unused()
	k.openings()
	k.untested()
	p.inFiles(k.found)
	slices.SortStableFunc(k.found, func(a, b Finding) int {
		return cmp.Or(p.fileOrder(a.File, b.File), a.Line-b.Line, int(a.Severity)-int(b.Severity))
	})
	return k.found
}

type checker struct {
	p     *Policy
	known Known
	most  int // what is played through, in decisions
	found []Finding
}

func (k *checker) add(s Severity, line int, next, format string, args ...any) {
	k.addIn("", s, line, next, format, args...)
}

func (k *checker) addIn(file string, s Severity, line int, next, format string, args ...any) {
	k.found = append(k.found, Finding{Severity: s, File: file, Line: line, Message: fmt.Sprintf(format, args...), Next: next})
}

func (k *checker) site() {
	s := &k.p.Site
	if k.p.Profile == Production {
		if len(s.Owners) < 2 {
			k.add(SeverityWarning, 0, "name a second owner in [site]", "there is one owner: with %s away nobody can change the policy, and nobody checks what %[1]s changes", words(s.Owners))
		}
		if len(s.Operators) < 2 {
			k.add(SeverityWarning, 0, "name a second operator in [site]", "there is one operator: with %s away nobody can invite or revoke", words(s.Operators))
		}
		if !k.p.Always.UV {
			k.add(SeverityWarning, k.p.Always.Line, "remove uv = false", "a stolen key opens without PIN or biometric")
		}
	}
	if k.p.Profile == Production && len(k.p.Enrolment.Models) == 0 {
		k.add(SeverityError, k.p.Enrolment.Line, "write [[enrolment.model]] with name, aaguid and roots", "no model of key is named: nobody could enrol")
	}
	if len(s.Readers) < 2 {
		k.add(SeverityWarning, 0, "name a second reader in [site]", "there is one reader: nobody else can review what %s did", words(s.Readers))
	}
}

// always looks for networks that are everywhere.
func (k *checker) always() {
	a := &k.p.Always
	for _, n := range a.Trusted {
		for _, prefix := range k.p.networks[n] {
			if prefix.Bits() == 0 {
				k.add(SeverityError, k.p.netLines[n], "leave countries and anonymous out instead", "trusted network %q is every address: the checks of place mean nothing", n)
			}
		}
	}
	for _, n := range a.DenyNetworks {
		for _, prefix := range k.p.networks[n] {
			if prefix.Bits() == 0 {
				k.add(SeverityError, k.p.netLines[n], "remove it from deny_networks", "denied network %q is every address: nobody could ever get in", n)
			}
		}
	}
}

// approvers finds who could never get the approvals that a rule asks for, and who couldn't with one approver away.
func (k *checker) approvers(r *Rule) {
	if r.Approvals == 0 {
		return
	}
	var never, tight []name.Person
	for _, n := range sortedKeys(r.who) {
		switch have := len(r.approversFor(name.Person(n))); {
		case have < r.Approvals:
			never = append(never, name.Person(n))
		case have == r.Approvals:
			tight = append(tight, name.Person(n))
		}
	}
	switch {
	case len(never) == len(r.who):
		k.add(SeverityError, r.Line, "name more approvers, or ask for fewer approvals", "rule %q is no way in: it wants %s and nobody in it could get that", r.Name, approvals(r.Approvals))
	case len(never) > 0:
		k.add(SeverityError, r.Line, "name more approvers, or ask for fewer approvals", "rule %q is no way in for %s: it wants %s, and nobody approves themselves", r.Name, words(never), approvals(r.Approvals))
	}
	if len(tight) > 0 {
		k.add(SeverityWarning, r.Line, "name one approver more", "rule %q is no way in for %s while one approver is away", r.Name, words(tight))
	}
}

func approvals(n int) string {
	if n == 1 {
		return "1 approval"
	}
	return fmt.Sprintf("%d approvals", n)
}

// shadowed finds a rule that can never decide, because an earlier one without conditions of its own takes all that it
// would take.
func (k *checker) shadowed(i int) {
	r := &k.p.Rules[i]
	for j := range i {
		s := &k.p.Rules[j]
		if s.conditional(r) || k.p.Always.AskUnknown && !s.asksFor(r) || !subset(r.who, s.who) || !k.hostsWithin(r, s) {
			continue
		}
		if !slices.ContainsFunc(r.Logins, func(l name.Login) bool { return !slices.Contains(s.Logins, l) }) {
			k.add(SeverityError, r.Line, "move it up, or remove it", "rule %q can never decide: rule %q (line %d) takes the same people, hosts and logins before it", r.Name, s.Name, s.Line)
			return
		}
	}
}

// conditional tells whether s may fail for a request that r lets in.
func (s *Rule) conditional(r *Rule) bool {
	if s.Drill && !r.Drill || s.ReasonMin > r.ReasonMin || s.ticket != nil && s.Ticket != r.Ticket || s.TOTP && !r.TOTP {
		return true
	}
	if s.DenyAnonymous && !r.DenyAnonymous || s.MaxGrants > 0 {
		return true
	}
	if stricter(s.Networks, r.Networks) || stricter(s.DenyNetworks, r.DenyNetworks) || stricter(s.Countries, r.Countries) || stricter(s.DenyCountries, r.DenyCountries) ||
		stricter(s.Subdivisions, r.Subdivisions) || stricter(s.ASNs, r.ASNs) || stricter(s.DenyASNs, r.DenyASNs) {
		return true
	}
	if stricter(s.When, r.When) || stricter(s.NotWhen, r.NotWhen) || stricter(s.OnCall, r.OnCall) || stricter(s.Severities, r.Severities) || stricter(s.Failures, r.Failures) {
		return true
	}
	return slices.ContainsFunc(r.Forwards, func(f Forward) bool {
		return !slices.ContainsFunc(s.Forwards, func(g Forward) bool { return g.Allows(f) })
	})
}

// stricter tells whether a list of s is a condition that the same list of r may not be.
func stricter[T comparable](s, r []T) bool { return len(s) > 0 && !slices.Equal(s, r) }

// hostsWithin tells whether s surely takes every host that r takes.
func (k *checker) hostsWithin(r, s *Rule) bool {
	for _, info := range k.p.hosts {
		if r.hosts.has(info) && !s.hosts.has(info) {
			return false
		}
	}
	covered := func(q pattern) bool {
		return slices.ContainsFunc(s.hosts.patterns, func(p pattern) bool { return p.covers(q) })
	}
	for _, q := range r.hosts.patterns {
		if !covered(q) {
			// Only names from pattern entries are left; if none fits, the names checked above were all.
			for _, e := range k.p.patterns {
				if e.pattern.overlaps(q) {
					return false
				}
			}
		}
	}
	for g := range r.hosts.groups {
		if s.hosts.groups[g] {
			continue
		}
		for _, e := range k.p.patterns {
			if slices.Contains(e.groups, g) && !covered(e.pattern) {
				return false
			}
		}
	}
	for n := range r.hosts.names {
		if info := k.p.host(n); info != nil && !s.hosts.has(info) {
			return false
		}
	}
	return true
}

func subset(a, b map[name.Person]bool) bool {
	for n := range a {
		if !b[n] {
			return false
		}
	}
	return true
}

// unused finds what the file names and no rule uses, and hosts that need DNS.
func (k *checker) unused() {
	inRule := map[name.Person]bool{}
	usedNetworks := map[name.Network]bool{}
	for i := range k.p.Rules {
		maps.Copy(inRule, k.p.Rules[i].who)
		for _, n := range slices.Concat(k.p.Rules[i].Networks, k.p.Rules[i].DenyNetworks) {
			usedNetworks[n] = true
		}
	}
	for _, n := range slices.Concat(k.p.Always.Trusted, k.p.Always.Networks, k.p.Always.DenyNetworks) {
		usedNetworks[n] = true
	}
	for _, n := range k.p.People() {
		if !inRule[n] {
			k.add(SeverityWarning, k.p.people[n].Line, "add them to a rule's who, if they should break the glass", "no rule lets %s in anywhere", n)
		}
	}
	for n, line := range k.p.netLines {
		if !usedNetworks[n] {
			k.add(SeverityWarning, line, "use it or remove it", "network %q is used nowhere", n)
		}
	}
	for n, info := range k.p.hosts {
		if !slices.ContainsFunc(k.p.Rules, func(r Rule) bool { return r.hosts.has(info) }) {
			k.addIn(info.File, SeverityWarning, info.Line, "add it to a rule's hosts, if it should be reachable", "host %q is in no rule", n)
		}
		if !slices.ContainsFunc(info.Address, func(a string) bool { _, ok := endpointIP(a); return ok }) {
			k.addIn(info.File, SeverityWarning, info.Line, "add an IP address", "host %q is unreachable while DNS is down", n)
		} else {
			k.viaNeedsDNS(info)
		}
	}
}

// jumps finds a site whose jumps can't be reached while DNS is down, and one that has a single jump.
func (k *checker) jumps() {
	if len(k.p.jumps) == 0 {
		return // they may join later
	}
	if !slices.ContainsFunc(k.p.jumps, func(j Jump) bool {
		return slices.ContainsFunc(j.Address, func(a string) bool { _, ok := endpointIP(a); return ok })
	}) {
		s := SeverityError
		if k.p.Profile == Demo {
			s = SeverityWarning
		}
		k.add(s, k.p.jumps[0].Line, "add an IP address to a jump", "with DNS down nobody could enter any host: no jump has an IP address")
	}
	if j := k.p.jumps[0]; len(k.p.jumps) == 1 && k.p.Profile == Production {
		k.add(SeverityWarning, j.Line, "name a second one in [jumps]", "there is one jump: with %s down nobody could enter any host", j.Name)
	}
}

// untested finds rules that no [[test]] is let in or sent to approvers by.
func (k *checker) untested() {
	for _, n := range Untested(k.p) {
		r, _ := k.p.Rule(n)
		k.add(SeverityWarning, r.Line, "add a [[test]] with this rule", "no test is decided by rule %q", n)
	}
}
