package ca

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file is where one person says yes or no to what another signed. What there is to approve (a request, an enrolment, a suspended key) judges for
// itself who may, and what follows; the signature is over the hash of the other's statement and signature, so over exactly that.

// approver judges an approval about one kind of thing, in the writer, and says in out what it led to.
type approver func(tx *state.Tx, a *act, st *statement.Approval, out *api.ApprovalState) (outcome, error)

// approvable gives the approver of a kind of thing; nil is none of that kind.
func (c *CA) approvable(about string) approver {
	switch about {
	case statement.AboutRequest:
		return c.approveRequest
	case statement.AboutEnrolment:
		return c.approveEnrolment
	case statement.AboutUnlock:
		return c.approveUnlock
	}
	return nil
}

// approve makes the statement of an approval, out of the ask alone: whether there is such a thing is for who signs.
func (c *CA) approve(ctx context.Context, q *api.ApprovalAsk, from netip.Addr) (*api.Challenge, error) {
	if c.approvable(q.About) == nil {
		return nil, badRequest("about: %q", q.About)
	}
	if q.Verdict != statement.Approve && q.Verdict != statement.Deny {
		return nil, badRequest("verdict: %q: want %s or %s", q.Verdict, statement.Approve, statement.Deny)
	}
	st := &statement.Approval{About: q.About, Of: q.Of, Hash: q.Hash, Verdict: q.Verdict, Comment: q.Comment, Sources: []string{from.String()}}
	return c.begin(ctx, q.Person, from, st, func(h statement.Head) { st.Until = h.Issued.Add(statement.CountsFor(st.About)) })
}

func (c *CA) signApproval(ctx context.Context, id, armored string, from netip.Addr) (*api.ApprovalState, error) {
	out := &api.ApprovalState{}
	err := c.finish(ctx, id, armored, from, statement.KindApproval, func(tx *state.Tx, a *act) (outcome, error) {
		st := a.ch.st.(*statement.Approval)
		*out = api.ApprovalState{About: st.About, Of: st.Of, Verdict: st.Verdict}
		// The last yes issues, and what it lets count is counted from now.
		if p, err := c.clockRefusal(tx); err != nil {
			return outcome{}, err
		} else if p != nil {
			return outcome{}, p
		}
		return c.approvable(st.About)(tx, a, st, out)
	})
	if err != nil {
		return nil, err
	}
	c.changes.tell(name.RequestID(out.Of))
	return out, nil
}

// given is the entry's facts of an approval.
func (a *act) given(st *statement.Approval, key policy.KeyState) *ledger.ApprovalGiven {
	return &ledger.ApprovalGiven{About: st.About, Of: st.Of, Hash: st.Hash, Verdict: st.Verdict, Comment: st.Comment, Until: ledger.At(st.Until),
		Touch: a.ledgerTouch(), Key: key.String()}
}

// counts says what speaks against a key giving approvals: in the grace after its enrolment lapsed it still may, and that is written down.
func (c *CA) counts(k state.Key) (policy.KeyState, *api.Problem) {
	s := c.keyState(k, c.now())
	switch s {
	case policy.KeyLive, policy.KeyInGrace:
		return s, nil
	case policy.KeyLapsed:
		return s, keyRefused(policy.KeyIsLapsed, k, "its enrolment has lapsed", "breakglass renew")
	case policy.KeyRevoked:
		return s, keyRefused(policy.KeyIsRevoked, k, "it is revoked", "use another key of yours: breakglass keys")
	case policy.KeySuspended:
		return s, keyRefused(policy.KeyIsSuspended, k, "it is suspended", "use another key of yours: breakglass keys")
	}
	return s, keyRefused(policy.KeyIsPending, k, "it is not vouched for, or still cooling off", "use another key of yours: breakglass keys")
}

func keyRefused(code policy.Code, k state.Key, why, next string) *api.Problem {
	return &api.Problem{Status: 403, Code: string(code), Detail: fmt.Sprintf("%s's %s gives no approvals now: %s", k.Person, k.Name, why), Next: []string{next}}
}

// approveRequest judges a yes or no to a request. With the last yes the CA decides anew, on the facts of this moment.
func (c *CA) approveRequest(tx *state.Tx, a *act, st *statement.Approval, out *api.ApprovalState) (outcome, error) {
	now := c.now()
	id, err := name.ParseRequestID(st.Of)
	if err != nil {
		return outcome{}, badRequest("of: %v", err)
	}
	r, err := tx.Request(id)
	if errors.Is(err, state.ErrNotFound) {
		return outcome{}, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: "there is no request " + string(id), Next: []string{"breakglass requests"}}
	} else if err != nil {
		return outcome{}, err
	}
	if r.Person == st.Person {
		return outcome{}, &api.Problem{Status: 403, Code: api.CodeOwnRequest, Detail: "nobody approves their own request", Next: c.askOthers(&r)}
	}
	if p := undecided(&r, now); p != nil {
		return outcome{}, p
	}
	if st.Hash != r.Signed {
		return outcome{}, &api.Problem{Status: 409, Code: api.CodeOtherRequest, Detail: fmt.Sprintf("what was approved is not what %s signed as %s", r.Person, r.ID), Next: []string{"breakglass approve " + string(r.ID)}}
	}
	var asked statement.Request
	if err := statement.Parse([]byte(r.Statement), &asked); err != nil {
		return outcome{}, err
	}
	if rule, ok := c.policy.Load().Rule(r.Waits.Rule); !ok || !rule.MayApprove(st.Person, r.Person) {
		return outcome{}, &api.Problem{Status: 403, Code: api.CodeNotApprover, Detail: fmt.Sprintf("rule %q does not name %s as an approver", r.Waits.Rule, st.Person), Rule: r.Waits.Rule, Next: c.askOthers(&r)}
	}
	key, p := c.counts(a.key)
	if p != nil {
		return outcome{}, p
	}
	said, err := tx.Approvals(statement.AboutRequest, string(id))
	if err != nil {
		return outcome{}, err
	}
	for _, s := range said {
		if s.Person == st.Person && s.Verdict == st.Verdict && (s.Verdict == statement.Deny || now.Before(s.Until)) {
			return outcome{}, &api.Problem{Status: 409, Code: api.CodeApproved, Detail: fmt.Sprintf("%s said so at %s, and one person counts once", st.Person, s.Given.UTC().Format("15:04:05Z")), Next: c.askOthers(&r)}
		}
	}
	o := outcome{facts: a.given(st, key), subject: ledger.Subject{Request: id}}
	o.then = func(tx *state.Tx) error { return c.tally(tx, &r, &asked, out) }
	return o, nil
}

// askOthers is what to type where somebody else has to approve.
func (c *CA) askOthers(r *state.Request) []string {
	if r.Waits == nil {
		return []string{"breakglass requests"}
	}
	var who []name.Person
	if rule, ok := c.policy.Load().Rule(r.Waits.Rule); ok {
		for _, p := range r.Waits.Approvers {
			if rule.MayApprove(p, r.Person) {
				who = append(who, p)
			}
		}
	}
	return []string{fmt.Sprintf("one of these can: %s (breakglass approve %s)", people(who), r.ID)}
}

func people(list []name.Person) string {
	if len(list) == 0 {
		return "nobody"
	}
	out := string(list[0])
	for _, p := range list[1:] {
		out += ", " + string(p)
	}
	return out
}

// tally decides anew after a verdict: enough approvals open the grant, and a no of the policy, by now, or of somebody with a veto, ends the request.
func (c *CA) tally(tx *state.Tx, r *state.Request, asked *statement.Request, out *api.ApprovalState) error {
	w, err := c.weighed(tx, r, asked)
	if err != nil {
		return err
	}
	var used ledger.Used
	d, err := c.weigh(tx, w, &used)
	if err != nil {
		return err
	}
	out.State, out.Needed, out.Given = "open", d.Approvals, len(used.Approved)
	vetoed := slices.ContainsFunc(d.Reasons, func(x policy.Reason) bool { return x.Code == policy.Vetoed })
	switch {
	case d.Outcome == policy.Ask, out.Verdict == statement.Deny && !vetoed: // a no alone asks for no decision, least of all for a yes
		return nil
	case d.Outcome == policy.Deny:
		out.State, out.Reasons = "denied", reasonsOf(d.Reasons)
		return c.end(tx, r, d.Rule, out.Reasons, used)
	}
	key, err := parseKey(r.Waits.ClientKey)
	if err != nil {
		return err
	}
	g, err := c.conclude(tx, asked, key, d, used)
	if p := new(api.Problem); errors.As(err, &p) { // the grant to be extended has ended meanwhile
		out.State, out.Reasons = "denied", []ledger.Reason{{Code: p.Code, Detail: p.Detail}}
		return c.end(tx, r, d.Rule, out.Reasons, notThePolicy(used))
	} else if err != nil {
		return err
	}
	out.State, out.Until = "allowed", g.Until
	return nil
}

// end records that a request which waited was denied in the end.
func (c *CA) end(tx *state.Tx, r *state.Request, rule name.Rule, reasons []ledger.Reason, used ledger.Used) error {
	_, _, err := tx.Append(c.entry(ledger.ActorCA, ledger.Subject{Request: r.ID, Person: r.Person, Host: r.Host, Login: r.Login},
		&ledger.RequestDenied{Rule: rule, Reasons: reasons, Used: used}))
	return err
}

// approverOf is what an approver of a request last said, as far as it counts now.
type approverOf struct {
	person  name.Person
	verdict string
}

func verdicts(list []approverOf) (approved, refused []name.Person) {
	for _, a := range list {
		if a.verdict == statement.Approve {
			approved = append(approved, a.person)
		} else {
			refused = append(refused, a.person)
		}
	}
	return approved, refused
}

// approvers are those whose word on the request counts now: an approval for some minutes, and only while its key does; a no as long as the request waits.
func (c *CA) approvers(tx *state.Tx, r *state.Request, now time.Time) ([]approverOf, error) {
	said, err := tx.Approvals(statement.AboutRequest, string(r.ID))
	if err != nil {
		return nil, err
	}
	var out []approverOf
	for _, s := range said {
		k, err := tx.Key(s.Key)
		if err != nil {
			return nil, err
		}
		if _, p := c.counts(k); p == nil && (s.Verdict == statement.Deny || now.Before(s.Until)) {
			out = append(out, approverOf{s.Person, s.Verdict})
		}
	}
	return out, nil
}

// weighed gathers the facts of now about a request that waits: places looked up again, the requester's key as it stands, approvals that count.
func (c *CA) weighed(tx *state.Tx, r *state.Request, asked *statement.Request) (*weighing, error) {
	now := c.now()
	w := &weighing{kind: policy.Kind(asked.Request), r: asked, waited: now.Sub(r.Opened), waits: true}
	touch := r.Waits.Used.Touch
	w.touch = sshsig.Touch{Flags: touch.Flags, Counter: touch.Counter}
	var err error
	if w.key, err = tx.Key(touch.Key); err != nil {
		return nil, err
	}
	if w.approved, err = c.approvers(tx, r, now); err != nil {
		return nil, err
	}
	list := asked.Sources
	if of, err := tx.Request(asked.Of); err == nil { // an extension: the certificate stays good from the grant's addresses
		var first statement.Request
		if err := statement.Parse([]byte(of.Statement), &first); err != nil {
			return nil, err
		}
		list = append(slices.Clone(list), first.Sources...)
	} else if asked.Of != "" {
		return nil, err
	}
	w.sources, err = c.lookUp(list)
	return w, err
}
