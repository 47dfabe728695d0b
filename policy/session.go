package policy

import (
	"fmt"
	"time"
)

// Grant is what a certificate was issued for, as its entry tells it.
type Grant struct {
	Request Request
	Start   time.Time // when the minutes began; of an extended grant, those of the last extension
	End     time.Time
}

// DecideSession decides whether a session may open under a grant: the whole decision again, under the policy of now,
// with the address that the jump sees. facts.Touch, UV and Approved are those that the grant was given on; Key and
// Sources are of now. What the policy no longer allows does not open; a policy that has since come to give fewer
// minutes ends the grant sooner, never later.
func DecideSession(p *Policy, g Grant, facts Facts) Decision {
	req := g.Request
	req.Kind = KindSession
	d := Decide(p, req, facts)
	if d.Outcome == Deny {
		return d
	}
	d.End = g.End
	if end := g.Start.Add(time.Duration(d.Minutes) * time.Minute); end.Before(d.End) {
		d.End = end
	}
	var against Reason
	switch {
	case !facts.Now.Before(d.End):
		against = Reason{GrantEnded, "the grant ended at " + d.End.UTC().Format(time.RFC3339), fmt.Sprintf("breakglass request %s@%s", req.Login, req.Host)}
	case facts.Now.Before(g.Start):
		against = Reason{GrantNotStarted, "the grant begins at " + g.Start.UTC().Format(time.RFC3339) + ", after the CA's clock", "report the CA's clock to its operators"}
	default:
		return d
	}
	return Decision{Outcome: Deny, Rule: d.Rule, Why: d.Why, Reasons: []Reason{against}}
}
