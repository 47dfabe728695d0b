package ca

import (
	"fmt"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/statement"
	"breakglass/policy"
)

// extend judges a fresh touch for a later end. The grant keeps its id, its sessions, its client key and what it may do; the policy decides anew on the
// facts of now, and where the rule asks for approvals, the extension waits for them like any request, under an id of its own.
func (c *CA) extend(q *asking) (answer, *api.Problem, error) {
	g, p, err := c.ownRequest(q)
	if err != nil {
		return answer{}, nil, err
	}
	now := c.now()
	if p == nil && !g.Alive(now) {
		p = grantOver(&g)
	}
	if p == nil {
		v, err := c.revoked(q.tx, g.ID, 0)
		if err != nil {
			return answer{}, nil, err
		}
		if v != nil {
			p = &api.Problem{Status: 403, Code: v.Code, Detail: v.Detail, Next: grantOver(&g).Next}
		}
	}
	if p != nil {
		return c.refuse(q, p)
	}
	var asked statement.Request
	if err := statement.Parse([]byte(g.Statement), &asked); err != nil {
		return answer{}, nil, err
	}
	if !sameAsk(q.r, &asked) {
		return c.refuse(q, otherRequest(&g))
	}
	// The certificate stays good from the addresses that it was asked from: those must pass too.
	there, err := c.lookUp(asked.Sources)
	if err != nil {
		return answer{}, nil, err
	}
	d, err := c.weigh(q.tx, &weighing{kind: policy.KindExtend, r: q.r, sources: append(q.sources, there...), key: q.a.key, touch: q.a.touch}, &q.used)
	if err != nil {
		return answer{}, nil, err
	}
	if d.Outcome == policy.Deny {
		return answer{}, deniedProblem(d.Rule, d.Reasons).About(q.r.ID), c.deny(q, d.Rule, reasonsOf(d.Reasons)...)
	}
	if p := extendable(&g, now.Add(time.Duration(d.Minutes)*time.Minute).Truncate(time.Second), now); p != nil {
		p.Rule = d.Rule
		return c.refuse(q, p)
	}
	return c.open(q, d)
}

// extendable says what speaks against a later end, other than the policy.
func extendable(g *state.Request, until, now time.Time) *api.Problem {
	switch {
	case !g.Alive(now):
		return grantOver(g)
	case !until.After(g.Until):
		return &api.Problem{Status: 409, Code: api.CodeNotLonger, Detail: fmt.Sprintf("%s lasts until %s as it is", g.ID, g.Until.UTC().Format("15:04:05Z")),
			Next: []string{"ask for more minutes, or later: an extension counts from when it is given"}}
	}
	return nil
}

func grantOver(g *state.Request) *api.Problem {
	return &api.Problem{Status: 410, Code: api.CodeGrantEnded, Detail: fmt.Sprintf("%s is no grant that is alive", g.ID),
		Next: []string{fmt.Sprintf("breakglass request %s@%s", g.Login, g.Host)}}
}
