package evidence

import (
	"fmt"
	"strings"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// approvals says who spoke on a request, and that an override went on without those who did not. That each signed for exactly this request, and who
// counted at the decision, the audit has checked.
func (c *checker) approvals(g *ledger.Grant) {
	for _, a := range g.Approvals {
		word := "approved"
		if a.Verdict == statement.Deny {
			word = "said no"
		}
		grace := ""
		if a.ApprovalGiven.Key != "live" {
			grace = ", enrolment " + a.ApprovalGiven.Key
		}
		comment := ""
		if a.Comment != "" {
			comment = fmt.Sprintf(": %q", a.Comment)
		}
		c.ok("approval", "%s %s, %s (counter %d%s), over the hash of the request and checkpoint %d%s", a.Key.Person, word, a.Key.Name, a.Touch.Counter, grace, a.Seen.Size, comment)
	}
	if o := g.Overridden; o != nil {
		c.v.Overridden += o.Missing
		c.ok("OVERRIDE", "%d of %d approvals were missing after %s: signed for by %s's %s (counter %d)", o.Missing, o.Approvals, waited(o.Waited), o.Key.Person, o.Key.Name, o.Touched.Counter)
	}
}

func waited(seconds int) string { return fmt.Sprintf("%d:%02d min", seconds/60, seconds%60) }

// decidedBy holds a decision's approvals against the policy by which it was made, itself a proven entry: as many as the rule wants, of people
// whom it names. A policy that can't be read shows nothing, and says so.
func (c *checker) decidedBy(where string, r *statement.Request, rule name.Rule, text string, approvals int, used *ledger.Used) {
	p, err := policy.Parse("policy.adopted", []byte(text))
	if err != nil {
		c.note("the policy by which %s was decided can't be read by this program: how many approvals its rule wants was not checked", r.ID)
		return
	}
	q, ok := p.Rule(rule)
	if !ok {
		c.fail(where, "allowed by rule %q, which the policy lacks", rule)
		return
	}
	if approvals < q.Approvals+len(used.Added) {
		c.fail(where, "decided on %d approvals: rule %q wants %d%s", approvals, rule, q.Approvals, because(used.Added))
	}
	for _, a := range used.Approved {
		if !q.MayApprove(a, r.Person) {
			c.fail(where, "approved by %s, whom rule %q does not name", a, rule)
		}
	}
}

func because(added []string) string {
	if len(added) == 0 {
		return ""
	}
	return fmt.Sprintf(", and %d more (%s)", len(added), strings.Join(added, ", "))
}
