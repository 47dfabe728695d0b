package policy

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"breakglass/internal/name"
)

// Access is one way in: a rule that lets a person be some logins on a host, if its conditions hold. What [always] asks of everybody is not repeated.
type Access struct {
	Person    name.Person   `json:"person"`
	Host      string        `json:"host"` // a name, or the pattern of an entry of [hosts]
	Login     name.Login    `json:"login"`
	Rule      name.Rule     `json:"rule"`
	Line      int           `json:"line"` // of the rule
	Why       string        `json:"why"`
	Minutes   int           `json:"minutes"`
	Approvals int           `json:"approvals,omitempty"`
	Approvers []name.Person `json:"approvers,omitempty"` // of a rule that asks for approvals: never the person
	Override  time.Duration `json:"override,omitempty"`  // after which the approvals can be replaced; 0: never
	Drill     bool          `json:"drill,omitempty"`     // in a rehearsal only
	// Conditions are what the rule asks beside approvals, in short words.
	Conditions []string `json:"conditions,omitempty"`
}

// Accesses lists every way in of the people and hosts that are asked for (none: of all), by host, then as the rules stand in the file, then by
// person and login. It reads the rules, and decides nothing: who stands in no rule, or behind a host that the policy can't reach, is not in it.
// Of a pattern of [hosts] it tells of all names that fit; where a rule takes only some of them, that is a condition.
func Accesses(p *Policy, people []name.Person, hosts []name.Host) iter.Seq[Access] {
	return func(yield func(Access) bool) {
		for _, t := range p.targets(hosts) {
			for i := range p.Rules {
				if !p.accessesOf(&p.Rules[i], &t, people, yield) {
					return
				}
			}
		}
	}
}

// target is a host or a pattern that somebody may get into.
type target struct {
	shown   string
	host    *HostInfo // of a pattern: what all that fit it have in common
	pattern *pattern
}

// targets gives those asked for that the policy knows, else all: the names written out in [hosts] or in a rule, and the patterns.
func (p *Policy) targets(hosts []name.Host) []target {
	all := len(hosts) == 0
	if all {
		names := map[name.Host]bool{}
		for n := range p.hosts {
			names[n] = true
		}
		for i := range p.Rules {
			for n := range p.Rules[i].hosts.names {
				names[n] = true
			}
		}
		for _, n := range sortedKeys(names) {
			hosts = append(hosts, name.Host(n))
		}
	}
	var out []target
	for _, n := range hosts {
		if h := p.host(n); h != nil {
			out = append(out, target{shown: string(n), host: h})
		}
	}
	for i := range p.patterns {
		if e := &p.patterns[i]; all {
			out = append(out, target{shown: e.text, host: &HostInfo{Groups: p.groupsOf(e)}, pattern: &e.pattern})
		}
	}
	return out
}

// groupsOf are the groups of a name that fits a pattern and no closer one.
func (p *Policy) groupsOf(e *hostEntry) []name.Group {
	if e.hasGroups {
		return e.groups
	}
	for i := range p.patterns {
		if q := &p.patterns[i]; q != e && q.hasGroups && q.pattern.covers(e.pattern) {
			return q.groups
		}
	}
	return nil
}

// reaches says whether the rule takes the target; only is what of a pattern it takes, if not all.
func (r *Rule) reaches(t *target) (ok bool, only []string) {
	if t.pattern == nil {
		return r.hosts.has(t.host), nil
	}
	for _, g := range t.host.Groups {
		if r.hosts.groups[g] {
			return true, nil
		}
	}
	for _, q := range r.hosts.patterns {
		switch {
		case q.covers(*t.pattern):
			return true, nil
		case q.overlaps(*t.pattern):
			only = append(only, q.prefix+"*"+q.suffix)
		}
	}
	return len(only) > 0, only
}

func (p *Policy) accessesOf(r *Rule, t *target, people []name.Person, yield func(Access) bool) bool {
	ok, only := r.reaches(t)
	if !ok {
		return true
	}
	conditions := p.conditionsOf(r)
	if len(only) > 0 {
		conditions = append([]string{"only " + strings.Join(only, ", ")}, conditions...)
	}
	who := people
	if len(who) == 0 {
		for _, n := range sortedKeys(r.who) {
			who = append(who, name.Person(n))
		}
	}
	for _, n := range who {
		if !r.who[n] || p.people[n] == nil {
			continue
		}
		a := Access{Person: n, Host: t.shown, Rule: r.Name, Line: r.Line, Why: r.Why, Minutes: min(r.Minutes, p.Always.MaxMinutes),
			Approvals: r.Approvals, Drill: r.Drill, Conditions: conditions}
		if r.Approvals > 0 {
			a.Approvers, a.Override = r.approversFor(n), r.Override
		}
		for _, l := range slices.Sorted(slices.Values(r.Logins)) {
			if a.Login = l; !yield(a) {
				return false
			}
		}
	}
	return true
}

// conditionsOf words what a rule asks beside approvals.
func (p *Policy) conditionsOf(r *Rule) []string {
	var out []string
	add := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	if r.Drill {
		add("drill")
	}
	if len(r.OnCall) > 0 {
		add("on call in %s", or(r.OnCall))
	}
	if len(r.When) > 0 {
		add("in %s", or(r.When))
	}
	if len(r.NotWhen) > 0 {
		add("not in %s", or(r.NotWhen))
	}
	for _, c := range r.Place.words() {
		add("%s", c)
	}
	if len(r.Severities) > 0 {
		add("severity %s", or(r.Severities))
	}
	if len(r.Failures) > 0 {
		add("failure %s", or(r.Failures))
	}
	if r.Ticket != "" {
		add("ticket %s", r.Ticket)
	}
	if r.TOTP {
		add("code of the other channel")
	}
	if r.ReasonMin > p.Always.ReasonMin {
		add("reason of %d characters", r.ReasonMin)
	}
	if len(r.WatchedBy) > 0 {
		add("watched by one of %s", or(left(r.observers, "")))
	}
	if r.RetainDays > p.Always.RetainDays {
		add("recordings kept for %d days", r.RetainDays)
	}
	if r.LegalHold {
		add("recordings under legal hold")
	}
	if r.MaxGrants > 0 {
		add("at most %d at once, anybody's", r.MaxGrants)
	}
	return out
}

// words are the conditions of a Place.
func (p *Place) words() []string {
	var out []string
	add := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	if len(p.Networks) > 0 {
		add("from %s", or(p.Networks))
	}
	if len(p.DenyNetworks) > 0 {
		add("not from %s", or(p.DenyNetworks))
	}
	if len(p.Countries) > 0 {
		add("country %s", or(p.Countries))
	}
	if len(p.DenyCountries) > 0 {
		add("not country %s", or(p.DenyCountries))
	}
	if len(p.Subdivisions) > 0 {
		add("subdivision %s", or(p.Subdivisions))
	}
	if len(p.ASNs) > 0 {
		add("AS %s", or(numbers(p.ASNs)))
	}
	if len(p.DenyASNs) > 0 {
		add("not AS %s", or(numbers(p.DenyASNs)))
	}
	if p.DenyAnonymous {
		add("no anonymous network")
	}
	return out
}

// maxSpelled is how many names a condition spells out: of hosting companies a rule may list thousands.
const maxSpelled = 8

func or[T ~string](list []T) string {
	out := make([]string, 0, len(list))
	for _, x := range list[:min(len(list), maxSpelled)] {
		out = append(out, string(x))
	}
	if n := len(list) - maxSpelled; n > 0 {
		return fmt.Sprintf("%s or %d more", strings.Join(out, ", "), n)
	}
	if n := len(out); n > 1 {
		return strings.Join(out[:n-1], ", ") + " or " + out[n-1]
	}
	return strings.Join(out, "")
}

func numbers(list []uint32) []string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = fmt.Sprint(n)
	}
	return out
}
