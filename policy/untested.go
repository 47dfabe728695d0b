package policy

import "breakglass/internal/name"

// Untested are the rules that no [[test]] which passes is let in or sent to approvers by, as they stand in the file.
func Untested(p *Policy) []name.Rule {
	tested := map[name.Rule]bool{}
	for _, r := range Test(p) {
		if r.OK() && r.Decision.Outcome != Deny {
			tested[r.Decision.Rule] = true
		}
	}
	out := []name.Rule{}
	for i := range p.Rules {
		if n := p.Rules[i].Name; !tested[n] {
			out = append(out, n)
		}
	}
	return out
}
