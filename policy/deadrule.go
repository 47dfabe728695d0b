package policy

import (
	"maps"
	"slices"
	"strings"

	"breakglass/internal/name"
)

// deadRules reports the rules that can never decide whatever is asked, and says which they are.
func (y *play) deadRules() map[int]bool {
	dead := map[int]bool{}
	in := y.night(night{geo: true, oncall: true, key: KeyLive, at: y.moments})
	for i := range y.p.Rules {
		r := &y.p.Rules[i]
		if len(y.peopleOf(i)) == 0 {
			continue
		}
		passed, against := y.try(i, in)
		y.cache[i] = passed
		if len(passed) > 0 || len(against) == 0 {
			continue
		}
		dead[i] = true
		if len(against) == 1 && against[0].Code == TicketInvalid { // the sample may be at fault, not the pattern
			y.found(SeverityWarning, r.Line, "write a simpler pattern, or try one with breakglass-ca policy explain", "no ticket could be made up that fits %s: rule %q was not played through", r.Ticket, r.Name)
			continue
		}
		var details []string
		for _, reason := range against {
			details = append(details, reason.Detail)
		}
		y.found(SeverityError, r.Line, "remove what contradicts it, in the rule or in [always]; or remove the rule",
			"rule %q can never let anybody in: even at best %s (%s)", r.Name, strings.Join(details, "; "), codesOf(against))
	}
	return dead
}

// lists finds on-call lists and failures that no rule uses.
func (k *checker) lists() {
	rosters, failures := map[name.Roster]bool{}, map[name.Failure]bool{}
	for i := range k.p.Rules {
		for _, n := range k.p.Rules[i].OnCall {
			rosters[n] = true
		}
		for _, n := range k.p.Rules[i].Failures {
			failures[n] = true
		}
	}
	for _, n := range sortedKeys(k.p.Rosters) {
		if r := k.p.Rosters[name.Roster(n)]; !rosters[r.Name] {
			k.add(SeverityWarning, r.Line, "use it in a rule's oncall, or remove it", "on-call list %q is used nowhere", n)
		}
	}
	if len(failures) == 0 { // then they are for people to declare, and no rule depends on them
		return
	}
	for _, n := range sortedKeys(k.p.Failures) {
		if f := k.p.Failures[name.Failure(n)]; !failures[f.Name] && !slices.ContainsFunc(k.p.Rules, func(r Rule) bool { return len(r.Failures) == 0 && !r.Drill }) {
			k.add(SeverityWarning, f.Line, "name it in a rule's failures, or remove it", "no rule answers a request that declares failure %q", n)
		}
	}
}

// keys finds people without a key, or with fewer than the policy asks for.
func (k *checker) keys() {
	if k.known.Keys == nil {
		return
	}
	needed := map[name.Person]bool{}
	for i := range k.p.Rules {
		maps.Copy(needed, k.p.Rules[i].who)
		maps.Copy(needed, k.p.Rules[i].approvers)
	}
	for _, n := range slices.Concat(k.p.Site.Owners, k.p.Site.Operators, k.p.Site.Readers) {
		needed[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(needed)) {
		have, line := k.known.Keys[n], k.p.people[n].Line
		switch {
		case have == 0:
			k.add(SeverityWarning, line, "breakglass-ca invite person "+string(n), "%s has no key that counts: whatever the rules say, they get in nowhere and approve nothing", n)
		case have < k.p.Enrolment.KeysRequired:
			k.add(SeverityWarning, line, "breakglass-ca invite person "+string(n), "%s has %d of %d keys: each of their requests wants an approval more", n, have, k.p.Enrolment.KeysRequired)
		}
	}
}

// few is how many people a production site has to have at least: whoever comes back after the grace of their enrolment, or with a new key after
// the last one was lost, needs two others to vouch for them (section 4 of the design).
const few = 3

// people finds a site from which nobody could come back.
func (k *checker) people() {
	if n := len(k.p.people); k.p.Profile == Production && n < few {
		k.add(SeverityError, 0, "name a third person", "there are %d people: with their enrolments lapsed beyond the grace nobody could come back, for two others have to vouch", n)
	}
}
