package ca

import (
	"context"
	"errors"
	"net/netip"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// This file is the one gate of what people sign but requests (request.go, which goes by the same order): begin hands out the statement,
// finish judges what comes back, appends the entry and, in the same transaction, what follows from it. If any of it can't be recorded, nothing
// of it happens.

// begin makes the statement of an act and the challenge to sign it. st has the fields of its kind; its head is filled in here, and fill, if
// not nil, adds what follows from the head.
//
// Whoever asks has proved nothing yet: st holds only what the ask itself says and what is public. Whether there is such a request, key or
// person is for finish to judge, after the signature; else an unsigned ask would be a way to find out.
func (c *CA) begin(ctx context.Context, who string, from netip.Addr, st statement.Statement, fill func(statement.Head)) (*api.Challenge, error) {
	if p := c.place(from); p != nil {
		return nil, p
	}
	person, err := name.ParsePerson(who)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	out := &api.Challenge{Namespace: st.Kind().Namespace()}
	h := statement.Head{ID: newID(), Person: person}
	r, err := c.roster(ctx)
	if err != nil {
		return nil, err
	}
	// Before the owners have founded the site nobody's key counts: then there are the founding, and a pass to read what it adopts.
	if k := st.Kind(); !r.Site.Founded && k != statement.KindFounding && k != statement.KindPass {
		return nil, notFounded()
	}
	h.Origin, h.Epoch = r.Site.Site.Origin, r.Site.Site.Epoch
	var known bool
	if out.Keys, known, err = c.handles(r, person); err != nil {
		return nil, err
	}
	if !known {
		c.strangers.add("unknown_person", from)
	}
	h.Checkpoint, h.Nonce, h.Issued, h.Expires = c.moment()
	statement.SetHead(st, h)
	if fill != nil {
		fill(h)
	}
	ch, err := c.hand(st, h.ID, person, known)
	if err != nil {
		return nil, err
	}
	out.ID, out.Statement = ch.id, string(ch.text)
	return out, c.keep(ch)
}

// outcome is what an act does, once nothing speaks against it.
type outcome struct {
	facts   ledger.Facts
	subject ledger.Subject        // beside Person and Key, which are the signer's unless set
	then    func(*state.Tx) error // appends what follows from it; nil is nothing
}

// finish judges a signature and appends the entry that it stands for. do says what the act asks for beyond a good signature; it runs in the
// writer, after touch and PIN and before the counter. A refusal of a valid signature is an *api.Problem, and an act.denied entry about
// the subject that do gave with it.
func (c *CA) finish(ctx context.Context, id, armored string, from netip.Addr, kind statement.Kind, do func(*state.Tx, *act) (outcome, error)) error {
	return c.finishPrepared(ctx, id, armored, from, kind, func(*act) {}, do)
}

// finishPrepared is finish for an act that takes longer than others may be kept waiting for the writer: prepare runs before, for a signature that
// verified. What it finds may be old by then, and do asks whether it is.
func (c *CA) finishPrepared(ctx context.Context, id, armored string, from netip.Addr, kind statement.Kind, prepare func(*act), do func(*state.Tx, *act) (outcome, error)) error {
	ch := c.challenges.take(id)
	if ch == nil || ch.st == nil || ch.st.Kind() != kind {
		c.strangers.add("unknown_statement", from)
		return expired()
	}
	a, err := c.proven(ctx, ch, armored, from)
	if err != nil {
		return err
	}
	prepare(a)
	var refusal *api.Problem
	err = c.state.Do(ctx, func(tx *state.Tx) error {
		refusal = nil
		var err error
		if a.key, err = tx.Key(a.key.Fingerprint); err != nil { // as of now, not as of the proof
			return err
		}
		o, clone, err := c.judge(tx, a, from, do)
		if o.subject.Person == "" {
			o.subject.Person = a.key.Person
		}
		if o.subject.Key == "" {
			o.subject.Key = a.key.Fingerprint
		}
		if errors.As(err, &refusal) { // validly signed: that it was refused is an entry
			o.facts, o.then = &ledger.ActDenied{Touch: a.ledgerTouch(), Reasons: refusal.Reasons}, nil
		} else if err != nil {
			return err
		}
		if _, _, err := tx.Append(a.signed(c.entry(ledger.PersonActor(a.key.Person), o.subject, o.facts))); err != nil {
			return err
		}
		if refusal != nil {
			if err := c.refusedAct(tx, a.key.Person); err != nil {
				return err
			}
		}
		if clone {
			return c.suspend(tx, a, a.key.Counter)
		}
		if o.then != nil {
			if err := o.then(tx); err != nil {
				return err
			}
		}
		if changesSet(o.facts) {
			return c.thenRecordSet(tx)
		}
		return nil
	})
	if err == nil && refusal != nil {
		return refusal
	}
	return err
}

// judge looks at place, key, where its enrolment stands, what the act itself asks, and the counter, last. A refusal is a *api.Problem with at least one reason.
func (c *CA) judge(tx *state.Tx, a *act, from netip.Addr, do func(*state.Tx, *act) (outcome, error)) (o outcome, clone bool, err error) {
	defer func() {
		if p := new(api.Problem); errors.As(err, &p) && len(p.Reasons) == 0 {
			q := *p
			q.Reasons = []ledger.Reason{{Code: p.Code, Detail: p.Detail}}
			err = &q
		}
	}()
	if p := c.place(from); p != nil { // signed from elsewhere than asked: both must be allowed
		return o, false, p
	}
	if r := judgeTouch(a.key, a.touch, c.policy.Load().Always.UV); r != nil {
		return o, false, keyProblem(*r)
	}
	if p, err := c.standing(tx, a, c.now()); err != nil {
		return o, false, err
	} else if p != nil {
		return o, false, p
	}
	if o, err = do(tx, a); err != nil {
		return o, false, err
	}
	if r, clone := judgeCounter(a.key, a.touch, a.ch.issued); r != nil {
		return o, clone, keyProblem(*r)
	}
	return o, false, nil
}
