package policy

import (
	"slices"
	"strings"

	"breakglass/internal/name"
)

// A rule may ask that somebody watches: what the person types goes no further than the jump while no observer is there. An observer is like an approval that has to
// last, and is overridden as one: a grant that went ahead by the rule's own override waits for no observer either. A rule that asks for observers and
// offers no override is a dead end in the night in which nobody is awake, and policy check says so, unless another rule reaches the same hosts.

// watchedBy reads a rule's observers: only a reader sees what they watch.
func (c *compiler) watchedBy(r *Rule, in *fileRule, path []string) {
	if c.ix.has(path...) && len(in.WatchedBy) == 0 {
		c.at(path, "leave the key out: then nobody has to watch", "an empty list of those who watch")
	}
	r.WatchedBy = in.WatchedBy
	r.observers = map[name.Person]bool{}
	for n := range c.persons(in.WatchedBy, path) {
		if c.p.IsReader(n) {
			r.observers[n] = true
		}
	}
}

// observersFor lists who may watch over a session of the person, sorted: never themselves.
func (r *Rule) observersFor(person name.Person) []name.Person { return left(r.observers, person) }

// watched says who has to watch what the decision opens.
func (e *evaluation) watched(r *Rule, d *Decision) {
	if len(r.WatchedBy) == 0 {
		return
	}
	// Only a rule that offers an override of its own approvals lets one go ahead unwatched: what [always] adds and lets override is no way around the observer.
	if overridden := e.req.Kind == KindOverride || e.req.Kind == KindSession && e.facts.Overridden; overridden && r.Approvals > 0 && r.Override > 0 {
		return
	}
	d.WatchedBy, d.Observers = slices.Clone(r.WatchedBy), r.observersFor(e.req.Person)
}

// IsOf says whether a list as the policy writes it (people and "@groups") names the person, by the groups as they are now.
func (p *Policy) IsOf(list []string, n name.Person) bool {
	who, ok := p.people[n]
	return ok && slices.ContainsFunc(list, func(s string) bool {
		if g, group := strings.CutPrefix(s, "@"); group {
			return slices.Contains(who.Groups, name.Group(g))
		}
		return s == string(n)
	})
}

// observers finds rules that wait for somebody who could never come.
func (k *checker) observers(r *Rule) {
	if len(r.WatchedBy) == 0 {
		return
	}
	var never []name.Person
	for _, n := range sortedKeys(r.who) {
		if len(r.observersFor(name.Person(n))) == 0 {
			never = append(never, name.Person(n))
		}
	}
	next := "name somebody else in its watched_by who is one of [site] readers: who watches reads"
	switch {
	case len(r.observers) == 0:
		k.add(SeverityError, r.Line, next, "rule %q is no way in: nobody in its watched_by is a reader, and input is held until one of them watches", r.Name)
	case len(never) > 0:
		k.add(SeverityError, r.Line, next, "rule %q is no way in for %s: nobody else could watch, and nobody watches over their own session", r.Name, words(never))
	}
}
