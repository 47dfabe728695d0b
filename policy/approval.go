package policy

import (
	"fmt"
	"slices"
	"time"

	"breakglass/internal/name"
)

// This file is the one home of how many approvals a request needs, of whom, and what an override may replace.

// need is what a rule and the circumstances ask of a request.
type need struct {
	all      int // of the rule, and one for each circumstance
	missing  int
	place    int // of the missing, those that stand in for a place: no override replaces them
	added    []Added
	override time.Duration // 0: can't be overridden
}

// needed counts. A circumstance never makes a request impossible: no more approvals are added than there are approvers.
func (e *evaluation) needed(r *Rule) need {
	n := need{all: r.Approvals}
	n.added = e.added()
	approvers := r.approversFor(e.req.Person)
	n.added = n.added[:max(0, min(len(n.added), len(approvers)-r.Approvals))]
	n.all += len(n.added)
	if e.facts.Waits && (e.req.Kind == KindNew || e.req.Kind == KindExtend) { // an override of nothing is refused: who asked may ask anew
		n.all = max(n.all, 1)
	}
	given := 0
	for i, a := range e.facts.Approved {
		// Once each: one approver who sends two approvals is one approver.
		if r.MayApprove(a, e.req.Person) && !slices.Contains(e.facts.Approved[:i], a) {
			given++
		}
	}
	n.missing = max(0, n.all-given)
	place := 0
	for _, a := range n.added {
		if a.ofPlace() {
			place++
		}
	}
	n.place = max(0, place-given)
	// The rule's own approvals are replaced as the rule says, added ones as [always] says; who lacks both waits for the longer.
	switch {
	case n.all == place: // an override waives no place
	case r.Approvals == 0:
		n.override = e.p.Always.Override
	case r.Override == 0:
	case len(n.added) == 0:
		n.override = r.Override
	default:
		n.override = max(r.Override, e.p.Always.Override)
	}
	return n
}

// ofPlace tells the circumstances under which a person answers for a place that the policy would refuse or doubt. An override is one's own touch,
// and waives no place: whoever holds a stolen key is where they are.
func (a Added) ofPlace() bool { return a == AddedPlace || a == AddedCountry }

// added are the circumstances, each once. What came up since a grant was given is the next request's, and not the session's that opens under it;
// the place is the session's own.
func (e *evaluation) added() []Added {
	out := e.circumstancesOfPlace()
	if e.req.Kind == KindSession {
		return out
	}
	if e.facts.Key == KeyInGrace {
		out = append(out, AddedGrace)
	}
	for _, a := range e.facts.Added {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// approvals checks what can make a rule's approvals a no: a veto, and an override that the rule doesn't offer or that comes too early.
func (e *evaluation) approvals(r *Rule) {
	n := e.needed(r)
	if r.Veto {
		for _, who := range e.facts.Refused {
			if r.MayApprove(who, e.req.Person) {
				e.fail(r.Line, Reason{Vetoed, fmt.Sprintf("%s said no, and rule %q makes that the end of it", who, r.Name), "talk to " + string(who) + "; then ask anew"})
			}
		}
	}
	if e.req.Kind != KindOverride {
		return
	}
	switch {
	case n.missing == 0:
		e.fail(r.Line, Reason{KindNotAllowed, fmt.Sprintf("under rule %q no approval is missing that could be overridden", r.Name), "ask without override"})
	case n.place > 0:
		e.fail(r.Line, Reason{KindNotAllowed, fmt.Sprintf("under rule %q the place itself asks for %s, and no override waives a place", r.Name, approvals(n.place)),
			"wait for the approvals: " + words(r.approversFor(e.req.Person)) + " can give them; or ask from a network that the policy trusts"})
	case n.override == 0:
		e.fail(r.Line, Reason{KindNotAllowed, fmt.Sprintf("rule %q offers no override", r.Name), "wait for the approvals: " + words(r.approversFor(e.req.Person)) + " can give them"})
	case e.facts.Waited < n.override:
		e.fail(r.Line, Reason{OverrideEarly, fmt.Sprintf("rule %q can be overridden %s after the request; that is in %s", r.Name, short(n.override), short((n.override - e.facts.Waited).Round(time.Second))),
			"wait for that, or for the approvals"})
	case e.trace != nil:
		e.pass(r.Line, "an override may replace %s", approvals(n.missing))
	}
}

// MayApprove tells whether approver may approve a request of requester under the rule. Nobody approves themselves.
func (r *Rule) MayApprove(approver, requester name.Person) bool {
	return approver != requester && r.approvers[approver]
}

// approversFor lists who may approve a request of requester, sorted.
func (r *Rule) approversFor(requester name.Person) []name.Person {
	var out []name.Person
	for n := range r.approvers {
		if n != requester {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}
