package ca

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
	"breakglass/transcript"
)

// PassLifetime is how long a pass reads.
const PassLifetime = 15 * time.Minute

func passNeeded() *api.Problem {
	return &api.Problem{Status: 401, Code: api.CodePass, Detail: "reading takes a pass", Next: []string{"breakglass sessions (asks your key for one)"}}
}

// begin fills what pass and recipient have in common: place, person, keys. set gets the site, once it is known.
func (c *CA) begin(ctx context.Context, who string, from netip.Addr, set func(name.Person, ledger.Site) (statement.Statement, string)) (*api.Challenge, error) {
	if p := c.place(from); p != nil {
		return nil, p
	}
	person, err := name.ParsePerson(who)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	out := &api.Challenge{}
	var known bool
	var site state.Site
	if err := c.state.View(ctx, func(tx *state.Tx) error {
		var err error
		if site, err = tx.Site(); err != nil {
			return err
		}
		out.Keys, known, err = c.handles(tx, person, c.policy.Load().Always.UV)
		return err
	}); err != nil {
		return nil, err
	}
	if !known {
		c.strangers.add("unknown_person", from)
	}
	st, id := set(person, site.Site)
	ch, err := c.hand(st, id, person, known)
	if err != nil {
		return nil, err
	}
	out.ID, out.Statement, out.Namespace = ch.id, string(ch.text), st.Kind().Namespace()
	return out, c.keep(ch)
}

// finish judges a signature for a pass or a recipient and appends the entry that it stands for.
func (c *CA) finish(ctx context.Context, id, armored string, from netip.Addr, kind statement.Kind, entry func(*state.Tx, *act) (ledger.Facts, error)) error {
	ch := c.challenges.take(id)
	if ch == nil || ch.st == nil || ch.st.Kind() != kind {
		c.strangers.add("unknown_statement", from)
		return expired()
	}
	a, err := c.proven(ctx, ch, armored, from)
	if err != nil {
		return err
	}
	var refusal *api.Problem
	err = c.state.Do(ctx, func(tx *state.Tx) error {
		refusal = nil
		var err error
		if a.key, err = tx.Key(a.key.Fingerprint); err != nil {
			return err
		}
		f, clone, err := c.judge(tx, a, from, entry)
		if errors.As(err, &refusal) { // validly signed: that it was refused is an entry
			f = &ledger.ActDenied{Touch: a.ledgerTouch(), Reasons: refusal.Reasons}
		} else if err != nil {
			return err
		}
		if _, _, err := tx.Append(a.signed(c.entry(ledger.PersonActor(a.key.Person), ledger.Subject{Person: a.key.Person, Key: a.key.Fingerprint}, f))); err != nil {
			return err
		}
		if clone {
			return c.suspend(tx, a, a.key.Counter)
		}
		return nil
	})
	if err == nil && refusal != nil {
		return refusal
	}
	return err
}

// judge looks at place, key, what the act itself asks, and the counter, last. A refusal is a *api.Problem with at least one reason.
func (c *CA) judge(tx *state.Tx, a *act, from netip.Addr, entry func(*state.Tx, *act) (ledger.Facts, error)) (f ledger.Facts, clone bool, err error) {
	defer func() {
		if p := new(api.Problem); errors.As(err, &p) && len(p.Reasons) == 0 {
			q := *p
			q.Reasons = []ledger.Reason{{Code: p.Code, Detail: p.Detail}}
			err = &q
		}
	}()
	if p := c.place(from); p != nil { // signed from elsewhere than asked: both must be allowed
		return nil, false, p
	}
	if r := judgeTouch(a.key, a.touch, c.policy.Load().Always.UV); r != nil {
		return nil, false, keyProblem(*r)
	}
	if f, err = entry(tx, a); err != nil {
		return nil, false, err
	}
	if r, clone := judgeCounter(a.key, a.touch, a.ch.issued); r != nil {
		return nil, clone, keyProblem(*r)
	}
	return f, false, nil
}

// pass makes the statement of a pass.
func (c *CA) pass(ctx context.Context, q *api.PassAsk, from netip.Addr) (*api.Challenge, error) {
	holder, err := parseKey(q.Holder)
	if err != nil || holder.Type() != ssh.KeyAlgoED25519 {
		return nil, badRequest("holder: want an ssh-ed25519 public key")
	}
	return c.begin(ctx, q.Person, from, func(p name.Person, s ledger.Site) (statement.Statement, string) {
		st := &statement.Pass{Origin: s.Origin, Epoch: s.Epoch, ID: newID(), Person: p, Holder: authorized(holder), Sources: []string{from.String()}}
		st.Checkpoint, st.Nonce, st.Issued, st.Expires = c.moment()
		st.Until = st.Issued.Add(PassLifetime)
		return st, st.ID
	})
}

func (c *CA) signPass(ctx context.Context, id, armored string, from netip.Addr) (*api.PassState, error) {
	out := &api.PassState{}
	err := c.finish(ctx, id, armored, from, statement.KindPass, func(tx *state.Tx, a *act) (ledger.Facts, error) {
		st := a.ch.st.(*statement.Pass)
		if _, err := tx.PassOf(st.Holder); !errors.Is(err, state.ErrNotFound) {
			return nil, errors.Join(err, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that key holds a pass already"})
		}
		// A grant's client key lies where ssh can use it: it never reads more than its own request.
		holder, err := parseKey(st.Holder)
		if err != nil {
			return nil, err
		}
		if used, err := tx.IsClientKey(ssh.FingerprintSHA256(holder)); err != nil || used {
			return nil, errors.Join(err, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that key is a grant's client key: a pass takes a key of its own"})
		}
		out.Pass, out.Until = st.ID, st.Until
		return &ledger.PassGranted{Pass: st.ID, Holder: st.Holder, Until: ledger.At(st.Until), Sources: st.Sources, Touch: a.ledgerTouch()}, nil
	})
	return out, err
}

// recipient makes the statement of an age public key.
func (c *CA) recipient(ctx context.Context, q *api.RecipientAsk, from netip.Addr) (*api.Challenge, error) {
	if _, err := transcript.ParseRecipients([]string{q.Age}); err != nil {
		return nil, badRequest("age: %v", err)
	}
	if q.Sealed != "passphrase" && q.Sealed != "hardware" {
		return nil, badRequest("sealed: %q", q.Sealed)
	}
	return c.begin(ctx, q.Person, from, func(p name.Person, s ledger.Site) (statement.Statement, string) {
		st := &statement.Recipient{Origin: s.Origin, Epoch: s.Epoch, ID: newID(), Person: p, Age: q.Age, Sealed: q.Sealed}
		st.Checkpoint, st.Nonce, st.Issued, st.Expires = c.moment()
		return st, st.ID
	})
}

func (c *CA) signRecipient(ctx context.Context, id, armored string, from netip.Addr) (*api.RecipientState, error) {
	out := &api.RecipientState{}
	err := c.finish(ctx, id, armored, from, statement.KindRecipient, func(tx *state.Tx, a *act) (ledger.Facts, error) {
		st := a.ch.st.(*statement.Recipient)
		p := c.policy.Load()
		// All post-quantum or all classical: age refuses a mix, and a refused envelope would be a session that can't open.
		rs, err := c.recipients(tx, p)
		if err != nil {
			return nil, err
		}
		// Nobody proves the secret half: who names a reader's identity as their own would take that reader's recordings away.
		all, err := tx.Recipients()
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			if r.Age == st.Age && r.Person != st.Person {
				return nil, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that recipient is another person's", Next: []string{"breakglass reviewer init makes one of your own"}}
			}
		}
		ages := []string{st.Age}
		for _, r := range rs {
			ages = append(ages, r.Age)
		}
		if parsed, err := transcript.ParseRecipients(ages); err != nil {
			return nil, badRequest("age: %v", err)
		} else if _, err := transcript.Envelope(parsed, transcript.NewKey()); err != nil {
			return nil, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that recipient can't stand beside those that are there: " + err.Error()}
		}
		out.Person, out.Age, out.Reader = st.Person, st.Age, p.IsReader(st.Person)
		return &ledger.RecipientAdded{Age: st.Age, Sealed: st.Sealed}, nil
	})
	return out, err
}

// recipients are those that count: of people whom the policy names as readers.
func (c *CA) recipients(tx *state.Tx, p *policy.Policy) ([]state.Recipient, error) {
	all, err := tx.Recipients()
	if err != nil {
		return nil, err
	}
	var out []state.Recipient
	for _, r := range all {
		if p.IsReader(r.Person) {
			out = append(out, r)
		}
	}
	return out, nil
}
