package ca

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// override judges the requester's second touch, for going on without the approvals that are missing. It is a request of its own that has to
// ask for exactly what the one in `of` asks for; what it opens is that one, under its id, for its client key.
func (c *CA) override(q *asking) (answer, *api.Problem, error) {
	of, p, err := c.ownRequest(q)
	if err != nil {
		return answer{}, nil, err
	}
	now := c.now()
	if p == nil {
		p = undecided(&of, now)
	}
	var asked statement.Request
	if p == nil {
		if err := statement.Parse([]byte(of.Statement), &asked); err != nil {
			return answer{}, nil, err
		}
		if !sameAsk(q.r, &asked) || q.r.Minutes != asked.Minutes || q.r.Reason != asked.Reason || q.r.Ticket != asked.Ticket ||
			q.r.Failure != asked.Failure || q.r.Severity != asked.Severity {
			p = otherRequest(&of)
		}
	}
	if p != nil {
		return c.refuse(q, p)
	}
	w, err := c.weighed(q.tx, &of, &asked)
	if err != nil {
		return answer{}, nil, err
	}
	// The touch that counts is this one; the places are those of both.
	w.kind, w.key, w.touch, w.sources = policy.KindOverride, q.a.key, q.a.touch, append(w.sources, q.sources...)
	d, err := c.weigh(q.tx, w, &q.used)
	if err != nil {
		return answer{}, nil, err
	}
	if d.Outcome != policy.Allow {
		return answer{}, deniedProblem(d.Rule, d.Reasons).About(of.ID), c.deny(q, d.Rule, reasonsOf(d.Reasons)...)
	}
	if p, err := c.late(q); err != nil || p != nil {
		return answer{}, p, err
	}
	q.subject.Request = of.ID
	if _, _, err := q.tx.Append(q.a.signed(c.entry(ledger.PersonActor(q.r.Person), q.subject,
		&ledger.RequestOverridden{Touch: q.a.ledgerTouch(), Approvals: d.Approvals, Missing: d.Overridden, Waited: q.used.Waited}))); err != nil {
		return answer{}, nil, err
	}
	g, err := c.conclude(q.tx, &asked, q.a.ch.clientKey, d, q.used)
	if p := new(api.Problem); errors.As(err, &p) { // an extension that ended meanwhile: the override is recorded, and came to nothing
		return answer{}, p.About(of.ID), c.end(q.tx, &of, d.Rule, []ledger.Reason{{Code: p.Code, Detail: p.Detail}}, notThePolicy(q.used))
	}
	return answer{granted: g}, nil, err
}

// ownRequest finds the request that an override or extension acts on. Another person's is as unknown as none.
func (c *CA) ownRequest(q *asking) (state.Request, *api.Problem, error) {
	of, err := q.tx.Request(q.r.Of)
	if errors.Is(err, state.ErrNotFound) || err == nil && of.Person != q.r.Person {
		return of, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: fmt.Sprintf("%s has no request %s", q.r.Person, q.r.Of), Next: []string{"breakglass grants"}}, nil
	}
	return of, nil, err
}

// undecided demands that a request still waits.
func undecided(r *state.Request, now time.Time) *api.Problem {
	switch {
	case r.Waiting(now):
		return nil
	case r.State == "open" && r.Waits != nil:
		return &api.Problem{Status: 410, Code: api.CodeRequestExpired, Detail: fmt.Sprintf("%s waited until %s, and nobody decided it", r.ID, r.Waits.Until.UTC().Format("15:04:05Z")),
			Next: []string{fmt.Sprintf("breakglass request %s@%s", r.Login, r.Host)}}
	}
	return &api.Problem{Status: 409, Code: api.CodeDecided, Detail: fmt.Sprintf("%s was decided before: it is %s", r.ID, r.State), Next: []string{"breakglass requests"}}
}

// sameAsk says whether two requests ask for the same thing with the same client key.
func sameAsk(x, y *statement.Request) bool {
	return x.Person == y.Person && x.Login == y.Login && x.Host == y.Host && x.ClientKey == y.ClientKey && x.Drill == y.Drill && slices.Equal(x.Forwards, y.Forwards)
}

func otherRequest(of *state.Request) *api.Problem {
	return &api.Problem{Status: 409, Code: api.CodeOtherRequest, Detail: fmt.Sprintf("what was signed asks for something else than %s", of.ID),
		Next: []string{fmt.Sprintf("breakglass request %s@%s", of.Login, of.Host)}}
}
