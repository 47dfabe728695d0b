package policy

import (
	"fmt"
	"slices"

	"breakglass/internal/name"
)

// Without says in words what the policy would lack if the person were gone: rules that let nobody in any more, or that need more approvals than
// there would be people to give them; and no owner, operator or reader left. It is what whoever revokes a person has to mend next.
func (p *Policy) Without(person name.Person) []string {
	out := []string{}
	add := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	for i := range p.Rules {
		r := &p.Rules[i]
		if r.observers[person] && count(r.observers, person) == 0 {
			add("rule %s: nobody is left who could watch, and its input is held until somebody does", r.Name)
		}
		who, approvers := count(r.who, person), count(r.approvers, person)
		switch {
		case r.who[person] && who == 0:
			add("rule %s: nobody is left whom it lets in", r.Name)
		case r.Approvals == 0 || !r.approvers[person]:
		case approvers == 0:
			add("rule %s: nobody is left who can approve, and it takes %s", r.Name, approvals(r.Approvals))
		case approvers < r.Approvals:
			add("rule %s: it takes %s, and only %s can give one", r.Name, approvals(r.Approvals), words(left(r.approvers, person)))
		case approvers == r.Approvals && !disjoint(r.approvers, r.who, person): // one of them asks, and one fewer can approve
			add("rule %s: it takes %s, and there are just %s: none of them can ask and be let in", r.Name, approvals(r.Approvals), words(left(r.approvers, person)))
		}
	}
	for _, role := range []struct {
		what string
		list []name.Person
		need int
	}{{"owner", p.Site.Owners, 2}, {"operator", p.Site.Operators, 1}, {"reader", p.Site.Readers, 1}} {
		if !slices.Contains(role.list, person) {
			continue
		}
		switch n := len(role.list) - 1; {
		case n == 0:
			add("[site]: no %s is left", role.what)
		case n < role.need:
			add("[site]: only %s is left as %s", words(slices.DeleteFunc(slices.Clone(role.list), func(q name.Person) bool { return q == person })), role.what)
		}
	}
	return out
}

func left(set map[name.Person]bool, without name.Person) []name.Person {
	var out []name.Person
	for q := range set {
		if q != without {
			out = append(out, q)
		}
	}
	slices.Sort(out)
	return out
}

func count(set map[name.Person]bool, without name.Person) int { return len(left(set, without)) }

// disjoint says that nobody but the person is in both.
func disjoint(a, b map[name.Person]bool, without name.Person) bool {
	for q := range a {
		if q != without && b[q] {
			return false
		}
	}
	return true
}
