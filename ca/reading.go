package ca

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
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

// pass makes the statement of a pass.
func (c *CA) pass(ctx context.Context, q *api.PassAsk, from netip.Addr) (*api.Challenge, error) {
	holder, err := parseKey(q.Holder)
	if err != nil || holder.Type() != ssh.KeyAlgoED25519 {
		return nil, badRequest("holder: want an ssh-ed25519 public key")
	}
	st := &statement.Pass{Holder: authorized(holder), Sources: []string{from.String()}}
	return c.begin(ctx, q.Person, from, st, func(h statement.Head) { st.Until = h.Issued.Add(PassLifetime) })
}

func (c *CA) signPass(ctx context.Context, id, armored string, from netip.Addr) (*api.PassState, error) {
	out := &api.PassState{}
	err := c.finish(ctx, id, armored, from, statement.KindPass, func(tx *state.Tx, a *act) (outcome, error) {
		st := a.ch.st.(*statement.Pass)
		if p, err := c.mayPass(tx, a); err != nil || p != nil {
			if p != nil {
				err = p
			}
			return outcome{}, err
		}
		if _, err := tx.PassOf(st.Holder); !errors.Is(err, state.ErrNotFound) {
			return outcome{}, errors.Join(err, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that key holds a pass already"})
		}
		// A grant's client key lies where ssh can use it: it never reads more than its own request.
		holder, err := parseKey(st.Holder)
		if err != nil {
			return outcome{}, err
		}
		if used, err := tx.IsClientKey(ssh.FingerprintSHA256(holder)); err != nil || used {
			return outcome{}, errors.Join(err, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that key is a grant's client key: a pass takes a key of its own"})
		}
		out.Pass, out.Until = st.ID, st.Until
		return outcome{facts: &ledger.PassGranted{Pass: st.ID, Holder: st.Holder, Until: ledger.At(st.Until), Sources: st.Sources, Touch: a.ledgerTouch()}}, nil
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
	return c.begin(ctx, q.Person, from, &statement.Recipient{Age: q.Age, Sealed: q.Sealed}, nil)
}

func (c *CA) signRecipient(ctx context.Context, id, armored string, from netip.Addr) (*api.RecipientState, error) {
	out := &api.RecipientState{}
	err := c.finish(ctx, id, armored, from, statement.KindRecipient, func(tx *state.Tx, a *act) (outcome, error) {
		st := a.ch.st.(*statement.Recipient)
		p := c.policy.Load()
		// All post-quantum or all classical: age refuses a mix, and a refused envelope would be a session that can't open.
		rs, err := c.recipients(tx, p)
		if err != nil {
			return outcome{}, err
		}
		// Nobody proves the secret half: who names a reader's identity as their own would take that reader's recordings away.
		all, err := tx.Recipients()
		if err != nil {
			return outcome{}, err
		}
		for _, r := range all {
			if r.Age == st.Age && r.Person != st.Person {
				return outcome{}, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that recipient is another person's", Next: []string{"breakglass reviewer init makes one of your own"}}
			}
		}
		ages := []string{st.Age}
		for _, r := range rs {
			ages = append(ages, r.Age)
		}
		if parsed, err := transcript.ParseRecipients(ages); err != nil {
			return outcome{}, badRequest("age: %v", err)
		} else if _, err := transcript.Envelope(parsed, transcript.NewKey()); err != nil {
			return outcome{}, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that recipient can't stand beside those that are there: " + err.Error()}
		}
		out.Person, out.Age, out.Reader = st.Person, st.Age, p.IsReader(st.Person)
		return outcome{facts: &ledger.RecipientAdded{Age: st.Age, Sealed: st.Sealed}}, nil
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
