package policy

import (
	"fmt"

	"breakglass/internal/name"
)

// MaxGrants bounds max_grants, and with it how many grants a decision looks at.
const MaxGrants = 1000

// grants checks how many grants of the person are alive. A session opens under one of them, and is not counted.
func (e *evaluation) grants(line int) {
	limit, live := e.p.Always.MaxGrants, &e.facts.Live
	if limit == 0 || e.req.Kind == KindSession {
		return
	}
	switch {
	case !live.Known:
		e.fail(line, Reason{TooManyGrants, fmt.Sprintf("it is unknown how many grants of %s are alive", e.req.Person), "report this to the site's operators"})
	case len(live.Person) >= limit:
		e.fail(line, Reason{TooManyGrants, fmt.Sprintf("%s of %s alive, and this site gives a person %d at once", grantsAre(len(live.Person)), e.req.Person, limit), e.endOne("")})
	case e.trace != nil:
		e.pass(line, "%s of %s alive (at most %d)", grantsAre(len(live.Person)), e.req.Person, limit)
	}
}

// grantsOf checks how many grants, of anybody, stand on a rule.
func (e *evaluation) grantsOf(r *Rule) {
	if r.MaxGrants == 0 || e.req.Kind == KindSession {
		return
	}
	n, live := e.facts.Live.Rules[r.Name], &e.facts.Live
	switch {
	case !live.Known:
		e.fail(r.Line, Reason{TooManyGrants, fmt.Sprintf("it is unknown how many grants of rule %q are alive", r.Name), "report this to the site's operators"})
	case n >= r.MaxGrants:
		e.fail(r.Line, Reason{TooManyGrants, fmt.Sprintf("%s of rule %q alive, and it gives %d at once", grantsAre(n), r.Name, r.MaxGrants), e.endOne(r.Name)})
	case e.trace != nil:
		e.pass(r.Line, "%s of rule %q alive (at most %d)", grantsAre(n), r.Name, r.MaxGrants)
	}
}

func grantsAre(n int) string {
	if n == 1 {
		return "1 grant"
	}
	return fmt.Sprintf("%d grants", n)
}

// endOne names a grant of the person that could be ended: on the rule, if one is given.
func (e *evaluation) endOne(rule name.Rule) string {
	for _, g := range e.facts.Live.Person {
		if g.ID != "" && (rule == "" || g.Rule == rule) {
			return "breakglass end " + string(g.ID) + ", or wait until one ends"
		}
	}
	if rule != "" {
		return "none of them is yours: wait until one ends"
	}
	return "wait until one ends"
}

// CountedFor are the rules whose grants a decision about the person can depend on how many of are alive.
func (p *Policy) CountedFor(person name.Person) []*Rule {
	var out []*Rule
	for i := range p.Rules {
		if r := &p.Rules[i]; r.MaxGrants > 0 && r.who[person] {
			out = append(out, r)
		}
	}
	return out
}
