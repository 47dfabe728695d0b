package ca

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file puts the next policy in force: with the signature that makes as many owners of the policy before it as that one wants, in the same
// transaction. The pointer by which everybody decides changes behind the commit and before the writer's next job (state.Tx.Then), so that no decision
// stands in the ledger behind a policy that it was not made by.

// askPolicy makes the statement of an owner's signature, out of what they have read and ask for.
func (c *CA) askPolicy(ctx context.Context, q *api.PolicyAsk, from netip.Addr) (*api.Challenge, error) {
	if none := (statement.Hash{}); q.Policy == none || q.Previous == none || q.Changes == none {
		return nil, badRequest("want policy, previous and changes: breakglass policy shows them")
	}
	return c.begin(ctx, q.Person, from, &statement.Policy{Policy: q.Policy, Previous: q.Previous, Changes: q.Changes, Sources: []string{from.String()}}, nil)
}

func (c *CA) signPolicy(ctx context.Context, id, armored string, from netip.Addr) (*api.PolicyState, error) {
	var out *api.PolicyState
	if q := c.proposal.Load(); q != nil {
		q.changes(c.policy.Load()) // long texts are compared here, and not while everybody waits
	}
	err := c.finish(ctx, id, armored, from, statement.KindPolicy, func(tx *state.Tx, a *act) (outcome, error) {
		st := a.ch.st.(*statement.Policy)
		p, q := c.policy.Load(), c.proposal.Load()
		if pr, err := c.maySignPolicy(tx, a, st, p, q); err != nil || pr != nil {
			if pr != nil {
				err = pr
			}
			return outcome{}, err
		}
		facts := &ledger.PolicySigned{SHA256: st.Policy, Previous: st.Previous, Changes: st.Changes, Touch: a.ledgerTouch()}
		return outcome{facts: facts, then: func(tx *state.Tx) error { // with this one
			var err error
			if out, err = c.policyState(tx, p, q, false); err != nil {
				return err
			}
			if out.Adopted = len(out.Proposal.Signed) >= p.Site.Signers; !out.Adopted {
				return nil
			}
			return c.adopt(tx, p, q)
		}}, nil
	})
	if errors.Is(err, state.ErrUnknown) { // what stands is in force with the writer's next job: this one
		err = errors.Join(err, c.state.Do(context.WithoutCancel(ctx), func(*state.Tx) error { return nil }))
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// maySignPolicy says who signs, and what: an owner of the policy in force, with a key that counts, the proposal as it is now.
func (c *CA) maySignPolicy(tx *state.Tx, a *act, st *statement.Policy, p *policy.Policy, q *proposal) (*api.Problem, error) {
	if !p.IsOwner(st.Person) {
		return notOwner(p, st.Person), nil
	}
	if s := c.keyState(a.key, c.now()); s != policy.KeyLive { // it may widen: no grace
		return &api.Problem{Status: 403, Code: api.CodeKeyState, Detail: fmt.Sprintf("key %s of %s does not count for this: %s", a.key.Name, st.Person, s),
			Next: []string{"breakglass renew", "use another key of yours"}}, nil
	}
	if q == nil {
		return noProposal(), nil
	}
	if _, changes := q.changes(p); st.Policy != q.sum || st.Previous != policySum(p) || st.Changes != changes {
		return &api.Problem{Status: 409, Code: api.CodeOtherPolicy, Detail: "another policy is proposed now, or another is in force: what you signed counts for nothing", Next: []string{"breakglass policy", "breakglass policy sign"}}, nil
	}
	signed, _, err := c.policySigners(tx, p, q)
	if err != nil {
		return nil, err
	}
	if slices.Contains(signed, st.Person) {
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "you have signed exactly this already", Next: []string{fmt.Sprintf("it takes %d of: %s", p.Site.Signers, people(p.Site.Owners))}}, nil
	}
	able, err := c.ableOwners(tx, q.policy)
	if err != nil {
		return nil, err
	}
	if len(able) < q.policy.Site.Signers {
		return &api.Problem{Status: 409, Code: api.CodePolicyRefused, Detail: fmt.Sprintf("it wants %d owners to sign the next policy, and of its owners only %s have a key that counts: nobody could ever change it again", q.policy.Site.Signers, orNobody(able)),
			Next: []string{"first adopt a policy that names them as people, and have them enrol; then make them owners"}}, nil
	}
	return nil, nil
}

func orNobody(list []name.Person) string {
	if len(list) == 0 {
		return "nobody"
	}
	return people(list)
}

// ableOwners are the policy's owners who have a key that counts now.
func (c *CA) ableOwners(tx *state.Tx, p *policy.Policy) (out []name.Person, err error) {
	for _, o := range p.Site.Owners {
		keys, err := tx.Enrolled(o)
		if err != nil {
			return nil, err
		}
		if c.counting(keys, c.now()) > 0 {
			out = append(out, o)
		}
	}
	return out, nil
}

// adopt appends what puts the proposal in force.
func (c *CA) adopt(tx *state.Tx, p *policy.Policy, q *proposal) error {
	diff, _ := q.changes(p)
	f := &ledger.PolicyAdopted{SHA256: q.sum, Previous: policySum(p), How: ledger.AdoptedByOwners, Diff: policytext.Shorten(diff)}
	if err := c.appendPolicy(tx, ledger.ActorCA, f, string(q.policy.Source)); err != nil {
		return err
	}
	c.putInForce(tx, q.policy)
	return nil
}

// wholeText is how long a text may be, in bytes, to stand in the adopting entry itself, beside a diff.
const wholeText = 16 << 10

// appendPolicy appends a policy's entry, and before it the pieces of its text that the ledger lacks.
func (c *CA) appendPolicy(tx *state.Tx, actor ledger.Actor, f *ledger.PolicyAdopted, text string) error {
	pieces := policytext.Cut(text)
	if len(pieces) <= 1 && len(text) <= wholeText {
		f.Text, pieces = text, nil
	}
	for _, piece := range pieces {
		sum := statement.Hash(sha256.Sum256([]byte(piece)))
		f.Pieces = append(f.Pieces, sum)
		if _, err := tx.PolicyPiece(sum); err == nil {
			continue
		} else if !errors.Is(err, state.ErrNotFound) {
			return err
		}
		if _, _, err := tx.Append(c.entry(actor, ledger.Subject{}, &ledger.PolicyText{SHA256: sum, Text: piece})); err != nil {
			return err
		}
	}
	_, _, err := tx.Append(c.entry(actor, ledger.Subject{}, f))
	return err
}

// putInForce has everybody decide by p once the transaction, in which an entry puts it in force, stands.
func (c *CA) putInForce(tx *state.Tx, p *policy.Policy) {
	tx.Then(func(settled *state.Tx) error {
		site, err := settled.Site()
		if err != nil || site.Policy != p.SHA256 { // it was lost: nothing of it happened
			return err
		}
		c.policy.Store(p)
		c.rosters.Store(nil)
		c.log.Info("a policy came into force", "sha256", p.SHA256)
		if err := c.dropProposal(policySum(p)); err != nil { // it would be dropped at the next start too
			c.log.Warn("the proposal's file stays", "error", err)
		}
		return nil
	})
}
